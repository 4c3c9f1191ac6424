//! A process of a run: started, heard line by line, and ended, however the run went.
#![forbid(unsafe_code)]

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use crate::failure::{During, Failure};
use crate::interrupt;
use crate::job::{Job, Said};

/// Between two looks whether there was a Ctrl-C. Rare, so as not to disturb who is measured.
const LOOK: Duration = Duration::from_millis(200);

pub(crate) struct Process {
    child: Child,
    /// Its end ends the process.
    stdin: Option<ChildStdin>,
    lines: Receiver<Said>,
    side: &'static str,
}

impl Process {
    /// Starts this very program again, in a role.
    pub(crate) fn start(side: &'static str, job: &Job) -> Result<Process, Failure> {
        let program = std::env::current_exe().during("can't find this program")?;
        let mut command = Command::new(program);
        command.args(["role", side, &serde_json::to_string(job)?]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().during(format_args!("can't start the {side}"))?;
        let (sender, lines) = channel();
        let stdin = child.stdin.take();
        if let Some(stdout) = child.stdout.take() {
            // It ends with the process.
            std::thread::spawn(move || {
                for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                    let said = serde_json::from_str(&line).unwrap_or(Said::Failed(line));
                    if sender.send(said).is_err() {
                        break;
                    }
                }
            });
        }
        Ok(Process { child, stdin, lines, side })
    }

    pub(crate) fn id(&self) -> i32 {
        self.child.id() as i32
    }

    /// What it says next; a failure where that takes longer than `within`, where it says that it failed, and where
    /// it has ended.
    pub(crate) fn hear(&self, within: Duration) -> Result<Said, Failure> {
        let begun = Instant::now();
        loop {
            let failed = match self.lines.recv_timeout(LOOK) {
                Ok(Said::Failed(why)) => Failure::new(why),
                Ok(said) => return Ok(said),
                Err(RecvTimeoutError::Disconnected) => Failure::new("it ended without a result"),
                Err(RecvTimeoutError::Timeout) if interrupt::seen() => Failure::new("interrupted"),
                Err(RecvTimeoutError::Timeout) if begun.elapsed() < within => continue,
                Err(RecvTimeoutError::Timeout) => {
                    Failure::new(format_args!("it said nothing for {} s", within.as_secs()))
                }
            };
            return Err(failed.at(format_args!("the {}", self.side)));
        }
    }

    pub(crate) fn tell(&mut self, what: &str) -> Result<(), Failure> {
        match &mut self.stdin {
            Some(stdin) => writeln!(stdin, "{what}").during(format_args!("the {} is gone", self.side)),
            None => Ok(()),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.stdin.take());
        // Where it has ended already, both say so, and that is as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
