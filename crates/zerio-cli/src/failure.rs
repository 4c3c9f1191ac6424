//! Why a command failed, in words that say what to do next, and the exit code that tells a script.
#![forbid(unsafe_code)]

use std::fmt;
use std::io;
use std::process::ExitCode;

use zerio::{Alert, CertificateFault, ConfigError, Error, Reason, RefusalCode, SendError, TlsFault};

use crate::terminal;

/// Why a command did not do what it was asked for.
#[derive(Debug)]
pub(crate) enum Failure {
    /// What was asked for can't be: exit code 2.
    Usage(String),
    /// It could have been, and was not: exit code 1.
    Failed(String),
    /// Whoever reads standard output has gone, as `head` does: a quiet end.
    NobodyReads,
}

impl Failure {
    /// A failure in words.
    pub(crate) fn new(what: impl fmt::Display) -> Failure {
        Failure::Failed(what.to_string())
    }

    /// A failure to write to standard output.
    pub(crate) fn output(error: io::Error) -> Failure {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::NobodyReads,
            io::ErrorKind::StorageFull => Failure::new(format!(
                "can't write to standard output: {error}; make room, or write elsewhere"
            )),
            _ => Failure::new(format!("can't write to standard output: {error}")),
        }
    }

    /// A failure to write a file or folder, whose path is in the words.
    pub(crate) fn writing(what: impl fmt::Display, error: &io::Error) -> Failure {
        Failure::new(format!("can't {what}: {error}{}", elsewhere(error)))
    }

    /// What the user is told.
    pub(crate) fn text(&self) -> &str {
        match self {
            Failure::Usage(text) | Failure::Failed(text) => text,
            Failure::NobodyReads => "",
        }
    }

    /// Tells the user, and gives the exit code.
    pub(crate) fn report(self) -> ExitCode {
        match self {
            Failure::NobodyReads => ExitCode::SUCCESS,
            Failure::Failed(what) => {
                terminal::note(format_args!("zerio: {what}"));
                ExitCode::from(1)
            }
            Failure::Usage(what) => {
                terminal::note(format_args!("zerio: {what}\n\nFor more information, try '--help'."));
                ExitCode::from(2)
            }
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        let text = format!("{error}{}", next_step(&error));
        match error {
            Error::Config(error) => error.into(),
            Error::BadPeerId { .. } => Failure::Usage(text),
            _ => Failure::Failed(text),
        }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Failure {
        let text = format!("{}: {}; {}", given(&error), in_flags(&error.why), instead(&error));
        if is_the_machines(&error) { Failure::Failed(text) } else { Failure::Usage(text) }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::new(format!("the system refused a socket or a thread: {error}"))
    }
}

impl From<SendError> for Failure {
    fn from(error: SendError) -> Failure {
        Failure::new(format!("a message was not accepted: {error}"))
    }
}

/// What to do where the system does not let a file or folder be written.
fn elsewhere(error: &io::Error) -> &'static str {
    // What is no error of the system's says so itself.
    if error.raw_os_error().is_none() {
        return "";
    }
    match error.kind() {
        io::ErrorKind::NotFound => "; its folder is not there: make it first, or name another place",
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "; name a place that you may write to"
        }
        io::ErrorKind::IsADirectory => "; a folder has that name: name a file in it",
        io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => {
            "; a file has the name of a folder that is to be there: name another place"
        }
        io::ErrorKind::StorageFull => "; make room, or name another place",
        _ => "",
    }
}

