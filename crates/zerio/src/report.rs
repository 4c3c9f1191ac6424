//! What `stop` says.
#![forbid(unsafe_code)]

use std::fmt;

use crate::error::{Counted, EngineFailure, Undelivered};
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
    /// Whether all engines had ended. `stop` can't wait for one from inside its own handler: then nothing of that
    /// engine is in what stands above. It goes on for up to `drain_timeout`, and the disconnected events tell what
    /// becomes of its sessions.
    pub finished: bool,
}

impl Report {
    /// Of so many engines these have ended. What was accepted is delivered or counted as undelivered then, and not
    /// before.
    pub(crate) fn new(ended: Vec<Ended>, engines: usize) -> Report {
        let mut report = Report { finished: ended.len() == engines, ..Report::default() };
        for Ended { left, failure, counters } in ended {
            let accepted = counters.sessions.sent.messages_accepted;
            let undelivered = counters.engine.messages_undelivered;
            report.delivered += accepted.saturating_sub(undelivered);
            report.undelivered.messages += undelivered;
            report.undelivered.bytes += counters.engine.bytes_undelivered;
            report.left.extend(left.undelivered);
            report.failure = report.failure.or(failure);
        }
        report
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} delivered, {}", Counted(self.delivered, "message"), self.undelivered)?;
        for (peer, left) in &self.left {
            write!(f, "\n  {peer}: {left}")?;
        }
        if !self.finished {
            write!(f, "\nit has not ended yet, and this is not all")?;
        }
        if let Some(failure) = &self.failure {
            write!(f, "\nit had ended before: {failure}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_in_words_counts_one_as_one() {
        let of = |delivered, messages, bytes| {
            let undelivered = Undelivered { messages, bytes };
            Report { delivered, undelivered, finished: true, ..Report::default() }.to_string()
        };
        assert_eq!(of(1, 0, 0), "1 message delivered, 0 messages (0 bytes) undelivered");
        assert_eq!(of(2, 1, 1), "2 messages delivered, 1 message (1 byte) undelivered");
    }
}
