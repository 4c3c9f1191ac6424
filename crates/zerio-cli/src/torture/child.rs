//! The processes that are not the server: this tool again, in another role. One ends when its standard input
//! does, and says what it has to say in lines on standard output.
#![forbid(unsafe_code)]

use std::io::{BufRead, BufReader, Read, Write, stdin, stdout};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::PATIENCE;
use crate::args::Role;
use crate::failure::Failure;

/// For the child: a line for the parent.
pub(super) fn say(line: &str) -> Result<(), Failure> {
    let mut out = stdout();
    writeln!(out, "{line}").and_then(|()| out.flush()).map_err(Failure::output)
}

/// For the child: whether the parent wants the end, or is gone.
pub(super) fn until_input_ends() -> impl Fn() -> bool + Clone {
    let ended = Arc::new(AtomicBool::new(false));
    let ends = ended.clone();
    std::thread::spawn(move || {
        let _ = stdin().read_to_end(&mut Vec::new());
        ends.store(true, Ordering::Release);
    });
    move || ended.load(Ordering::Acquire)
}

/// For the parent: a child, killed when it is dropped.
pub(super) struct Process {
    pub(super) child: Child,
    out: BufReader<ChildStdout>,
}

impl Process {
    pub(super) fn start(role: Role, server: SocketAddr, flags: &[String]) -> Result<Process, Failure> {
        let tool = std::env::current_exe()?;
        // One that is killed has nothing to say, and a full server may not let it in.
        let errors = if role == Role::Killed { Stdio::null() } else { Stdio::inherit() };
        let role = format!("--role={role:?}").to_lowercase();
        let mut child = Command::new(tool)
            .args(["torture", &role, &format!("--server={server}")])
            .args(flags)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors)
            // A Ctrl-C is the parent's, who ends them in order.
            .process_group(0)
            .spawn()?;
        let out = child.stdout.take().map(BufReader::new);
        let Some(out) = out else { return Err(Failure::new("a child without a standard output")) };
        Ok(Process { child, out })
    }

    /// The next line that it says; empty when it has ended.
    pub(super) fn hear(&mut self) -> Result<String, Failure> {
        let mut line = String::new();
        self.out.read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }

    /// Lets it end, and gives its last words.
    pub(super) fn finish(mut self, what: &str) -> Result<String, Failure> {
        self.child.stdin = None;
        let begun = Instant::now();
        // It says little: that fits the pipe, and it ends without being heard.
        while self.child.try_wait()?.is_none() {
            if begun.elapsed() > 2 * PATIENCE {
                return Err(Failure::new(format!("{what}: no end within {:?}", 2 * PATIENCE)));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let mut rest = String::new();
        self.out.read_to_string(&mut rest)?;
        match rest.lines().last() {
            Some(line) => Ok(line.to_owned()),
            None => Err(Failure::new(format!("{what}: it ended without a word"))),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
