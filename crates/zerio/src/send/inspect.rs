//! What a simulation may look at: whether the cursors of a ring are as they must be, and nothing is forgotten.
#![forbid(unsafe_code)]

use super::SendPath;
use super::pump::Pump;
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
        let consistent = pump.in_flight > 0 || acked == submitted || self.has_sealed();
        let what = || format!("acked {acked}, submitted {submitted}, committed {committed}");
        (!orderly || !consistent).then(what)
    }

    /// Whether it accepts no more messages.
    pub(crate) fn is_closed(&self) -> bool {
        self.ring.word().is_closed()
    }

    /// Whether something of the ring is sealed, and waits for room: it is submitted, and nothing is in flight.
    fn has_sealed(&self) -> bool {
        #[cfg(feature = "tls")]
        if let Some(sealed) = &self.sealed {
            return wait::take_soon(sealed).is_of_ring();
        }
        false
    }

    /// Whether there is something to hand to the kernel. Under TLS that may be nothing of the ring's, and what is in the
    /// ring may have to stay there.
    fn has_more(&self, pump: &Pump) -> bool {
        #[cfg(feature = "tls")]
        if let Some(sealed) = &self.sealed {
            let (idle, over) = wait::take_soon(sealed).is_said();
            return !(over || idle && self.ring.is_drained(&pump.reader));
        }
        !self.ring.is_drained(&pump.reader)
    }

    /// Whether something was committed that nobody will look for: nothing is in flight, whose completion would bring
    /// the engine here, no mark stands, and the engine has not promised to look.
    pub(crate) fn is_forgotten(&self) -> bool {
        let pump = wait::take_soon(&self.pump);
        let waits = pump.in_flight == 0 && self.has_more(&pump);
        waits && !self.watched.seems_to_hold() && !self.bell.is_marked(self.index)
    }
}
