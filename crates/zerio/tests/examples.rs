//! The examples, run as their readers run them. Each is under a hundred lines, and says what it is for and how to
//! start it.
#![forbid(unsafe_code)]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

const EXAMPLES: [&str; 6] = ["chat", "echo", "game_loop", "market_data", "request_reply", "telemetry"];

const LINES_MAX: usize = 100;

/// How long anything may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(60);

/// An example as a process, which does not outlive its test.
struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
}

/// Cargo puts it beside this test: `cargo test` builds examples, `cargo test --test examples` takes what there is.
fn binary(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let folder = test.parent().and_then(Path::parent).unwrap();
    let path = folder.join("examples").join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    assert!(path.exists(), "build it first: cargo build -p zerio --examples");
    path
}

fn start(name: &str, arguments: &[&str]) -> Running {
    let mut command = Command::new(binary(name));
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take().unwrap());
    let (said, lines) = channel();
    std::thread::spawn(move || {
        BufReader::new(stdout).lines().map_while(Result::ok).try_for_each(|line| said.send(line))
    });
    Running { child, stdin, lines }
}

impl Running {
    #[track_caller]
    fn line(&self) -> String {
        self.lines.recv_timeout(PATIENCE).expect("a line")
    }

    #[track_caller]
    fn says(&self, line: &str) {
        assert_eq!(self.line(), line);
    }

    fn hears(&mut self, line: &str) {
        writeln!(self.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    /// Ends its input, and gives what it still says.
    #[track_caller]
    fn finish(mut self) -> Vec<String> {
        self.stdin = None;
        self.ends()
    }

    /// Ends by itself, and gives what it still says.
    #[track_caller]
    fn ends(mut self) -> Vec<String> {
        let mut rest = Vec::new();
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => rest.push(line),
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => break,
                Err(why) => panic!("{why}: {rest:?}"),
            }
        }
        // It has closed its output, so it is at its end.
        assert!(self.child.wait().unwrap().success(), "{rest:?}");
        rest
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn echo_sends_each_word_back() {
    let lines = start("echo", &["one", "größer"]).finish();
    for line in ["talker is here", "one came back as one", "größer came back as größer"] {
        assert!(lines.iter().any(|said| said == line), "{line:?} is not in {lines:?}");
    }
    let ends = ["the client: 2 messages delivered, 0 messages", "the server: 2 messages delivered"];
    assert!(ends.iter().all(|end| lines.iter().any(|line| line.starts_with(end))), "{lines:?}");
}

#[test]
fn chat_tells_everybody_what_one_says() {
    let room = start("chat", &["127.0.0.1:0"]);
    let listening = room.line();
    let address = listening.strip_prefix("listening on ").unwrap();
    let mut ada = start("chat", &[address, "ada"]);
    assert!(room.line().starts_with("ada is here"));
    let mut bob = start("chat", &[address, "bob"]);
    ada.says("* bob is here");
    ada.hears("good morning");
    bob.says("ada: good morning");
    bob.hears("and to you");
    ada.says("bob: and to you");
    assert_eq!(bob.finish(), ["* the chat is over: this side stopped"]);
    ada.says("* bob left");
    assert!(room.line().starts_with("bob is here"));
    let end = room.finish();
    assert!(end.last().unwrap().contains("messages delivered"), "{end:?}");
    ada.says("* the chat is over: it closed the connection");
    assert!(ada.ends().is_empty(), "a guest who did not type again stayed behind");
}

#[test]
fn market_data_reaches_the_slow_consumer_in_its_newest_state() {
    let lines = start("market_data", &[]).finish();
    let [quick, slow] = &lines[..] else { panic!("{lines:?}") };
    assert!(quick.starts_with("quick: heard ") && slow.starts_with("slow: heard "), "{lines:?}");
    let replaced = |line: &str| line.split(" among them; ").nth(1)?.split(' ').next()?.parse::<u64>().ok();
    // What it did not read had room for some thousands of prices, of fifty thousand.
    assert!(replaced(slow).unwrap() > 10_000, "{lines:?}");
    assert!(replaced(quick).unwrap() < replaced(slow).unwrap(), "{lines:?}");
}

#[test]
fn request_reply_gives_each_call_its_own_reply_and_a_deadline() {
    let lines = start("request_reply", &[]).finish();
    assert_eq!(lines, ["3999 replies, each to its call; and to 13: None"]);
}

#[test]
fn telemetry_adds_up_every_reading() {
    let lines = start("telemetry", &[]).finish();
    let last = lines.last().unwrap();
    assert!(
        last.starts_with("100000 readings of 50 sensors in ") && last.contains(" 0 undelivered"),
        "{last}"
    );
    assert!(last.ends_with(&format!("sum {}", 50 * (2000 * 2001 / 2))), "{last}");
}

#[test]
fn game_loop_tells_every_player_where_all_are() {
    let lines = start("game_loop", &[]).finish();
    assert!(lines[0].starts_with("50 ticks, "), "{lines:?}");
    let heard = |line: &String| line.split(" heard ").nth(1)?.split(' ').next()?.parse::<u32>().ok();
    let heard: Vec<_> = lines.iter().filter_map(heard).collect();
    assert!(heard.len() == 3 && heard.iter().all(|heard| *heard >= 50), "{lines:?}");
}

#[test]
fn each_example_is_short_and_says_how_to_start_it() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let files = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = files.map(|name| name.into_string().unwrap()).collect();
    // That one is the measurements', and not for readers.
    names.retain(|name| name != "cost.rs");
    names.sort();
    assert_eq!(names, EXAMPLES.map(|name| format!("{name}.rs")), "and each has a test here");
    for name in EXAMPLES {
        let text = fs::read_to_string(folder.join(format!("{name}.rs"))).unwrap();
        assert!(text.lines().count() < LINES_MAX, "{name} has {} lines", text.lines().count());
        assert!(text.starts_with("//! ") && text.contains(&format!("--example {name}")), "{name}");
    }
}
