//! TLS as others wrote it: OpenSSL's `s_client` and `s_server`, and Python's standard `ssl`. Where a machine has none of
//! them, the test says so and shows nothing.
#![forbid(unsafe_code)]

mod common;

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::OnceLock;

use common::certs::{Identity, shared};
use common::raw::frame;
use common::skip::skipped;
use common::{Log, Recorder, eventually, texts};
use zerio::{Builder, Client, Error, Listen, Reason, RefusalCode, Rejection, Server, TlsFault, Undelivered};

/// Whether there is such a program, which can do this.
fn has(program: &str, arguments: &[&str]) -> bool {
    let found = Command::new(program).args(arguments).output().is_ok_and(|output| output.status.success());
    if !found {
        skipped(program, format!("there is no {program} on this machine that knows {arguments:?}"));
    }
    found
}

fn has_openssl() -> bool {
    has("openssl", &["ciphers", "-s", "-tls1_3"])
}

/// The shared authority, its server, and a client that may be called `a`, as files.
struct Files {
    authority: PathBuf,
    server: [PathBuf; 2],
    client: [PathBuf; 2],
}

fn files() -> &'static Files {
    static FILES: OnceLock<Files> = OnceLock::new();
    FILES.get_or_init(|| {
        let folder =
            PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("others-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.join(name);
            fs::write(&path, text).unwrap();
            path
        };
        let pair = |name: &str, identity: &Identity| {
            [
                write(&format!("{name}.pem"), &identity.certificate),
                write(&format!("{name}.key"), &identity.key),
            ]
        };
        let (authority, server) = shared();
        Files {
            authority: write("ca.pem", &authority.certificate),
            server: pair("server", server),
            client: pair("a", &authority.signs(&["zerio:a"])),
        }
    })
}

/// A program that speaks TLS for this test, which says and hears what is inside.
struct Other {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: ChildStdout,
}

impl Other {
    fn start(command: &mut Command) -> Other {
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take().unwrap());
        Other { child, stdin, stdout }
    }

    fn send(&mut self, message: &[u8]) {
        let stdin = self.stdin.as_mut().unwrap();
        stdin.write_all(&frame(message)).and_then(|()| stdin.flush()).unwrap();
    }

    fn receive(&mut self) -> Vec<u8> {
        let mut header = [0; 4];
        self.stdout.read_exact(&mut header).expect("a frame");
        let mut message = vec![0; u32::from_le_bytes(header) as usize];
        self.stdout.read_exact(&mut message).expect("all of it");
        message
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// OpenSSL's client, which trusts the shared authority.
fn s_client(address: SocketAddr, flags: &[&str]) -> Command {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-quiet", "-nocommands", "-verify_return_error", "-CAfile"]);
    command.arg(&files().authority).arg("-connect").arg(address.to_string()).args(flags);
    command
}

/// The arguments by which OpenSSL shows the client's certificate.
fn as_a() -> [&'static str; 4] {
    let [certificate, key] = &files().client;
    ["-cert", certificate.to_str().unwrap(), "-key", key.to_str().unwrap()]
}

/// An echo server, with the shared identity.
fn echo(log: &Log, strict: bool) -> Server {
    let (authority, identity) = shared();
    let mut tls = identity.server();
    if strict {
        tls = tls.require_client_certificates(authority.certificate.as_bytes()).unwrap();
    }
    let echo = Recorder::new(log).on_message(|peer, message| peer.send(message).unwrap());
    Server::bind("127.0.0.1:0").unwrap().tls(tls).handler(echo).start().unwrap()
}

/// Messages of one record, of several, and of none.
fn messages() -> [Vec<u8>; 4] {
    [b"oui".to_vec(), Vec::new(), (0..60_000).map(|n| n as u8).collect(), b"quoi\nQ\nR\n".to_vec()]
}

#[test]
fn openssls_client_exchanges_messages_with_each_cipher_suite() {
    if !has_openssl() {
        return;
    }
    for suite in ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"] {
        let log = Log::new();
        let server = echo(&log, true);
        let flags = ["-tls1_3", "-ciphersuites", suite];
        let mut client = Other::start(s_client(server.local_addr(), &flags).args(as_a()));
        client.send(b"a");
        assert_eq!(client.receive(), b"a", "{suite}");
        for message in messages() {
            client.send(&message);
            assert!(client.receive() == message, "{suite}: {} bytes", message.len());
        }
        assert!(server.stop().undelivered.is_empty());
        assert_eq!(client.stdout.read(&mut [0]).unwrap(), 0, "it hears the end");
    }
}

