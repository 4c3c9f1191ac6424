//! What `stop` says.
#![forbid(unsafe_code)]

use std::fmt;

use crate::counters::Counters;
use crate::error::{EngineFailure, Undelivered};
use crate::thread::Ended;
use crate::wire::PeerId;

/// How a server or client ended: what was delivered to the kernel, and what was not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// Messages that were accepted and handed to the kernel, over all sessions there ever were.
    pub delivered: u64,
    /// Messages that were not, over all sessions there ever were.
    pub undelivered: Undelivered,
    /// Of those, what the stop itself left, for each peer that it left anything of.
    pub left: Vec<(PeerId, Undelivered)>,
    /// Why an engine ended before the stop.
    pub failure: Option<EngineFailure>,
}

impl Report {
    pub(crate) fn new(ended: Vec<Ended>, counters: &Counters) -> Report {
        let undelivered = Undelivered {
            messages: counters.engine.messages_undelivered,
            bytes: counters.engine.bytes_undelivered,
        };
        let accepted = counters.sessions.sent.messages_accepted;
        let delivered = accepted.saturating_sub(undelivered.messages);
        let mut report = Report { delivered, undelivered, left: Vec::new(), failure: None };
        for engine in ended {
            report.left.extend(engine.left.undelivered);
            report.failure = report.failure.or(engine.failure);
        }
        report
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} messages delivered, {}", self.delivered, self.undelivered)?;
        for (peer, left) in &self.left {
            write!(f, "\n  {peer}: {left}")?;
        }
        if let Some(failure) = &self.failure {
            write!(f, "\nit had ended before: {failure}")?;
        }
        Ok(())
    }
}
