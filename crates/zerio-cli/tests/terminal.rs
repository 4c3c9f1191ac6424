//! What a human sees on a terminal and nobody sees elsewhere: progress of whatever takes longer than two seconds.
//! The terminal is one that `script` of util-linux makes. Where there is none the tests say so and show nothing.
#![cfg(target_os = "linux")]
#![deny(unsafe_code)]

mod support;

use std::net::TcpListener;
use std::process::{Command, Output, Stdio};

use support::{run, server, text};

fn has_script() -> bool {
    let found = Command::new("script").arg("--version").output().is_ok_and(|output| output.status.success());
    if !found {
        eprintln!("SKIPPED: there is no `script` of util-linux on this machine");
    }
    found
}

/// The tool with these arguments on a terminal: both of its outputs together are the command's.
fn on_a_terminal(arguments: &str) -> Command {
    let tool = format!("{} {arguments}", env!("CARGO_BIN_EXE_zerio"));
    let mut command = Command::new("script");
    command.args(["--quiet", "--return", "--command", &tool, "/dev/null"]).env("TERM", "xterm");
    command
}

/// What a terminal shows of the tool with these arguments, both of its outputs together.
fn shown(arguments: &str) -> String {
    text(&on_a_terminal(arguments).stdin(Stdio::null()).output().unwrap().stdout)
}

#[track_caller]
fn says_nothing_of(progress: &str, output: &Output) {
    for stream in [&output.stdout, &output.stderr] {
        assert!(!text(stream).contains(progress) && !stream.contains(&0x1b), "{}", text(stream));
    }
}

#[test]
fn ping_shows_how_far_it_is_where_no_lines_do() {
    if !has_script() {
        return;
    }
    let (_server, address, _out) = server("");
    let long = format!("ping {address} --json --count 25 --interval 100ms");
    let seen = shown(&long);
    assert!(seen.contains("/25") && seen.contains("\"received\":25"), "{seen}");
    says_nothing_of("/25", &run(&long, b""));
    // What is over before two seconds, and what prints lines, needs no bar.
    for other in ["--json --count 25 --interval 1ms", "--count 25 --interval 100ms"] {
        let seen = shown(&format!("ping {address} {other}"));
        assert!(!seen.contains("/25"), "{seen}");
    }
}

#[test]
fn bench_shows_how_far_it_is() {
    if !has_script() {
        return;
    }
    let long = "bench --only one-way --size 32 --drive polled --rounds 5";
    let seen = shown(long);
    assert!(seen.contains("/10") && seen.contains("one way, 32 B, polled"), "{seen}");
    let short = shown("bench --only one-way --size 32 --drive polled --rounds 5 --smoke");
    assert!(!short.contains("/10"), "{short}");
}

#[test]
fn the_doctor_shows_how_far_it_is() {
    if !has_script() {
        return;
    }
    let seen = shown("doctor");
    assert!(seen.contains("4/6") && seen.contains("round trips"), "{seen}");
    assert!(seen.contains("\u{1b}[38;5;10m"), "{seen}");
    says_nothing_of("/6", &run("doctor", b""));
}

#[test]
fn a_server_that_does_not_answer_is_waited_for_with_a_sign_of_life() {
    if !has_script() {
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let seen = shown(&format!("ping {address} --handshake-timeout 3s"));
    assert!(seen.contains(&format!("connecting to {address}")), "{seen}");
    assert!(seen.contains("did not answer within 3000 ms"), "{seen}");
    says_nothing_of("connecting to", &run(&format!("ping {address} --handshake-timeout 3s"), b""));
}