#[test]
fn openssls_client_is_told_why_it_is_not_let_in() {
    if !has_openssl() {
        return;
    }
    let log = Log::new();
    let server = echo(&log, true);
    let mut other_id = Other::start(s_client(server.local_addr(), &["-tls1_3"]).args(as_a()));
    other_id.send(b"b");
    assert_eq!(other_id.receive(), b"\0\x0cid not what the certificate says");
    assert_eq!(log.wait_rejected(), Rejection::Refused(RefusalCode::NotInCertificate));

    let log = Log::new();
    let server = echo(&log, true);
    let none = s_client(server.local_addr(), &["-tls1_3"]).stdin(Stdio::null()).output().unwrap();
    let why = String::from_utf8_lossy(&none.stderr).into_owned();
    assert!(why.contains("certificate required"), "{why}");
    assert_eq!(log.wait_rejected(), Rejection::Ended(Reason::Tls(TlsFault::NoCertificate)));

    let log = Log::new();
    let server = echo(&log, false);
    let old = s_client(server.local_addr(), &["-tls1_2"]).stdin(Stdio::null()).output().unwrap();
    let why = String::from_utf8_lossy(&old.stderr).into_owned();
    assert!(!old.status.success() && why.contains("protocol version"), "{why}");
    assert_eq!(log.wait_rejected(), Rejection::Ended(Reason::Tls(TlsFault::OldVersion)));
}

/// OpenSSL's server, and whoever keeps its port for it: he does not listen, and nobody else is given it meanwhile.
fn s_server(flags: &[&str]) -> (Other, Builder<Listen>) {
    let keeper = Server::bind("127.0.0.1:0").unwrap();
    let address = keeper.local_addr();
    let [certificate, key] = &files().server;
    let mut command = Command::new("openssl");
    command.args(["s_server", "-quiet", "-naccept", "1", "-accept"]).arg(address.to_string());
    command.arg("-cert").arg(certificate).arg("-key").arg(key).args(flags);
    (Other::start(&mut command), keeper)
}

/// A client's start, once somebody listens.
fn start(mut client: impl FnMut() -> Result<Client, Error>) -> Result<Client, Error> {
    let mut outcome = client();
    eventually("somebody listens", || {
        let refused =
            matches!(&outcome, Err(Error::Connect { why, .. }) if why.kind() == ErrorKind::ConnectionRefused);
        if refused {
            outcome = client();
        }
        !refused
    });
    outcome
}

#[test]
fn openssls_server_exchanges_messages_with_a_client_that_shows_its_certificate() {
    if !has_openssl() {
        return;
    }
    let authority = files().authority.to_str().unwrap();
    let (mut server, keeper) =
        s_server(&["-tls1_3", "-Verify", "1", "-verify_return_error", "-CAfile", authority]);
    let log = Log::new();
    let [certificate, key] = &files().client;
    let tls = shared().0.trusting().certificate_files(certificate, key).unwrap();
    let (heard, address) = (log.clone(), keeper.local_addr());
    let client =
        move || Client::connect(address, "a")?.tls(tls.clone()).handler(Recorder::new(&heard)).start();
    // Whoever is let in has been answered, so it takes a thread.
    let starting = std::thread::spawn(move || start(client).unwrap());
    assert_eq!(server.receive(), b"a");
    server.send(b"a");
    let client = starting.join().unwrap();
    for message in messages() {
        client.send(&message).unwrap();
        assert!(server.receive() == message, "{} bytes", message.len());
    }
    for text in ["oui", "Q", "quoi"] {
        server.send(text.as_bytes());
    }
    log.wait_messages("a", 3);
    assert_eq!(texts(&log.events()), ["oui", "Q", "quoi"]);
    assert_eq!(client.stop().undelivered, Undelivered::default());
    assert_eq!(server.stdout.read(&mut [0]).unwrap(), 0, "it hears the end");
}

#[test]
fn openssls_server_that_speaks_tls_1_2_alone_is_told_so() {
    if !has_openssl() {
        return;
    }
    let (_server, keeper) = s_server(&["-tls1_2"]);
    let client = || Client::connect(keeper.local_addr(), "a")?.tls(shared().0.trusting()).start();
    match start(client).map(drop) {
        Err(Error::Tls { what, .. }) => assert_eq!(what, TlsFault::OldVersion),
        other => panic!("{other:?}"),
    }
}

/// What the document says of frames, and `ssl` with its defaults. The last argument says whether it ends in order.
const PYTHON: &str = r#"
import socket, ssl, struct, sys
host, port, authority, certificate, key, in_order = sys.argv[1:]
context = ssl.create_default_context(cafile=authority)
context.load_cert_chain(certificate, key)
connection = context.wrap_socket(socket.create_connection((host, int(port)), timeout=30), server_hostname=host)
stream = connection.makefile("rb")

def send(message):
    connection.sendall(struct.pack("<I", len(message)) + message)

