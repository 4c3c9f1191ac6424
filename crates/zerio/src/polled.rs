//! An engine that its user drives, for [`PolledServer`](crate::PolledServer) and
//! [`PolledClient`](crate::PolledClient).
#![forbid(unsafe_code)]

use std::sync::Arc;

use crate::config::{Config, ConfigError};
use crate::counters::Counters;
use crate::engine::Core;
use crate::error::{EngineFailure, Error};
use crate::handler::Handler;
use crate::report::Report;
use crate::session::Shared;
use crate::thread::{self, Driven, DriverInfo, Ended, Plan};
use crate::time::Time;

pub(crate) struct Polled<H: Handler> {
    driven: Driven<H>,
    info: DriverInfo,
    /// Set during a turn: found set at the next one, the handler has panicked in between.
    in_turn: bool,
    failure: Option<EngineFailure>,
    /// When the last turn began, if it did work.
    worked: Option<Time>,
    stopped: bool,
}

/// Refuses what is said of an engine's thread: here there is none, and the caller's is not touched.
pub(crate) fn check(config: &Config) -> Result<(), Error> {
    if config.cores.is_empty() {
        return Ok(());
    }
    let why = "an engine that you drive is on a thread of yours, which zerio does not pin";
    Err(ConfigError::new("cores", &config.cores, why, "pin the thread yourself, and name none").into())
}

impl<H: Handler> Polled<H> {
    pub(crate) fn new(plan: Plan, handler: H) -> Result<Polled<H>, Error> {
        let (driven, info) = Driven::new(plan, handler)?;
        Ok(Polled { driven, info, in_turn: false, failure: None, worked: None, stopped: false })
    }

    #[inline]
    pub(crate) fn poll(&mut self) -> Result<usize, Error> {
        if self.in_turn || self.failure.is_some() {
            return Err(self.fail());
        }
        let begun = thread::now();
        let last = self.worked.take();
        self.driven.turned(last.unwrap_or(begun), begun, usize::from(last.is_some()));
        self.in_turn = true;
        let outcome = self.driven.turn(begun);
        self.in_turn = false;
        if let Ok(1..) = outcome {
            self.worked = Some(begun);
        }
        outcome.map_err(|error| {
            self.failure = Some(thread::failure(&error));
            self.in_turn = true;
            self.driven.end_without_driver(error.kind());
            self.in_turn = false;
            self.fail()
        })
    }

    #[cold]
    fn fail(&mut self) -> Error {
        if std::mem::take(&mut self.in_turn) {
            let message = "see what the panic itself has printed".to_owned();
            self.failure = Some(EngineFailure::HandlerPanicked(message));
            self.driven.end_without_handler();
        }
        let unknown = EngineFailure::DriverFailed(std::io::ErrorKind::Other);
        Error::Engine(self.failure.clone().unwrap_or(unknown))
    }

    #[inline]
    pub(crate) fn core(&mut self) -> &mut Core {
        self.driven.core()
    }

    pub(crate) fn handler(&mut self) -> &mut H {
        self.driven.handler()
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.driven.is_finished()
    }

    pub(crate) fn shared(&self) -> Arc<Shared> {
        self.driven.shared().clone()
    }

    pub(crate) fn counters(&self) -> Counters {
        self.driven.shared().counters()
    }

    pub(crate) fn info(&self) -> &DriverInfo {
        &self.info
    }

    pub(crate) fn stop(&mut self) -> Report {
        if self.in_turn {
            self.fail();
        }
        self.driven.shared().stop();
        if self.failure.is_none() {
            // A handler that panics here leaves the rest to `drop`, which ends the engine without it.
            self.in_turn = true;
            self.driven.finish();
            self.in_turn = false;
        }
        self.stopped = true;
        let (left, failure) = (self.driven.take_report(), self.failure.take());
        Report::new(vec![Ended { left, failure, counters: self.counters() }], 1)
    }
}

impl<H: Handler> Drop for Polled<H> {
    fn drop(&mut self) {
        if !self.stopped {
            self.stop();
        }
    }
}
