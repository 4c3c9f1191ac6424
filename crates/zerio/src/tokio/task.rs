//! An engine as a task of the runtime: it turns while there is work, and sleeps in the runtime's selector, which watches
//! its own.
#![forbid(unsafe_code)]

use std::io::{self, ErrorKind};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use mio::Registry;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::oneshot;

use crate::driver::Driver;
use crate::driver::poll::Poll;
use crate::engine::{Engine, Outcome};
use crate::error::{EngineFailure, Error};
use crate::handler::Handler;
use crate::thread::{self, Ended, Plan, now};
use crate::wait;

/// The one driver whose selector can be in another.
pub(super) const DRIVER: &str = Poll::NAME;

pub(super) struct Task<H: Handler> {
    /// The engine's selector, in the runtime's.
    selector: AsyncFd<Registry>,
    engine: Engine<Poll, H>,
    /// Where a client's outcome goes, until there is one.
    outcome: Option<oneshot::Sender<Outcome>>,
    failure: Option<EngineFailure>,
}

impl<H: Handler> Task<H> {
    /// To be called inside the runtime.
    pub(super) fn new(
        plan: Plan,
        handler: H,
        outcome: Option<oneshot::Sender<Outcome>>,
    ) -> Result<Task<H>, Error> {
        let mut engine = thread::on_poll(plan, handler)?;
        let refused = |why| Error::System { what: "a selector in the runtime's", why };
        let selector = engine.driver().selector().map_err(refused)?;
        // A runtime does not tell what it lacks but by a panic.
        let watched = catch_unwind(|| {
            drop(tokio::time::timeout(Duration::ZERO, std::future::pending::<()>()));
            watch(selector)
        });
        let lacks = "the runtime was built without I/O or without time: enable_all() brings both";
        let selector = watched.map_err(|_| Error::Runtime { why: lacks })?.map_err(refused)?;
        #[cfg(feature = "tracing")]
        crate::trace::driven(DRIVER, None);
        Ok(Task { selector, engine, outcome, failure: None })
    }

    /// Its life.
    pub(super) async fn run(mut self) -> Ended {
        while !self.is_over() {
            match self.turn() {
                None => break,
                Some(0) if !self.is_over() => {
                    if let Err(error) = self.doze().await {
                        self.fail(&error);
                    }
                }
                Some(_) => wait::give_way().await,
            }
        }
        #[cfg(feature = "tracing")]
        if let Some(failure) = &self.failure {
            crate::trace::failed(failure);
        }
        Ended {
            left: self.engine.take_report(),
            failure: self.failure.take(),
            counters: self.engine.shared().counters(),
        }
    }

    fn is_over(&self) -> bool {
        self.failure.is_some() || (self.engine.is_finished() && self.outcome.is_none())
    }

    /// One turn; `None` where it was the last, because something has failed.
    fn turn(&mut self) -> Option<usize> {
        let begun = now();
        match catch_unwind(AssertUnwindSafe(|| self.engine.turn(begun))) {
            Ok(Ok(work)) => {
                if let Some(what) = self.engine.core().take_outcome() {
                    // Who asked may have given up; then the engine is stopped.
                    let _ = self.outcome.take().map(|outcome| outcome.send(what));
                } else if self.engine.is_finished() {
                    self.outcome = None;
                }
                self.engine.turned(begun, now(), work);
                Some(work)
            }
            Ok(Err(error)) => {
                self.fail(&error);
                None
            }
            Err(panic) => {
                self.failure = Some(EngineFailure::HandlerPanicked(thread::panic_message(panic.as_ref())));
                self.engine.end_without_handler();
                self.finish();
                None
            }
        }
    }

    fn fail(&mut self, error: &io::Error) {
        self.failure = Some(thread::failure(error));
        self.engine.end_without_driver(error.kind());
    }

    /// Turns until an engine that nothing waits for has ended.
    fn finish(&mut self) {
        while !self.engine.is_finished() {
            if let Err(error) = self.engine.turn(now()) {
                self.engine.end_without_driver(error.kind());
            }
        }
    }

    /// Waits until something happens, but not for longer than the engine may; the next turn sees what it was.
    async fn doze(&mut self) -> io::Result<()> {
        let Some(bound) = self.engine.fall_asleep(now()) else { return Ok(()) };
        // What the turn has asked of the driver is no event of the selector's.
        if bound.is_zero() || !self.engine.driver().may_wait() {
            wait::give_way().await;
        } else if let Ok(ready) = tokio::time::timeout(bound, self.selector.readable()).await {
            // Before the look: what comes after it makes the selector ready anew.
            ready?.clear_ready();
        }
        self.engine.driver().look()?;
        self.engine.stay_asleep(Duration::ZERO)
    }
}

/// What its unsafe successor asks for is kept: the descriptor is the registry's own, and open until this is dropped.
#[allow(deprecated)]
fn watch(selector: Registry) -> io::Result<AsyncFd<Registry>> {
    AsyncFd::with_interest(selector, Interest::READABLE)
}

/// The runtime may end before the engine. Its sessions end then, and who holds a handle hears that.
impl<H: Handler> Drop for Task<H> {
    fn drop(&mut self) {
        if !self.engine.is_finished() {
            self.engine.end_without_driver(ErrorKind::Interrupted);
            // A counters file has its last figures then.
            self.engine.take_report();
        }
    }
}
