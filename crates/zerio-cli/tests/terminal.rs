//! What a human sees on a terminal and nobody sees elsewhere: progress of whatever takes longer than two seconds.
//! The terminal is one that `script` of util-linux makes. Where there is none the tests say so and show nothing.
#![cfg(target_os = "linux")]
#![deny(unsafe_code)]

mod support;

use std::io::{BufRead, Read};
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use support::{Tool, line, lines_until, run, server, skipped, text};
use zerio::Client;

fn has_script() -> bool {
    let found = Command::new("script").arg("--version").output().is_ok_and(|output| output.status.success());
    if !found {
        skipped("script", "there is no `script` of util-linux on this machine");
    }
    found
}

/// The tool with these arguments on a terminal: both of its outputs together are the command's.
fn on_a_terminal(arguments: &str) -> Command {
    let tool = format!("{} {arguments}", env!("CARGO_BIN_EXE_zerio"));
    let mut command = Command::new("script");
    command.args(["--quiet", "--return", "--command", &tool, "/dev/null"]).env("TERM", "xterm");
    command.env_remove("NO_COLOR");
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
fn a_grid_is_a_table_for_people_and_csv_for_programs() {
    if !has_script() {
        return;
    }
    let folder = std::env::temp_dir().join(format!("zerio-terminal-grid-{}", std::process::id()));
    let grid = format!("bench --grid {} --size 32 --delay 10ms --burst 2 --seconds 1", folder.display());
    let seen = shown(&grid);
    let csv = std::fs::read_to_string(folder.join("grid.csv")).unwrap_or_else(|why| panic!("{why}: {seen}"));
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(seen.contains("over    size   delay   burst   answers"), "{seen}");
    assert!(seen.contains("zerio     32    10ms       2       200"), "{seen}");
    assert!(!seen.contains("Transport,Started"), "{seen}");
    assert!(csv.starts_with("Transport,Started") && csv.lines().count() == 3, "{csv}");
}

#[test]
fn the_doctor_shows_how_far_it_is() {
    if !has_script() {
        return;
    }
    let seen = shown("doctor");
    assert!(seen.contains("4/6") && seen.contains("round trips"), "{seen}");
    assert!(seen.contains("\u{1b}[38;5;10m"), "{seen}");
    let none = on_a_terminal("doctor").env("NO_COLOR", "1").stdin(Stdio::null()).output().unwrap();
    let none = text(&none.stdout);
    assert!(none.contains("fine") && !none.contains("\u{1b}[38;"), "{none}");
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

#[test]
fn ping_without_a_count_shows_how_many_have_come_back() {
    if !has_script() {
        return;
    }
    let (mut server, address, _out) = server("");
    let mut ping = Tool::spawn(on_a_terminal(&format!("ping {address} --json --interval 100ms")));
    let (mut out, mut seen) = (ping.stdout(), Vec::new());
    while !text(&seen).contains(" in 2s") && !text(&seen).contains(" in 3s") {
        let next = out.fill_buf().unwrap();
        assert!(!next.is_empty(), "it ended, and showed {}", text(&seen));
        seen.extend_from_slice(next);
        let read = next.len();
        out.consume(read);
    }
    assert!(!text(&seen).contains(" in 1s"), "{}", text(&seen));
    server.signal("INT");
    out.read_to_end(&mut seen).unwrap();
    assert!(text(&seen).contains("\"reason\""), "{}", text(&seen));
}

#[test]
fn a_server_on_which_something_happens_all_the_time_printed_no_counts_and_did_not_look_at_its_engines() {
    if !has_script() {
        return;
    }
    let mut serve = Tool::spawn(on_a_terminal("serve 127.0.0.1:0"));
    let mut out = serve.stdout();
    let address = support::address(&line(&mut out));
    // Each comes and goes long before a second without any event has passed.
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                if let Ok(guest) = Client::connect(address, "guest").unwrap().start() {
                    let _ = guest.send(b"x");
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        lines_until(&mut out, " messages in, ");
        done.store(true, Ordering::Relaxed);
    });
}
