//! The Python client of `examples/` against a server, over IPv4 and IPv6. Where there is no `python3`, or
//! no `::1`, the test says so and shows nothing.
#![forbid(unsafe_code)]

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Output};

use zerio::Server;

#[path = "common/skip.rs"]
mod skip;

fn has_python() -> bool {
    let found = Command::new("python3").arg("--version").output().is_ok_and(|output| output.status.success());
    if !found {
        skip::skipped("python3", "there is no python3 on this machine");
    }
    found
}

fn client(address: SocketAddr, id: &str, text: &str) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/client.py");
    let (host, port) = (address.ip().to_string(), address.port().to_string());
    // So that text is UTF-8 whatever the machine's locale is.
    let mut python = Command::new("python3");
    python.env("PYTHONUTF8", "1").arg(script).args([&host, &port, id, text]).output().unwrap()
}

/// A server on that address that answers each message with the peer's id and the message.
fn server(host: &str) -> Server {
    let host: IpAddr = host.parse().unwrap();
    let echo = Server::bind((host, 0)).unwrap().on_message(|peer, message| {
        let answer = [peer.id().as_bytes(), b": ", message].concat();
        peer.send(&answer).unwrap();
    });
    echo.start().unwrap()
}

fn exchanges_a_line(host: &str) {
    let server = server(host);
    let output = client(server.local_addr(), "größer", "hello, zerio: 世界");
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{errors}");
    assert_eq!(said.trim_end(), "größer: hello, zerio: 世界");
    assert_eq!(server.counters().sessions.received.messages_received, 1);
}

#[test]
fn a_client_in_python_exchanges_a_line_over_ipv4() {
    if has_python() {
        exchanges_a_line("127.0.0.1");
    }
}

#[test]
fn a_client_in_python_exchanges_a_line_over_ipv6() {
    if let Err(why) = TcpListener::bind("[::1]:0") {
        eprintln!("SKIPPED: ::1 can't be bound on this machine: {why}");
    } else if has_python() {
        exchanges_a_line("::1");
    }
}

#[test]
fn a_client_in_python_is_told_why_it_is_refused() {
    if has_python() {
        let server = server("127.0.0.1");
        let output = client(server.local_addr(), "two\nlines", "hello");
        assert!(!output.status.success());
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(
            errors.trim_end(),
            "refused (4): bad id: 1 to 255 bytes of UTF-8 without control characters"
        );
    }
}

#[test]
fn the_client_in_python_is_as_short_as_the_document_says() {
    let script = include_str!("../../../examples/client.py");
    assert!(script.lines().count() <= 30);
    let imports = script.lines().filter_map(|line| line.strip_prefix("import "));
    assert_eq!(imports.collect::<Vec<_>>(), ["socket", "struct", "sys"], "nothing to install");
}
