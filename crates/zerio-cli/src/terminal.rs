//! Standard error: notes, and what is shown to a human on a terminal and to nobody else, progress.
#![forbid(unsafe_code)]

use std::fmt::Display;
use std::io::{IsTerminal, Write, stderr};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

/// What takes no longer than this shows no progress.
const PATIENCE: Duration = Duration::from_secs(2);

/// A line on standard error. That nobody can read it is no reason to fail, as `eprintln!` would.
pub(crate) fn note(line: impl Display) {
    let _ = writeln!(stderr(), "{line}");
}

/// So many of them, in words.
pub(crate) fn counted(number: u64, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// A bar over so many steps, which take about so long in all. It is drawn when it is told of a step, and has no
/// thread that could disturb a measurement; nothing is drawn where standard error is no terminal.
pub(crate) fn bar(steps: u64, time: Duration) -> ProgressBar {
    if time < PATIENCE {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(Some(steps), ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed} {msg}");
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// How many steps there have been, where nobody knows how many there will be. It is drawn as a bar is, and says
/// nothing for as long as a user likes to wait.
pub(crate) fn count() -> ProgressBar {
    let count = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    let so_far = |state: &ProgressState, out: &mut dyn std::fmt::Write| {
        if state.elapsed() >= PATIENCE {
            let _ = write!(out, "{} in {:.0?}", state.pos(), state.elapsed());
        }
    };
    let style = ProgressStyle::with_template("{so_far}").unwrap_or_else(|_| ProgressStyle::default_spinner());
    count.with_style(style.with_key("so_far", so_far))
}

/// Does some work, and shows that it goes on if it takes longer than a user likes to wait for a sign of
/// life.
pub(crate) fn patiently<T>(what: &str, work: impl FnOnce() -> T) -> T {
    if !stderr().is_terminal() {
        return work();
    }
    let (done, is_done) = sync_channel::<()>(1);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            if let Err(RecvTimeoutError::Timeout) = is_done.recv_timeout(PATIENCE) {
                let spinner = ProgressBar::new_spinner().with_message(what.to_owned());
                spinner.enable_steady_tick(Duration::from_millis(100));
                let _ = is_done.recv();
                spinner.finish_and_clear();
            }
        });
        let outcome = work();
        drop(done);
        outcome
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_outcome_of_patient_work_comes_back() {
        assert_eq!(super::patiently("working", || 7), 7);
    }
}
