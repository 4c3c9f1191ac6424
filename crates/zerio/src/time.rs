//! Time as a parameter: whoever drives an engine says what time it is. Only `thread.rs` reads a clock.
#![forbid(unsafe_code)]

#[cfg(feature = "sim")]
use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "sim")]
use crate::cursor::Cursor;

/// What tells the time to those who can't be told it: senders that wait until a deadline, and handlers that have
/// taken their time since the turn began.
#[derive(Clone)]
pub(crate) enum Clock {
    /// The system's, as `thread.rs` reads it.
    System(fn() -> Time),
    /// A simulated world's, which shows how many nanoseconds old it is.
    #[cfg(feature = "sim")]
    Simulated(Arc<Cursor>),
}

impl Clock {
    #[inline]
    pub(crate) fn now(&self) -> Time {
        match self {
            Clock::System(now) => now(),
            #[cfg(feature = "sim")]
            Clock::Simulated(hand) => Time(hand.own()),
        }
    }
}

/// Nanoseconds since a start that the clock's owner chose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Time(u64);

impl Time {
    /// A time that never comes.
    pub(crate) const NEVER: Time = Time(u64::MAX);

    /// A time so many nanoseconds after the clock's start.
    #[inline]
    pub(crate) const fn from_nanos(nanos: u64) -> Time {
        Time(nanos)
    }

    /// How many they are.
    #[inline]
    pub(crate) const fn nanos(self) -> u64 {
        self.0
    }

    /// This time and `later` on top; a sum that does not fit is a time that never comes.
    #[inline]
    pub(crate) fn after(self, later: Duration) -> Time {
        let nanos = u64::try_from(later.as_nanos()).unwrap_or(u64::MAX);
        Time(self.0.saturating_add(nanos))
    }

    /// How long it was from `earlier` to this time; zero where it was not earlier.
    #[inline]
    pub(crate) fn since(self, earlier: Time) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}
