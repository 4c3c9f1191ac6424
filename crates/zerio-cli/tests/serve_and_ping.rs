//! `zerio serve` and `zerio ping`, as processes.
#![deny(unsafe_code)]

mod support;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use serde_json::Value;
use support::{Tool, line, lines_until, run, server, text};

#[test]
fn ping_counts_its_round_trips_and_gives_percentiles() {
    let (mut server, address, mut out) = server("");
    let output = run(&format!("ping {address} --count 3 --interval 1ms --json --id me"), b"");
    assert!(output.status.success(), "{}", text(&output.stderr));
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((summary["sent"].as_u64(), summary["received"].as_u64()), (Some(3), Some(3)));
    let times: Vec<f64> = ["min_us", "p50_us", "p90_us", "p99_us", "p999_us", "max_us"]
        .map(|name| summary[name].as_f64().unwrap_or_else(|| panic!("no {name}: {summary}")))
        .into();
    assert!(times[0] > 0.0 && times.is_sorted(), "{times:?}");
    assert_eq!(summary["reason"], Value::Null);

    assert!(line(&mut out).starts_with("me (127.0.0.1:"));
    assert!(line(&mut out).contains("left: it closed the connection"));
    server.signal("INT");
    let report = lines_until(&mut out, "messages in").pop().unwrap();
    assert!(report.contains("1 session, 3 messages in; 3 messages delivered"), "{report}");
    assert_eq!(server.wait().code(), Some(0));
}

/// It goes on answering the kernel, and nobody else.
#[cfg(unix)]
#[test]
fn a_server_that_stands_still_is_not_taken_for_another_program() {
    let (mut server, address, _out) = support::server("");
    let mut ping = Tool::start(&format!("ping {address} --interval 50ms --timeout 2s"));
    let mut out = ping.stdout();
    lines_until(&mut out, "number 3 took");
    server.signal("STOP");
    let output = ping.finish(b"");
    assert_eq!(output.status.code(), Some(1));
    let why = text(&output.stderr);
    assert!(why.contains("no answer within 2s; does 127.0.0.1:") && !why.contains("echo server"), "{why}");
}

#[test]
fn a_summary_of_no_round_trips_has_no_times() {
    // It answers nothing.
    let mut listen = Tool::start("listen 127.0.0.1:0");
    let address = support::address(&line(&mut listen.stderr()));
    let output = run(&format!("ping {address} --count 1 --timeout 100ms --json"), b"");
    assert_eq!(output.status.code(), Some(1));
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    for name in ["min_us", "mean_us", "p50_us", "p90_us", "p99_us", "p999_us", "max_us"] {
        assert_eq!(summary.get(name), Some(&Value::Null), "{name}: {summary}");
    }
}

#[test]
fn ping_prints_a_line_for_each_answer_and_a_summary() {
    let (_server, address, _out) = server("");
    let output = run(&format!("ping {address} --count 2 --interval 0ms --size 0"), b"");
    assert!(output.status.success());
    let out = text(&output.stdout);
    let numbers: Vec<&str> =
        out.lines().filter_map(|line| line.strip_prefix(&format!("0 bytes from {address}: "))).collect();
    assert!(
        matches!(&numbers[..], [first, second] if first.starts_with("number 1 took ") && second.ends_with(" µs"))
    );
    assert!(out.contains("2 sent, 2 came back") && out.contains("p99.9"), "{out}");
}

#[test]
fn ping_without_a_count_ends_at_an_interrupt_with_its_summary() {
    let (_server, address, _out) = server("");
    let mut ping = Tool::start(&format!("ping {address} --interval 10ms"));
    let mut out = ping.stdout();
    lines_until(&mut out, "bytes from");
    ping.signal("INT");
    lines_until(&mut out, "came back");
    assert_eq!(ping.wait().code(), Some(0));
}

#[test]
fn a_message_that_is_too_long_for_the_server_is_told_as_what_it_may_be() {
    let (_server, address, _out) = server("--message-max 100");
    let long = [b'x'; 1000];
    for command in ["ping {} --size 1000", "send {}"] {
        // Its input goes on: else it may be done before it hears anything.
        let mut tool = Tool::start(&command.replace("{}", &address.to_string()));
        if command.starts_with("send") {
            tool.write(&long);
            tool.write(b"\n");
        }
        tool.wait();
        let output = tool.finish(b"");
        assert_eq!(output.status.code(), Some(1));
        let why = text(&output.stderr);
        assert!(why.contains("is its --message-max as large as here?"), "{command}: {why}");
    }
}

#[test]
fn a_killed_server_ends_ping_with_the_reason() {
    if support::is_wine() {
        return eprintln!("SKIPPED: Wine may keep a killed process's connections");
    }
    let (mut server, address, _out) = server("");
    let mut ping = Tool::start(&format!("ping {address} --interval 10ms"));
    let mut out = ping.stdout();
    lines_until(&mut out, "bytes from");
    server.signal("KILL");
    lines_until(&mut out, "came back");
    let output = ping.finish(b"");
    assert_eq!(output.status.code(), Some(1));
    let why = text(&output.stderr);
    assert!(why.contains("the session with") && why.contains("ended:"), "{why}");
}

