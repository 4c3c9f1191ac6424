//! Why a command failed, in words that say what to do next, and the exit code that tells a script.
#![forbid(unsafe_code)]

use std::fmt;
use std::io;
use std::process::ExitCode;

use zerio::{Error, RefusalCode, SendError};

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
            _ => Failure::new(format!("can't write to standard output: {error}; is the disk full?")),
        }
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
            Error::Config(_) | Error::BadPeerId { .. } => Failure::Usage(text),
            _ => Failure::Failed(text),
        }
    }
}

impl From<zerio::ConfigError> for Failure {
    fn from(error: zerio::ConfigError) -> Failure {
        Error::from(error).into()
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

/// What to do next, where the error itself does not say it: it knows the library and not the flags.
fn next_step(error: &Error) -> &'static str {
    match error {
        Error::Refused { code, .. } => match code {
            RefusalCode::AlreadyConnected => "; choose another --id",
            RefusalCode::ServerFull => "; try again later, or start the server with a higher --sessions-max",
            RefusalCode::NotAllowed => "; ask the server's owner which ids it lets in",
            RefusalCode::Stopping => "; try again when it is back",
            RefusalCode::TooManyFromAddress => {
                "; end others first, or start the server with a higher --connections-per-address"
            }
            RefusalCode::TooManyPerSecond => {
                "; wait a moment, or start the server with a higher --connections-per-second"
            }
            _ => "; is the server of this version?",
        },
        Error::System { .. } if cfg!(windows) => "; ask for less (`zerio serve --explain` has the bill)",
        Error::System { .. } => "; see `ulimit -a`, or ask for less (`zerio serve --explain` has the bill)",
        Error::Driver { .. } => " (--driver auto)",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_setting_is_wrong_usage_and_a_refusal_a_failure() {
        let mut config = zerio::Config::default();
        config.engines = 0;
        let error = config.memory().unwrap_err();
        assert!(matches!(Failure::from(error), Failure::Usage(_)));
        let address = ([127, 0, 0, 1], 1).into();
        let (code, text) = (RefusalCode::AlreadyConnected, "taken".to_owned());
        match Failure::from(Error::Refused { address, code, text }) {
            Failure::Failed(text) => assert!(text.contains("--id"), "{text}"),
            other => panic!("{other:?}"),
        }
    }
}
