//! How much of all that can happen did.
#![forbid(unsafe_code)]

use std::fmt;

/// What can happen, by who is told of it, or as which fault; other things are not counted.
const KINDS: [&str; 52] = [
    "ended PeerClosed",
    "ended Truncated",
    "ended Connection",
    "ended BadFrame",
    "ended SlowPeer",
    "ended Disconnected",
    "ended Replaced",
    "ended Stopped",
    "ended DriverFailed",
    "ended Tls",
    "no session PeerClosed",
    "no session Truncated",
    "no session Connection",
    "no session DriverFailed",
    "no session Tls",
    "refused AlreadyConnected",
    "refused ServerFull",
    "refused NotAllowed",
    "refused BadPeerId",
    "refused TooLate",
    "refused BadFrame",
    "refused Stopping",
    "refused TooManyFromAddress",
    "refused TooManyPerSecond",
    "refused TlsRequired",
    "told Connect",
    "told TimedOut",
    "told Refused",
    "told Ended",
    "send Full",
    "send Closed",
    "send UnknownPeer",
    "send TooLarge",
    "fault short receive",
    "fault short send",
    "fault refusal",
    "fault silence",
    "fault reset",
    "fault cut link",
    "fault no room",
    "fault half close",
    "fault connect error",
    "fault late completion",
    "fault late wake-up",
    "fault idle wake-up",
    "fault full ring",
    "fault accept error",
    "fault adopt error",
    "fault listen error",
    "fault driver failure",
    "handler panic",
    "session new key",
];

/// How often each kind of thing happened in a storm: why sessions ended, why connections did not become any, what
/// clients and senders were told, and what went wrong.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Reach([u64; KINDS.len()]);

impl Reach {
    /// Each kind, and how often it happened.
    pub fn kinds(&self) -> impl Iterator<Item = (&'static str, u64)> {
        KINDS.into_iter().zip(self.0)
    }

    /// One more of the kind that this is, by its name.
    pub(super) fn note(&mut self, whose: &str, what: &impl fmt::Debug) {
        let name = format!("{what:?}");
        self.add(whose, name.split([' ', '(', '{']).next().unwrap_or_default(), 1);
    }

    pub(super) fn add(&mut self, whose: &str, name: &str, times: u64) {
        let is = |kind: &&str| kind.strip_prefix(whose).and_then(|rest| rest.strip_prefix(' ')) == Some(name);
        if let Some(at) = KINDS.iter().position(is) {
            self.0[at] += times;
        }
    }
}

impl Default for Reach {
    fn default() -> Reach {
        Reach([0; KINDS.len()])
    }
}

impl fmt::Debug for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.kinds().filter(|(_, often)| *often > 0)).finish()
    }
}
