//! What the tests of the tool share: the built binary as a child process that never outlives its test,
//! and patience that has an end.
// Each test file uses its part of this.
#![allow(dead_code)]

use std::collections::BTreeSet;
use std::fmt::Display;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

#[cfg(windows)]
mod ctrl_c;
#[cfg(unix)]
pub mod signal;

/// Longer than anything here takes, however busy the machine is.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Whether this is Wine, whose server was seen to keep the connections of a killed process until it ended itself.
pub fn is_wine() -> bool {
    cfg!(windows) && std::env::var_os("WINEUSERNAME").is_some()
}

/// Says that a test, or a part of it, is skipped for want of something; fails where `ZERIO_REQUIRE` names that.
#[track_caller]
pub fn skipped(want: &str, why: impl Display) {
    let required = std::env::var("ZERIO_REQUIRE").unwrap_or_default();
    assert!(!required.split(',').any(|name| name == want), "ZERIO_REQUIRE names {want}: {why}");
    eprintln!("SKIPPED: {why}");
}

/// The tool with these arguments, all of its streams piped.
pub fn zerio(arguments: &str) -> Command {
    piped(Command::new(env!("CARGO_BIN_EXE_zerio")), arguments)
}

fn piped(mut command: Command, arguments: &str) -> Command {
    command.args(arguments.split_whitespace());
    #[cfg(windows)]
    ctrl_c::with_its_own_console(&mut command);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs it to its end, with this on its standard input.
pub fn run(arguments: &str, input: &[u8]) -> Output {
    Tool::start(arguments).finish(input)
}

/// A running tool, killed when it is dropped.
pub struct Tool {
    child: Option<Child>,
}

impl Tool {
    pub fn start(arguments: &str) -> Tool {
        Tool::spawn(zerio(arguments))
    }

    /// The tool at another path.
    pub fn start_other(path: &Path, arguments: &str) -> Tool {
        Tool::spawn(piped(Command::new(path), arguments))
    }

    /// A command of a test's own.
    pub fn spawn(mut command: Command) -> Tool {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn();
        // ERROR_INTERNAL_ERROR: on a busy machine Wine was seen to give up one start in some hundreds.
        for _ in 0..5 {
            if is_wine() && child.as_ref().is_err_and(|error| error.raw_os_error() == Some(1359)) {
                child = command.spawn();
            }
        }
        Tool { child: Some(child.expect("the tool starts")) }
    }

    fn child(&mut self) -> &mut Child {
        self.child.as_mut().expect("it has not been finished")
    }

    pub fn id(&mut self) -> u32 {
        self.child().id()
    }

    pub fn stdout(&mut self) -> BufReader<ChildStdout> {
        BufReader::new(self.child().stdout.take().expect("taken once"))
    }

    pub fn stderr(&mut self) -> BufReader<ChildStderr> {
        BufReader::new(self.child().stderr.take().expect("taken once"))
    }

    /// Writes this to its standard input, which stays open.
    pub fn write(&mut self, input: &[u8]) {
        let stdin = self.child().stdin.as_mut().expect("piped");
        stdin.write_all(input).and_then(|()| stdin.flush()).expect("it reads");
    }

    /// Sends it a signal, by its name without SIG. On Windows each but `KILL` is Ctrl-C.
    #[cfg(windows)]
    pub fn signal(&mut self, name: &str) {
        if name == "KILL" {
            return self.child().kill().expect("it is a child");
        }
        ctrl_c::press(self.child().id());
    }

    /// Sends it a signal, by its name without SIG.
    #[cfg(unix)]
    pub fn signal(&mut self, name: &str) {
        signal::send(self.child().id(), name);
    }

    /// Waits for its end, which a watchdog brings about if nothing else does.
    pub fn wait(&mut self) -> ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child().try_wait().expect("it is a child") {
                return status;
            }
            if begun.elapsed() > PATIENCE {
                let _ = self.child().kill();
                panic!("it did not end within {PATIENCE:?}");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Gives it its input, closes it, and waits for its end and all that it wrote.
    pub fn finish(mut self, input: &[u8]) -> Output {
        let mut stdin = self.child().stdin.take().expect("piped");
        let (mut out, mut err) = (self.child().stdout.take(), self.child().stderr.take());
        std::thread::scope(|scope| {
            // It may end before it has read all: then there is nobody to write to.
            scope.spawn(move || drop(stdin.write_all(input)));
            let out = scope.spawn(move || read_all(out.as_mut()));
            let err = scope.spawn(move || read_all(err.as_mut()));
            let status = self.wait();
            Output { status, stdout: out.join().unwrap(), stderr: err.join().unwrap() }
        })
    }
}

impl Drop for Tool {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Waits until something is so.
pub fn until(mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn read_all(from: Option<&mut impl Read>) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(from) = from {
        from.read_to_end(&mut bytes).expect("a pipe can be read");
    }
    bytes
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The next line, without its end.
pub fn line(from: &mut impl BufRead) -> String {
    let mut line = String::new();
    from.read_line(&mut line).expect("a pipe can be read");
    line.trim_end().to_owned()
}

/// The lines until one that has this in it, that one included.
pub fn lines_until(from: &mut impl BufRead, what: &str) -> Vec<String> {
    let mut lines = Vec::new();
    loop {
        let next = line(from);
        assert!(!(next.is_empty() && lines.len() > 1000), "no line with {what:?}: {lines:?}");
        let found = next.contains(what);
        lines.push(next);
        if found {
            return lines;
        }
    }
}

/// The address in a line like "listening on 127.0.0.1:12345, driver …".
pub fn address(line: &str) -> SocketAddr {
    let after = line.split("listening on ").nth(1).unwrap_or_else(|| panic!("no address: {line:?}"));
    let address = after.split(',').next().unwrap_or(after);
    address.parse().unwrap_or_else(|_| panic!("no address: {line:?}"))
}

/// An echo server on a free port: its address, and what it prints from then on.
pub fn server(flags: &str) -> (Tool, SocketAddr, BufReader<ChildStdout>) {
    let mut server = Tool::start(&format!("serve 127.0.0.1:0 {flags}"));
    let mut out = server.stdout();
    let address = address(&line(&mut out));
    (server, address, out)
}

/// The commands that `--help` names.
pub fn commands() -> BTreeSet<String> {
    let help = text(&run("--help", b"").stdout);
    let lines =
        help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let names = lines.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let names: BTreeSet<String> =
        names.filter_map(|line| Some(line.split_whitespace().next()?.into())).collect();
    assert!(names.contains("serve") && names.contains("man"), "{help}");
    names.into_iter().filter(|name| name != "help").collect()
}