#[test]
fn who_is_refused_hears_why_and_what_to_do() {
    let (_server, address, mut out) = server("--sessions-max 2");
    let first = Tool::start(&format!("ping {address} --id one"));
    assert!(line(&mut out).starts_with("one ("));
    let mut second = None;
    for (id, says, next) in [("one", "already connected", "--id"), ("three", "server full", "--sessions-max")]
    {
        if id == "three" {
            second = Some(Tool::start(&format!("ping {address} --id two")));
            assert!(line(&mut out).starts_with("two ("));
        }
        let output = run(&format!("ping {address} --id {id}"), b"");
        assert_eq!(output.status.code(), Some(1));
        let why = text(&output.stderr);
        assert!(why.contains(says) && why.contains(next), "{why}");
        let printed = line(&mut out);
        assert!(printed.contains("did not become a session: refused"), "{printed}");
    }
    for mut ping in [Some(first), second].into_iter().flatten() {
        ping.signal("INT");
        assert_eq!(ping.wait().code(), Some(0));
    }
}

#[test]
fn a_server_that_does_not_echo_is_told_from_one_that_does() {
    let mut listen = Tool::start("listen 127.0.0.1:0");
    let address = support::address(&line(&mut listen.stderr()));
    let output = run(&format!("ping {address} --timeout 100ms"), b"");
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("echo server"), "{}", text(&output.stderr));
}

#[test]
fn serve_in_json_tells_every_event_and_the_report() {
    let mut server = Tool::start("serve 127.0.0.1:0 --json");
    let mut out = server.stdout();
    let event = |line: String| -> Value { serde_json::from_str(&line).unwrap() };
    let listening = event(line(&mut out));
    assert_eq!(listening["event"], "listening");
    let address = listening["address"].as_str().unwrap();
    assert!(run(&format!("ping {address} -c 1 --id me"), b"").status.success());
    assert_eq!(event(line(&mut out))["event"], "connected");
    let left = event(line(&mut out));
    assert_eq!((&left["event"], &left["peer"]), (&Value::from("disconnected"), &Value::from("me")));
    // A first frame that is no id: a control character.
    let mut stranger = TcpStream::connect(address).unwrap();
    stranger.write_all(&[1, 0, 0, 0, 7]).unwrap();
    let mut refusal = Vec::new();
    let _ = stranger.read_to_end(&mut refusal);
    assert_eq!(event(line(&mut out))["event"], "rejected");
    server.signal("TERM");
    let stopped = event(line(&mut out));
    assert_eq!(stopped["event"], "stopped");
    assert_eq!((stopped["messages_in"].as_u64(), stopped["messages_out"].as_u64()), (Some(1), Some(1)));
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn the_bill_is_printed_without_serving() {
    // The port is taken: printing the bill does not need it.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let small = run(&format!("serve {address} --sessions-max 10 --explain"), b"");
    assert!(small.status.success());
    assert!(text(&small.stdout).contains("KiB  send rings"), "{}", text(&small.stdout));
    let total = |flags: &str| -> u64 {
        let output = run(&format!("serve --explain --json {flags}"), b"");
        let bill: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(
            bill["total"].as_u64(),
            bill["pinned"].as_u64().zip(bill["unpinned"].as_u64()).map(|(a, b)| a + b)
        );
        bill["total"].as_u64().unwrap()
    };
    assert!(total("--sessions-max 10") < total("--sessions-max 20"));
    assert!(total("--send-ring 256k") < total("--send-ring 512k"));
    assert!(total("--receive-buffer 256k") < total("--receive-buffer 512k"));
    assert!(total("--engines 1") < total("--engines 2"));
    assert!(total("") < total("--connections-per-address 4"));
}

#[test]
fn what_is_asked_of_the_system_is_printed_without_asking() {
    let asked = "--busy-poll 50us --priority 99 --huge-pages";
    let told = |flags: &str| text(&run(&format!("serve --explain {flags}"), b"").stdout);
    for (flags, lines) in [
        ("", ["small  pages", "-  busy poll", "-  real-time priority"]),
        (asked, ["huge  pages", "50µs  busy poll", "99  real-time priority"]),
    ] {
        let told = told(flags);
        assert!(lines.iter().all(|line| told.contains(line)), "{told}");
    }
    let bill: Value = serde_json::from_str(&told(&format!("--json {asked}"))).unwrap();
    assert_eq!((bill["busy_poll_us"].as_u64(), bill["priority"].as_u64()), (Some(50), Some(99)));
    assert_eq!(bill["huge_pages"], true);
}

#[test]
fn several_engines_serve_together() {
    let (mut server, address, mut out) = server("--engines 2 --wait park --driver poll");
    for _ in 0..2 {
        assert!(run(&format!("ping {address} -c 1"), b"").status.success());
    }
    server.signal("INT");
    let report = lines_until(&mut out, "messages in").pop().unwrap();
    assert!(report.contains("2 sessions, 2 messages in"), "{report}");
}