/// What to do next, where the error itself does not say it: it knows the library and not the flags.
fn next_step(error: &Error) -> &'static str {
    match error {
        Error::Refused { code, .. } => match code {
            RefusalCode::AlreadyConnected => "; choose another --id",
            RefusalCode::ServerFull => "; try again later, or start the server with a higher --sessions-max",
            RefusalCode::NotAllowed => "; ask the server's owner which ids it lets in",
            RefusalCode::BadPeerId => "; choose another --id",
            RefusalCode::TooLate => "; give more --handshake-timeout at the server",
            RefusalCode::BadFrame => "",
            RefusalCode::Stopping => "; try again when it is back",
            RefusalCode::TooManyFromAddress => {
                "; end others first, or start the server with a higher --connections-per-address"
            }
            RefusalCode::TooManyPerSecond => {
                "; wait a moment, or start the server with a higher --connections-per-second"
            }
            RefusalCode::TlsRequired => {
                "; give --tls-ca, and --tls-cert and --tls-key where it asks for a certificate"
            }
            RefusalCode::NoTls => "; leave --tls-ca out, or start the server with --tls-cert",
            RefusalCode::NotInCertificate => "; give the --id that --tls-cert names",
            _ => "; is the server of this version?",
        },
        Error::System { .. } if cfg!(windows) => "; ask for less (`zerio serve --explain` has the bill)",
        Error::System { .. } => "; see `ulimit -a`, or ask for less (`zerio serve --explain` has the bill)",
        Error::Driver { .. } => " (--driver auto)",
        Error::CountersFile { why, .. } => elsewhere(why),
        Error::Credentials { .. } => "; `zerio certs` makes such files, for development",
        Error::Tls { what, .. } => after_tls(*what),
        _ => "",
    }
}

/// What a client can do about what TLS found.
fn after_tls(fault: TlsFault) -> &'static str {
    const REQUIRED: Alert = Alert(116);
    const UNKNOWN: Alert = Alert(48);
    const DENIED: Alert = Alert(49);
    const EXPIRED: Alert = Alert(45);
    const REVOKED: Alert = Alert(44);
    /// bad_certificate, unsupported_certificate, certificate_unknown.
    const UNFIT: [Alert; 3] = [Alert(42), Alert(43), Alert(46)];
    match fault {
        TlsFault::Alert(DENIED) => ": it is full, or over a limit, as its own log says; try again later",
        TlsFault::Alert(EXPIRED) => {
            ": the time of --tls-cert is over or has not come, or one of the two clocks is wrong"
        }
        TlsFault::Alert(REVOKED) => ": --tls-cert was revoked; get another",
        TlsFault::Alert(alert) if UNFIT.contains(&alert) => {
            ": it does not accept --tls-cert, as its own log says: it may be a server's, or not in order"
        }
        TlsFault::HandshakeTooLong => "; give more --receive-buffer",
        TlsFault::Alert(REQUIRED) => {
            ": it asks for a certificate; give --tls-cert and --tls-key, of an authority that it trusts"
        }
        TlsFault::Alert(UNKNOWN) => {
            ": it does not trust the authority of --tls-cert; give one of the authority in the server's --tls-ca"
        }
        TlsFault::Certificate(CertificateFault::UnknownAuthority | CertificateFault::SelfSigned) => {
            "; give --tls-ca the authority that it comes from"
        }
        TlsFault::Certificate(CertificateFault::WrongName) => {
            "; connect to a name that it has, or give that as --server-name"
        }
        TlsFault::NotTls => "; leave --tls-ca out, or start the server with --tls-cert",
        _ => "",
    }
}

/// What to look at where a session has ended that was to go on.
pub(crate) fn after_the_end(reason: Reason) -> &'static str {
    match reason {
        // A server that is sent a longer message than it takes closes the connection, and can't say why.
        Reason::PeerClosed
        | Reason::Truncated { .. }
        | Reason::Connection(io::ErrorKind::ConnectionReset) => {
            "; does the server still run, and is its --message-max as large as here?"
        }
        Reason::Tls(fault) => after_tls(fault),
        Reason::BadFrame(_) => "",
        _ => "; does the server still run?",
    }
}

/// The flags by which users give what the library calls so.
const FLAGS: [(&str, &str); 22] = [
    ("message_max", "--message-max"),
    ("send_ring", "--send-ring"),
    ("receive_buffer", "--receive-buffer"),
    ("sessions_max", "--sessions-max"),
    ("connections_per_address", "--connections-per-address"),
    ("connections_per_second", "--connections-per-second"),
    ("connection_burst", "--connection-burst"),
    ("handshakes_max", "--handshakes-max"),
    ("handshake_timeout", "--handshake-timeout"),
    ("peer_timeout", "--peer-timeout"),
    ("drain_timeout", "--drain-timeout"),
    ("send_timeout", "--send-timeout"),
    ("slow_peer_timeout", "--slow-peer-timeout"),
    ("engines", "--engines"),
    ("wait", "--wait"),
    ("cores", "--core"),
    ("socket_send_buffer", "--socket-send-buffer"),
    ("socket_receive_buffer", "--socket-receive-buffer"),
    ("congestion", "--congestion"),
    ("busy_poll", "--busy-poll"),
    ("priority", "--priority"),
    ("huge_pages", "--huge-pages"),
];

