//! Two builds of the tool that talk to each other, each way round: this one, and the one that the environment
//! variable `ZERIO_OTHER` names, as `.ci/windows` does with the tool for Windows under Wine. Without it the
//! other one is this one again, so that the tests are never skipped.
#![deny(unsafe_code)]

mod support;

use std::io::{BufRead, Read};
use std::net::SocketAddr;
use std::path::PathBuf;

use serde_json::Value;
use support::{PATIENCE, Tool, address, line, text};

/// One side of a session: a build of the tool, and the driver that it is to use.
#[derive(Clone, Debug)]
struct Side {
    tool: PathBuf,
    driver: &'static str,
}

impl Side {
    fn start(&self, arguments: &str) -> Tool {
        Tool::start_other(&self.tool, &format!("{arguments} --driver {}", self.driver))
    }
}

/// Server and client, each way round, with what each build takes by itself and with `poll`.
fn pairs() -> Vec<(Side, Side)> {
    let this = PathBuf::from(env!("CARGO_BIN_EXE_zerio"));
    let other = std::env::var_os("ZERIO_OTHER").map_or_else(|| this.clone(), PathBuf::from);
    let mut pairs = Vec::new();
    for driver in ["auto", "poll"] {
        let (this, other) = (Side { tool: this.clone(), driver }, Side { tool: other.clone(), driver });
        pairs.extend([(this.clone(), other.clone()), (other, this)]);
    }
    pairs
}

/// Whether the system of a side closes the connections of its killed processes. Wine, under which `.ci/windows` runs
/// these tests or the other side, may keep them until its own server ends.
fn closes_for_the_killed(side: &Side) -> bool {
    let other = std::env::var_os("ZERIO_OTHER");
    !support::is_wine() && other.is_none_or(|other| side.tool.as_os_str() != other)
}

/// A server that waits for clients: its address, and what it prints, which has to be kept open.
fn serve(server: &Side) -> (Tool, SocketAddr, impl BufRead) {
    let mut tool = server.start("serve 127.0.0.1:0");
    let mut out = tool.stdout();
    let address = address(&line(&mut out));
    (tool, address, out)
}

#[test]
fn every_echo_of_every_size_is_what_was_sent() {
    for (server, client) in pairs() {
        let (_server, address, _out) = serve(&server);
        for (size, count) in [("0", 5), ("1", 5), ("32", 200), ("64k", 20)] {
            // Ping takes an answer for one only where it is the message, byte for byte.
            let ping =
                format!("ping {address} --count {count} --interval 0ms --size {size} --timeout 60s --json");
            let output = client.start(&ping).finish(b"");
            assert!(output.status.success(), "{client:?} to {server:?}: {}", text(&output.stderr));
            let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
            assert_eq!(summary["received"], count, "{summary}");
        }
    }
}

/// Lines of all bytes and of many lengths, the longest one included.
fn lines() -> Vec<u8> {
    let mut lines = Vec::new();
    let mut next = 0u32;
    for len in (0..300).chain([4095, 4096, 4097, 65_535, 65_536]) {
        for _ in 0..len {
            next = next.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let byte = (next >> 24) as u8;
            // A line feed ends a line.
            lines.push(if byte == b'\n' { b'\r' } else { byte });
        }
        lines.push(b'\n');
    }
    lines
}

#[test]
fn lines_of_all_bytes_arrive_as_they_were_sent() {
    let sent = lines();
    let count = sent.iter().filter(|&&byte| byte == b'\n').count();
    for (server, client) in pairs() {
        let mut listen = server.start(&format!("listen 127.0.0.1:0 --count {count}"));
        let address = address(&line(&mut listen.stderr()));
        let mut out = listen.stdout();
        let printed = std::thread::spawn(move || {
            let mut printed = Vec::new();
            out.read_to_end(&mut printed).unwrap();
            printed
        });
        let output = client.start(&format!("send {address} --json")).finish(&sent);
        assert!(output.status.success(), "{client:?} to {server:?}: {}", text(&output.stderr));
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["delivered"], count, "{report}");
        assert!(listen.wait().success());
        assert!(printed.join().unwrap() == sent, "{client:?} to {server:?}: the bytes differ");
    }
}

#[test]
fn who_is_refused_and_whose_server_is_killed_hears_it() {
    for (server, client) in pairs() {
        let (mut serving, address, _out) = serve(&server);
        let mut first = client.start(&format!("ping {address} --interval 10ms --id me"));
        let mut out = first.stdout();
        assert!(line(&mut out).starts_with("32 bytes from "));
        let refused = client.start(&format!("ping {address} --id me")).finish(b"");
        assert_eq!(refused.status.code(), Some(1));
        assert!(text(&refused.stderr).contains("already connected"), "{}", text(&refused.stderr));
        if !closes_for_the_killed(&server) {
            continue;
        }
        serving.signal("KILL");
        let reading = std::thread::spawn(move || out.read_to_end(&mut Vec::new()));
        let output = first.finish(b"");
        reading.join().unwrap().unwrap();
        assert_eq!(output.status.code(), Some(1), "{client:?} to {server:?}, within {PATIENCE:?}");
        assert!(text(&output.stderr).contains("ended:"), "{}", text(&output.stderr));
    }
}
