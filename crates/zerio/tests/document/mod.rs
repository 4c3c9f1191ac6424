//! Documents, those that tests write, and the `wire` blocks: what goes over connections, byte for byte, in order.
#![forbid(unsafe_code)]
// Each test binary uses its part of this.
#![allow(dead_code)]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use zerio::Config;

/// How long anything may take before a test gives up.
pub const PATIENCE: Duration = Duration::from_secs(60);

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(name)
}

/// A document of `docs/`.
pub fn read(name: &str) -> String {
    fs::read_to_string(path(name)).unwrap().replace("\r\n", "\n")
}

/// Holds a document to what it has to say; with `ZERIO_RECORD=1` it says so from now on.
pub fn hold(name: &str, to: &str) {
    if std::env::var_os("ZERIO_RECORD").is_some() {
        return fs::write(path(name), to).unwrap();
    }
    let document = read(name);
    let renews = format!("ZERIO_RECORD=1 cargo test -p zerio --test {} renews it", env!("CARGO_CRATE_NAME"));
    for (line, (is, should_be)) in document.lines().zip(to.lines()).enumerate() {
        assert_eq!(is, should_be, "docs/{name}:{}; {renews}", line + 1);
    }
    assert_eq!(document, to, "docs/{name}; {renews}");
}

/// A block of a document that is marked `wire`, or as it was asked for.
#[derive(Debug)]
pub struct Exchange {
    /// The line of the document in which it begins.
    pub line: usize,
    pub config: Config,
    /// Each step, with its line.
    pub steps: Vec<(usize, Step)>,
}

#[derive(Debug)]
pub enum Step {
    Client(char, Vec<u8>),
    Server(char, Vec<u8>),
    Closed(char),
    Stop,
}

/// The blocks whose mark is `mark`, with their settings behind it.
pub fn exchanges(document: &str, mark: &str) -> Vec<Exchange> {
    let mut exchanges = Vec::new();
    let mut lines = document.lines().enumerate().map(|(number, line)| (number + 1, line));
    while let Some((line, start)) = lines.next() {
        let Some((mark_here, settings)) =
            start.strip_prefix("```").map(|start| start.split_once(' ').unwrap_or((start, "")))
        else {
            continue;
        };
        if mark_here != mark {
            continue;
        }
        let mut steps = Vec::new();
        for (number, text) in lines.by_ref().take_while(|(_, text)| *text != "```") {
            steps.push((number, step(text).unwrap_or_else(|| panic!("line {number}: {text}"))));
        }
        exchanges.push(Exchange { line, config: config(settings), steps });
    }
    exchanges
}

fn step(text: &str) -> Option<Step> {
    let text = text.split('#').next()?.trim();
    if text == "stop" {
        return Some(Step::Stop);
    }
    let (who, what) = text.split_once(['>', '<'])?;
    let connection = who.parse().ok()?;
    if what.trim() == "closed" {
        return Some(Step::Closed(connection));
    }
    let bytes: Option<Vec<u8>> =
        what.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).ok()).collect();
    let bytes = bytes.filter(|bytes| !bytes.is_empty())?;
    Some(if text.contains('>') { Step::Client(connection, bytes) } else { Step::Server(connection, bytes) })
}

pub fn config(settings: &str) -> Config {
    let mut config = Config::default();
    config.message_max = 64;
    config.handshake_timeout = PATIENCE;
    for setting in settings.split_whitespace() {
        let (name, value) = setting.split_once('=').unwrap();
        let value: usize = value.parse().unwrap();
        match name {
            "message_max" => config.message_max = value,
            "sessions_max" => config.sessions_max = value,
            "connections_per_address" => config.connections_per_address = Some(value),
            "connections_per_second" => config.connections_per_second = Some(value as u32),
            "connection_burst" => config.connection_burst = value as u32,
            "handshake_timeout_ms" => config.handshake_timeout = Duration::from_millis(value as u64),
            _ => panic!("no setting of an example: {name}"),
        }
    }
    config
}