/// A setting and its value, as they are typed; where there is no flag for it, as the library has them.
fn given(error: &ConfigError) -> String {
    let (setting, value) = (error.setting, error.value.as_str());
    let Some((_, flag)) = FLAGS.iter().find(|(name, _)| *name == setting) else {
        return format!("{setting} = {value}");
    };
    match setting {
        "cores" => format!("{flag} {}", value.trim_matches(['[', ']']).replace(' ', "")),
        // The only one of its strategies that can be wrong.
        "wait" => format!("{flag} {}", value.replace("Sleep(", "sleep:").trim_end_matches(')')),
        "congestion" => format!("{flag} {}", value.trim_matches('"')),
        "huge_pages" => (*flag).to_owned(),
        _ => format!("{flag} {value}"),
    }
}

/// The one setting that others speak of, by its flag.
fn in_flags(text: &str) -> String {
    text.replace("message_max = ", "--message-max ").replace("message_max", "--message-max")
}

/// What would do, where the library's own words are those of its types.
fn instead(error: &ConfigError) -> String {
    let refused = is_the_machines(error);
    match error.setting {
        "wait" => "sleep:1us to sleep:1s would do, or park".to_owned(),
        "priority" if refused && cfg!(target_os = "linux") => {
            "it takes CAP_SYS_NICE, or an RLIMIT_RTPRIO (`ulimit -r`) as high; or leave it out".to_owned()
        }
        "busy_poll" if refused && cfg!(target_os = "linux") => {
            "no more than net.core.busy_read would do, or CAP_NET_ADMIN; or leave it out".to_owned()
        }
        "priority" | "busy_poll" | "huge_pages" if refused => "leave it out".to_owned(),
        _ => in_flags(&error.instead),
    }
}