def receive():
    return stream.read(struct.unpack("<I", stream.read(4))[0])

send(b"a")
assert receive() == b"a"
for message in b"oui", b"", bytes(range(256)) * 200:
    send(message)
    assert receive() == message
print(connection.version())
if in_order == "yes":
    connection.unwrap()
connection.close()
"#;

#[test]
fn a_client_of_pythons_standard_library_exchanges_messages_and_ends_in_order_or_not() {
    if !has("python3", &["-c", "import ssl; assert ssl.HAS_TLSv1_3"]) {
        return;
    }
    let [certificate, key] = &files().client;
    for (in_order, reason) in [("yes", Reason::PeerClosed), ("no", Reason::Tls(TlsFault::Truncated))] {
        let log = Log::new();
        let server = echo(&log, true);
        let mut python = Command::new("python3");
        python.args(["-c", PYTHON, "127.0.0.1", &server.local_addr().port().to_string()]);
        let output = python.arg(&files().authority).args([certificate, key]).arg(in_order).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "TLSv1.3");
        assert_eq!(log.wait_disconnected("a").reason, reason);
    }
}

/// What becomes of each conversation of `conversations.py`, in its order.
const CONVERSATIONS: [(&str, &str); 46] = [
    ("nothing strange", "let in"),
    ("no key share at first", "let in"),
    ("an old version in the ClientHello's place for it", "let in"),
    ("an extension that nobody knows", "let in"),
    ("the same extension twice", "illegal_parameter"),
    ("no supported groups", "handshake_failure"),
    ("no signature algorithms", "handshake_failure"),
    ("no version that is known", "protocol_version"),
    ("a list of versions that is cut off", "decode_error"),
    ("a ChangeCipherSpec before Finished", "let in"),
    ("a ChangeCipherSpec of 2 there", "unexpected_message"),
    // It may be somebody who speaks no TLS at all, and is told so.
    ("a ChangeCipherSpec before all else", "an answer that is no TLS"),
    ("an empty record before all else", "decode_error"),
    ("a record too long before all else", "unexpected_message"),
    ("data before Finished", "unexpected_message"),
    // rustls passes over it.
    ("an empty record of the handshake before Finished", "let in"),
    ("a Finished that is wrong", "decrypt_error"),
    ("a message of a record", "echoed oui"),
    ("a message byte by byte", "echoed oui"),
    ("an empty record of data", "echoed oui"),
    ("a full record", "echoed 16380 bytes"),
    ("one byte too many in a record", "record_overflow"),
    ("a message and as many zeros as a record has room for", "echoed non"),
    ("one zero more", "record_overflow"),
    ("nothing but zeros", "unexpected_message"),
    ("one flipped bit", "bad_record_mac"),
    ("another version on the record", "echoed oui"),
    ("an empty record of the handshake", "unexpected_message"),
    ("an empty record of alerts", "unexpected_message"),
    ("half an alert", "unexpected_message"),
    ("two alerts in a record", "unexpected_message"),
    ("a warning that the user has cancelled", "echoed oui"),
    ("a fatal alert", "cut off"),
    ("close_notify, and data behind it", "close_notify"),
    ("a ChangeCipherSpec in the clear", "unexpected_message"),
    ("a record of a kind that nobody knows", "unexpected_message"),
    ("a record of data in the clear", "bad_record_mac"),
    ("a request for another key", "echoed oui"),
    ("a KeyUpdate of 2", "illegal_parameter"),
    ("a KeyUpdate with something behind it", "unexpected_message"),
    ("half a KeyUpdate, then data", "unexpected_message"),
    ("a ClientHello", "unexpected_message"),
    ("a Finished", "unexpected_message"),
    ("a ticket", "unexpected_message"),
    ("a message of 16 MiB", "unexpected_message"),
    ("nothing strange after all that", "let in"),
];

#[test]
fn conversations_at_the_edge_of_the_protocol_end_as_it_says() {
    if !has("python3", &["--version"]) {
        return;
    }
    let tlslite = Command::new("python3").args(["-c", "import tlslite"]).output().unwrap();
    if !tlslite.status.success() {
        return skipped("tlslite-ng", "there is no tlslite-ng for python3 on this machine");
    }
    let log = Log::new();
    let server = echo(&log, false);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/conversations.py");
    let mut python = Command::new("python3");
    python.args([script, "127.0.0.1", &server.local_addr().port().to_string()]);
    let output = python.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let outcomes = String::from_utf8(output.stdout).unwrap();
    let expected: Vec<String> = CONVERSATIONS.map(|(name, outcome)| format!("{name}: {outcome}")).into();
    assert_eq!(outcomes.lines().collect::<Vec<_>>(), expected);
}
