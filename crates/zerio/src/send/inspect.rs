//! What a simulation may look at: whether the cursors of a ring are as they must be.
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
}
