//! `zerio send` and `zerio listen`, as processes with pipes.
#![deny(unsafe_code)]

mod support;

use std::io::{BufRead, Read};

use support::{Tool, address, line, lines_until, run, text};

#[test]
fn what_is_sent_is_what_is_listened_to_byte_by_byte() {
    let mut listen = Tool::start("listen 127.0.0.1:0 --count 5003");
    let mut err = listen.stderr();
    let address = address(&line(&mut err));
    let mut input = Vec::new();
    for number in 0..5000 {
        input.extend_from_slice(format!("line {number} {}\n", "x".repeat(number % 100)).as_bytes());
    }
    // An empty line, bytes that are no text, and a last line without an end.
    input.extend_from_slice(b"\n\xff\xfe\x00\r\nthe last");
    let mut out = listen.stdout();
    std::thread::scope(|scope| {
        let printed = scope.spawn(move || {
            let mut printed = Vec::new();
            out.read_to_end(&mut printed).unwrap();
            printed
        });
        let sent = run(&format!("send {address} --json"), &input);
        assert!(sent.status.success(), "{}", text(&sent.stderr));
        let report: serde_json::Value = serde_json::from_slice(&sent.stdout).unwrap();
        assert_eq!(report["delivered"], 5003);
        assert_eq!(report["undelivered_messages"], 0);
        input.push(b'\n');
        assert!(printed.join().unwrap() == input, "the bytes differ");
    });
    assert_eq!(listen.wait().code(), Some(0));
    lines_until(&mut err, "left");
}

#[test]
fn a_line_of_the_longest_length_is_sent_and_one_byte_more_is_not() {
    let mut listen = Tool::start("listen 127.0.0.1:0 --message-max 100");
    let address = address(&line(&mut listen.stderr()));
    let mut out = listen.stdout();
    for end in ["\n", ""] {
        let longest = format!("{}{end}", "y".repeat(100));
        let sent = run(&format!("send {address} --message-max 100"), longest.as_bytes());
        assert!(sent.status.success(), "{}", text(&sent.stderr));
        assert_eq!(line(&mut out), "y".repeat(100));
        let longer = format!("before\n{}{end}", "y".repeat(101));
        let sent = run(&format!("send {address} --message-max 100"), longer.as_bytes());
        assert_eq!(sent.status.code(), Some(1));
        let why = text(&sent.stderr);
        assert!(why.contains("line 2") && why.contains("longer than 100 bytes"), "{why}");
        assert!(why.contains("--message-max") && !why.contains("stopped"), "{why}");
        assert_eq!(line(&mut out), "before");
    }
}

#[test]
fn listen_tells_a_program_who_said_what_and_how_much_it_was() {
    let mut listen = Tool::start("listen 127.0.0.1:0 --json --count 3");
    let mut err = listen.stderr();
    let address = address(&line(&mut err));
    let sent = run(&format!("send {address} --id me"), b"a \"word\"\n\xff\x00\n\n");
    assert!(sent.status.success(), "{}", text(&sent.stderr));
    let lines: Vec<serde_json::Value> =
        listen.stdout().lines().map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect();
    let said = |key: &str, what: &str| serde_json::json!({ "peer": "me", key: what });
    assert_eq!(lines[..3], [said("text", "a \"word\""), said("hex", "ff00"), said("text", "")]);
    let end = serde_json::json!({ "messages": 3, "sessions": 1, "reason": null });
    assert_eq!(lines[3..], [end]);
    assert_eq!(listen.wait().code(), Some(0));
}

#[test]
fn a_server_that_goes_ends_send_with_the_reason() {
    let mut listen = Tool::start("listen 127.0.0.1:0");
    let mut err = listen.stderr();
    let address = address(&line(&mut err));
    let mut send = Tool::start(&format!("send {address}"));
    send.write(b"one\n");
    assert_eq!(line(&mut listen.stdout()), "one");
    // Wine was seen to keep the connections of a process that was killed.
    listen.signal(if support::is_wine() { "INT" } else { "KILL" });
    // Its standard input is still open: it ends all the same.
    assert_eq!(send.wait().code(), Some(1));
    let mut why = String::new();
    send.stderr().read_to_string(&mut why).unwrap();
    assert!(why.contains("the server ended the session"), "{why}");
}

#[test]
fn send_ends_at_an_interrupt_and_delivers_what_it_had_read() {
    let mut listen = Tool::start("listen 127.0.0.1:0");
    let address = address(&line(&mut listen.stderr()));
    let mut out = listen.stdout();
    let mut send = Tool::start(&format!("send {address}"));
    send.write(b"one\ntwo\n");
    assert_eq!((line(&mut out), line(&mut out)), ("one".into(), "two".into()));
    send.signal("INT");
    assert_eq!(send.wait().code(), Some(0));
    listen.signal("INT");
    assert_eq!(listen.wait().code(), Some(0));
}

#[test]
fn send_failed_where_listen_had_heard_the_last_line_and_left_before_the_input_was_seen_to_end() {
    let mut listen = Tool::start("listen 127.0.0.1:0 --count 1");
    let address = address(&line(&mut listen.stderr()));
    let mut send = Tool::start(&format!("send {address}"));
    send.write(b"one\n");
    assert_eq!(listen.wait().code(), Some(0));
    // Its input ends only now.
    let output = send.finish(b"");
    assert!(output.status.success(), "{}", text(&output.stderr));
}

#[test]
fn listen_goes_on_when_nobody_reads_who_comes_and_goes() {
    let mut listen = Tool::start("listen 127.0.0.1:0 --count 2");
    let address = address(&line(&mut listen.stderr()));
    for _ in 0..2 {
        assert!(run(&format!("send {address}"), b"one\n").status.success());
    }
    assert_eq!(listen.wait().code(), Some(0));
}

#[test]
fn listen_ends_quietly_when_nobody_reads_what_it_prints() {
    let mut listen = Tool::start("listen 127.0.0.1:0");
    let mut err = listen.stderr();
    let address = address(&line(&mut err));
    drop(listen.stdout());
    let _ = run(&format!("send {address}"), b"one\n");
    assert_eq!(listen.wait().code(), Some(0));
    let rest: Vec<String> = err.lines().map_while(Result::ok).collect();
    assert!(rest.iter().all(|line| !line.contains("zerio:")), "{rest:?}");
}
