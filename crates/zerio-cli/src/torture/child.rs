//! The processes that are not the server: this tool again, in another role. One ends when its standard input
//! does, and says what it has to say in lines on standard output.
#![forbid(unsafe_code)]

use std::io::{BufRead, BufReader, Read, Write, stdin, stdout};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
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
    /// Its lines; nobody waits for them in vain, because a thread of their own reads them.
    lines: Receiver<String>,
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
        let Some(out) = child.stdout.take() else { return Err(Failure::new("a child without an output")) };
        let (told, lines) = channel();
        let read = move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                let _ = told.send(line);
            }
        };
        std::thread::Builder::new().spawn(read)?;
        Ok(Process { child, lines })
    }

    /// The next line that it says, waited for.
    pub(super) fn hear(&mut self) -> Result<String, Failure> {
        self.lines
            .recv_timeout(2 * PATIENCE)
            .map_err(|_| Failure::new("a child ended without a word, or hangs"))
    }

    /// The same, not waited for: `None` while it has said nothing, an empty line where it has ended.
    pub(super) fn hear_now(&mut self) -> Option<String> {
        match self.lines.try_recv() {
            Ok(line) => Some(line),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(String::new()),
        }
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
        let last = self.lines.iter().last();
        last.ok_or_else(|| Failure::new(format!("{what}: it ended without a word")))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