/// Whether it is this machine that does not have it: on another the same flags might do.
fn is_the_machines(error: &ConfigError) -> bool {
    let starts = ["the system refused it", "this process may not", "this system has no"];
    starts.iter().any(|start| error.why.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::time::Duration;

    use zerio::{Config, WaitStrategy};

    #[test]
    fn a_refusal_is_a_failure_that_says_what_to_do() {
        let of = |code: RefusalCode| {
            let address = ([127, 0, 0, 1], 1).into();
            match Failure::from(Error::Refused { address, code, text: code.to_string() }) {
                Failure::Failed(text) => text,
                other => panic!("{other:?}"),
            }
        };
        for (code, next) in [
            (RefusalCode::AlreadyConnected, "another --id"),
            (RefusalCode::BadPeerId, "another --id"),
            (RefusalCode::TooLate, "--handshake-timeout at the server"),
            (RefusalCode::TlsRequired, "give --tls-ca"),
            (RefusalCode::NoTls, "leave --tls-ca out"),
            (RefusalCode::NotInCertificate, "the --id that --tls-cert names"),
        ] {
            assert!(of(code).contains(next), "{}", of(code));
            assert!(!of(code).contains("of this version"), "{}", of(code));
        }
        assert!(of(RefusalCode::Other(99)).contains("of this version"));
    }

    #[test]
    fn what_tls_found_says_what_to_do() {
        for (fault, next) in [
            (TlsFault::Alert(Alert(49)), "access_denied: it is full, or over a limit"),
            (TlsFault::Alert(Alert(45)), "the time of --tls-cert"),
            (TlsFault::Alert(Alert(116)), "give --tls-cert and --tls-key"),
            (TlsFault::Alert(Alert(42)), "does not accept --tls-cert"),
            (TlsFault::HandshakeTooLong, "receive_buffer; give more --receive-buffer"),
            (TlsFault::NotTls, "leave --tls-ca out"),
        ] {
            let address = ([127, 0, 0, 1], 1).into();
            match Failure::from(Error::Tls { address, what: fault }) {
                Failure::Failed(text) => assert!(text.contains(next), "{text}"),
                other => panic!("{other:?}"),
            }
        }
    }

    /// A configuration that is wrong in this way, as its user is told.
    fn wrong(change: impl FnOnce(&mut Config)) -> String {
        let mut config = Config::default();
        change(&mut config);
        match Failure::from(config.memory().expect_err("it can't be")) {
            Failure::Usage(text) => text,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_wrong_setting_is_wrong_usage_and_told_by_its_flag() {
        let zero = Duration::ZERO;
        let told = [
            wrong(|c| c.message_max = 0),
            wrong(|c| c.send_ring = 200_000),
            wrong(|c| c.receive_buffer = 5000),
            wrong(|c| c.sessions_max = 0),
            wrong(|c| c.connections_per_address = Some(0)),
            wrong(|c| c.connections_per_second = Some(0)),
            wrong(|c| c.connection_burst = 0),
            wrong(|c| c.handshakes_max = Some(0)),
            wrong(|c| c.handshake_timeout = zero),
            wrong(|c| c.peer_timeout = zero),
            wrong(|c| c.drain_timeout = zero),
            wrong(|c| c.send_timeout = zero),
            wrong(|c| c.slow_peer_timeout = Some(zero)),
            wrong(|c| c.engines = 0),
            wrong(|c| c.wait = WaitStrategy::Sleep(Duration::from_secs(2))),
            wrong(|c| c.cores = vec![0, 1]),
            wrong(|c| c.socket_send_buffer = Some(0)),
            wrong(|c| c.socket_receive_buffer = Some(0)),
            wrong(|c| c.busy_poll = Some(zero)),
            wrong(|c| c.priority = Some(100)),
        ];
        let mut flags: BTreeSet<&str> = FLAGS.iter().map(|(_, flag)| *flag).collect();
        for text in &told {
            assert!(!text.contains(['_', '[', '"']) && !text.contains(" = "), "{text}");
            let flag = text.split([' ', ':']).next().unwrap();
            assert!(flags.remove(flag), "{text}");
        }
        // These are found out by the system alone.
        assert_eq!(flags.into_iter().collect::<Vec<_>>(), ["--congestion", "--huge-pages"]);
        for (text, start) in [
            (&told[1], "--send-ring 200000: "),
            (&told[14], "--wait sleep:2s: "),
            (&told[15], "--core 0,1: "),
        ] {
            assert!(text.starts_with(start), "{text}");
        }
        assert!(told[2].contains("--message-max 65536 bytes"), "{}", told[2]);
        assert!(told[14].ends_with("would do, or park"), "{}", told[14]);
    }

    #[test]
    fn what_this_machine_refuses_is_a_failure_and_no_wrong_usage() {
        let start = |change: &dyn Fn(&mut Config)| {
            let mut config = Config::default();
            change(&mut config);
            let server = zerio::Server::bind("127.0.0.1:0").unwrap().config(config);
            server.on_message(|_, _| {}).start().map(drop).map_err(Failure::from)
        };
        match start(&|config| config.cores = vec![100_000]) {
            Err(Failure::Failed(text)) => {
                assert!(text.starts_with("--core 100000: this process may not run on core 100000"), "{text}");
            }
            other => panic!("{other:?}"),
        }
        match start(&|config| config.congestion = Some("none-such".to_owned())) {
            Err(Failure::Failed(text)) => {
                assert!(text.starts_with("--congestion none-such: the system refused it"), "{text}");
            }
            other => panic!("{other:?}"),
        }
        // Whoever may have it gets it.
        match start(&|config| (config.priority, config.wait) = (Some(1), WaitStrategy::Park)) {
            Ok(()) => {}
            Err(Failure::Failed(text)) => {
                assert!(text.starts_with("--priority 1: the system refused it"), "{text}");
                assert!(text.ends_with("leave it out") && !text.contains("None"), "{text}");
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_session_that_ended_asks_for_what_may_have_ended_it() {
        let reset = Reason::Connection(io::ErrorKind::ConnectionReset);
        for reason in [Reason::PeerClosed, reset] {
            assert!(after_the_end(reason).contains("--message-max"), "{reason}");
        }
        let timed_out = Reason::Connection(io::ErrorKind::TimedOut);
        assert_eq!(after_the_end(timed_out), "; does the server still run?");
        let long = zerio::FrameError::TooLong { len: 2, max: 1 };
        assert_eq!(after_the_end(Reason::BadFrame(long)), "");
    }
}
