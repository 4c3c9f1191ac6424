//! What a simulation may look at: whether the cursors of a ring are as they must be, and nothing is forgotten.
#![forbid(unsafe_code)]

use super::SendPath;
use crate::wait;

impl SendPath {
    /// `acked ≤ submitted ≤ committed ≤ acked + capacity`, or what they are instead. Nothing is in flight
    /// unless `submitted` is ahead.
    pub(crate) fn fault(&self) -> Option<String> {
        let pump = wait::take_soon(&self.pump);
        let (acked, submitted) = pump.reader.cursors();
        let committed = self.ring.word().position();
        let orderly =
            acked <= submitted && submitted <= committed && committed <= acked + self.ring.capacity();
        let consistent = pump.in_flight || acked == submitted;
        let what = || format!("acked {acked}, submitted {submitted}, committed {committed}");
        (!orderly || !consistent).then(what)
    }

    /// Whether something was committed that nobody will look for: nothing is in flight, whose completion would bring
    /// the engine here, no mark stands, and the engine has not promised to look.
    pub(crate) fn is_forgotten(&self) -> bool {
        let pump = wait::take_soon(&self.pump);
        let waits = !pump.in_flight && !self.ring.is_drained(&pump.reader);
        waits && !self.watched.seems_to_hold() && !self.bell.is_marked(self.index)
    }
}
