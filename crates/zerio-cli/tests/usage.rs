//! Wrong usage and what goes wrong outside: each with the right exit code, and words that say what to do.
#![deny(unsafe_code)]

mod support;

use std::net::TcpListener;
use std::process::Output;

use support::{run, text};

fn says(output: &Output, code: i32, words: &[&str]) {
    let why = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{why}");
    for word in words {
        assert!(why.contains(word), "{word:?} is not in {why:?}");
    }
}

#[test]
fn nonsense_is_wrong_usage() {
    for (arguments, words) in [
        ("", &["Usage"][..]),
        ("sing", &["sing", "Usage"]),
        ("bench --loudly", &["--loudly", "--help"]),
        ("bench --size 4x", &["4x", "no unit"]),
        ("bench --only one-way --size 0", &["1 or more"]),
        ("bench --size 257M", &["256M"]),
        ("bench --wait forever", &["busy-spin"]),
        ("bench --rounds 0", &["0"]),
        ("serve :7000", &["HOST:PORT", "PORT for this machine alone"]),
        ("serve 65536", &["HOST:PORT"]),
        ("serve 0 --connections-per-address 0", &["--connections-per-address 0: ", "1 would do"]),
        ("serve 0 --connections-per-second 0", &["--connections-per-second 0: ", "1 would do"]),
        ("serve 0 --connection-burst 0", &["--connection-burst 0: ", "1 would do"]),
        ("serve 0 --engines 2 --handshakes-max 1", &["--handshakes-max 1: ", "2 would do"]),
        ("serve 127.0.0.1:70000", &["no port"]),
        ("ping", &["ADDRESS"]),
        ("ping 127.0.0.1:1 --interval 5", &["5 has no unit"]),
        ("ping 127.0.0.1:1 --interval -1", &["0 or longer"]),
        ("ping 127.0.0.1:1 --size 65537", &["--message-max"]),
        ("listen --count 0", &["0"]),
        ("ping 127.0.0.1:1 --count 0", &["0"]),
        ("stat --watch 127.0.0.1:7000", &["the server stands first: zerio stat WHICH --watch"]),
        ("serve 127.0.0.1:0 --send-ring 200000", &["--send-ring 200000: ", "262144 would do"]),
        ("serve 127.0.0.1:0 --engines 2 --core 0", &["--core 0: there are 2 engines"]),
        ("serve 127.0.0.1:0 --busy-poll 50", &["50 has no unit"]),
        ("serve 127.0.0.1:0 --busy-poll 2s", &["1 µs to 1 s"]),
        ("serve 127.0.0.1:0 --priority 100", &["99 would do"]),
    ] {
        says(&run(arguments, b""), 2, words);
    }
    let control = run("ping 127.0.0.1:1 --id \u{1}", b"");
    says(&control, 2, &["control character"]);
}

#[test]
fn what_this_machine_has_not_is_no_wrong_usage() {
    for (arguments, words) in [
        (
            "serve 0 --core 100000",
            &["--core 100000: this process may not run on core 100000", "it may on"][..],
        ),
        ("serve 0 --congestion none-such", &["--congestion none-such: the system refused it"]),
    ] {
        let output = run(arguments, b"");
        says(&output, 1, words);
        assert!(!text(&output.stderr).contains("--help"), "{}", text(&output.stderr));
    }
}

#[test]
fn a_refused_port_is_a_failure_that_says_what_to_look_at() {
    // Nobody listens there, and nobody else can.
    let nobody = zerio::Server::bind("127.0.0.1:0").unwrap();
    let free = nobody.local_addr();
    for command in ["ping", "send"] {
        says(&run(&format!("{command} {free}"), b"x\n"), 1, &["can't connect", "is the server started"]);
    }
}

#[test]
fn an_address_in_use_is_a_failure_that_says_what_to_do() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    for command in ["serve", "listen"] {
        says(&run(&format!("{command} {address}"), b""), 1, &["can't listen", "choose another port"]);
    }
}

#[test]
fn what_can_t_be_written_is_told_with_what_to_do() {
    let file = std::env::temp_dir().join(format!("zerio-in-the-way-{}", std::process::id()));
    std::fs::write(&file, b"a file").unwrap();
    let (file, folder) = (file.display(), std::env::temp_dir());
    let folder = folder.display();
    for (arguments, words) in [
        ("serve 0 --counters /no/such/folder/x".to_owned(), ["/no/such/folder/x", "its folder is not there"]),
        (
            "bench --report /no/such/folder/x".to_owned(),
            ["the report to /no/such", "its folder is not there"],
        ),
        (format!("bench --plots {file}"), ["the plots to ", "a file has the name of a folder"]),
        (format!("bench --grid {file}"), ["can't write to ", "a file has the name of a folder"]),
        (format!("certs {file}"), ["can't make ", "a file has the name of a folder"]),
    ] {
        says(&run(&arguments, b""), 1, &words);
    }
    if cfg!(unix) {
        says(&run(&format!("bench --report {folder}"), b""), 1, &["a folder has that name: name a file"]);
    }
    std::fs::remove_file(file.to_string()).unwrap();
}

#[test]
#[cfg(target_os = "linux")]
fn help_that_could_not_be_written_was_a_success() {
    for arguments in ["--help", "ping --help", "--version", "completions bash"] {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let output = support::zerio(arguments).stdout(full).output().unwrap();
        says(&output, 1, &["can't write to standard output", "make room"]);
    }
}

#[test]
fn a_silent_server_is_given_up_on() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let output = run(&format!("ping {address} --handshake-timeout 100ms"), b"");
    says(&output, 1, &["did not answer within 100 ms", "is it a zerio server"]);
}

/// The first line of all is what it is for, and no list of what stands below.
#[test]
fn the_help_begins_with_what_zerio_is() {
    let help = text(&run("--help", b"").stdout);
    assert!(help.starts_with("Small messages between one server and several clients over TCP"), "{help}");
}

#[test]
fn every_help_has_an_example_and_no_colours_in_a_pipe() {
    let commands = support::commands();
    for command in commands.iter().map(String::as_str).chain([""]) {
        let output = run(&format!("{command} --help"), b"");
        assert!(output.status.success());
        let help = text(&output.stdout);
        assert!(help.contains("Example") && help.contains(&format!("zerio {command}")), "{help}");
        assert!(!help.contains('\u{1b}'), "{help}");
    }
}
