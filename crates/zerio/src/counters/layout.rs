//! Where everything stands in a counters file: a row of 64-bit words, in the byte order of the machine. The header
//! says where the table of fields, the engines' lines, the sessions' lines and the histograms are; the table names
//! each field, so that a reader need not know them. `docs/counters.md` has the same in words and in hex, which a
//! test holds against this file.
#![forbid(unsafe_code)]

use std::ops::Range;

use super::histogram;
use super::{EngineTotals, SessionCounters};
use crate::cursor::Word;

/// The first word: `ZERIOCNT`.
pub(crate) const MAGIC: u64 = u64::from_ne_bytes(*b"ZERIOCNT");

/// What this file describes. A reader of this version understands no other.
pub(crate) const VERSION: u64 = 1;

/// The words of the header that are numbers.
pub(crate) mod header {
    pub(crate) const MAGIC: usize = 0;
    pub(crate) const VERSION: usize = 1;
    /// Whether the writer is at work: see `state`.
    pub(crate) const STATE: usize = 2;
    pub(crate) const PROCESS: usize = 3;
    /// 1 a server, 2 a client.
    pub(crate) const ROLE: usize = 4;
    /// When it was started, in nanoseconds since 1970.
    pub(crate) const STARTED: usize = 5;
    /// When the writer's clock, from which all other times are, was 0: in nanoseconds since 1970.
    pub(crate) const CLOCK: usize = 6;
    /// The file's length in bytes.
    pub(crate) const LENGTH: usize = 7;
    pub(crate) const ENGINES: usize = 8;
    /// Slots for sessions of each engine.
    pub(crate) const SLOTS: usize = 9;
    /// Four tables: where each starts, in bytes, and how long one of its entries is.
    pub(crate) const FIELDS: usize = 10;
    pub(crate) const ENGINE_LINES: usize = 12;
    pub(crate) const SESSION_LINES: usize = 14;
    pub(crate) const HISTOGRAMS: usize = 16;
    /// How many fields the table has.
    pub(crate) const FIELD_COUNT: usize = 18;
    /// How many histograms each engine has.
    pub(crate) const HISTOGRAM_COUNT: usize = 19;
    /// Buckets of a histogram for each power of two, as a power of two, and how many in all.
    pub(crate) const PRECISION: usize = 20;
    pub(crate) const BUCKETS: usize = 21;
    /// Where in a histogram its buckets start, in bytes.
    pub(crate) const BUCKETS_AT: usize = 22;
    /// From the configuration.
    pub(crate) const SESSIONS_MAX: usize = 23;
    pub(crate) const SEND_RING: usize = 24;
    pub(crate) const RECEIVE_BUFFER: usize = 25;
    pub(crate) const MESSAGE_MAX: usize = 26;
    /// Texts, filled up with zeros.
    pub(crate) const ADDRESS: std::ops::Range<usize> = 32..48;
    pub(crate) const LIBRARY: std::ops::Range<usize> = 48..64;
    pub(crate) const WORDS: usize = 64;
}

/// What the header's `STATE` may be.
pub(crate) mod state {
    /// The writer is about to begin, and nothing else is there yet.
    pub(crate) const BEGINNING: u64 = 0;
    pub(crate) const RUNNING: u64 = 1;
    /// It ended in order.
    pub(crate) const ENDED: u64 = 2;
}

/// What a field is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FieldScope {
    /// A line of an engine's.
    Engine,
    /// A line of a session's.
    Session,
    /// The histograms of an engine.
    Histogram,
}

/// What kind of value a field has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FieldKind {
    /// It only grows while its session or engine lives.
    Counter,
    /// It goes up and down.
    Gauge,
    /// A moment, by the writer's clock.
    Time,
    /// Text, filled up with zeros.
    Text,
    /// An IP address and a port.
    Address,
    /// Where a session stands in its life.
    State,
    /// A histogram of times.
    Histogram,
}

/// The numbers of scopes and kinds in a file: one more than their places here.
pub(crate) const SCOPES: [FieldScope; 3] = [FieldScope::Engine, FieldScope::Session, FieldScope::Histogram];
pub(crate) const KINDS: [FieldKind; 7] = [
    FieldKind::Counter,
    FieldKind::Gauge,
    FieldKind::Time,
    FieldKind::Text,
    FieldKind::Address,
    FieldKind::State,
    FieldKind::Histogram,
];

/// An entry of the table, in words: scope, kind, where it stands in its line, how many words it has, its unit in two
/// words, two that say nothing yet, its label and its meaning.
pub(crate) mod entry {
    use std::ops::Range;
    pub(crate) const SCOPE: usize = 0;
    pub(crate) const KIND: usize = 1;
    pub(crate) const AT: usize = 2;
    pub(crate) const LEN: usize = 3;
    pub(crate) const UNIT: Range<usize> = 4..6;
    pub(crate) const LABEL: Range<usize> = 8..14;
    pub(crate) const MEANING: Range<usize> = 14..32;
    pub(crate) const WORDS: usize = 32;
}

/// A field, as the table names it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Named {
    pub(crate) scope: FieldScope,
    pub(crate) kind: FieldKind,
    /// Its first word in its line, the line's version being word 0; of a histogram, among those of its engine.
    pub(crate) at: usize,
    pub(crate) words: usize,
    pub(crate) label: &'static str,
    pub(crate) meaning: &'static str,
}

impl Named {
    /// From the label: what is counted in nanoseconds and bytes says so.
    pub(crate) fn unit(&self) -> &'static str {
        match self.kind {
            FieldKind::Text | FieldKind::Address | FieldKind::State => "",
            FieldKind::Time | FieldKind::Histogram => "ns",
            FieldKind::Counter | FieldKind::Gauge if self.label.ends_with("_ns") => "ns",
            FieldKind::Counter | FieldKind::Gauge if self.label.starts_with("bytes_") => "bytes",
            FieldKind::Counter | FieldKind::Gauge if self.label.starts_with("messages_") => "messages",
            FieldKind::Counter | FieldKind::Gauge => "",
        }
    }
}

/// Words of an engine's line, whole cache lines.
pub(crate) const ENGINE_WORDS: usize = 48;
/// Words of a session's line.
pub(crate) const SESSION_WORDS: usize = 64;

/// Where what is no counter stands in an engine's line.
pub(crate) mod engine {
    pub(crate) const PUBLISHED: usize = 1;
    pub(crate) const DRIVER: std::ops::Range<usize> = 2..4;
    pub(crate) const SESSIONS: usize = 4;
    pub(crate) const LAST_TURN: usize = 5;
    pub(crate) const COUNTERS: usize = 8;
}

/// Where what is no counter stands in a session's line.
pub(crate) mod session {
    pub(crate) const PUBLISHED: usize = 1;
    pub(crate) const STATE: usize = 2;
    pub(crate) const GENERATION: usize = 3;
    pub(crate) const SINCE: usize = 4;
    pub(crate) const ADDRESS: std::ops::Range<usize> = 5..8;
    pub(crate) const PAUSED: usize = 8;
    pub(crate) const RECEIVE_BUFFER_USED: usize = 9;
    pub(crate) const RING_USED: usize = 10;
    pub(crate) const RING_HIGH_WATER: usize = 11;
    pub(crate) const OLDEST_UNSENT: usize = 12;
    pub(crate) const COUNTERS: usize = 16;
    pub(crate) const ID: std::ops::Range<usize> = 32..64;
}

/// The histograms of an engine, in order.
pub(crate) const TURNS: usize = 0;
pub(crate) const TO_KERNEL: usize = 1;
pub(crate) const HISTOGRAMS: usize = 2;

/// Every field, in the order of the table.
pub(crate) fn fields() -> Vec<Named> {
    use FieldKind::{Address, Gauge, Histogram, State, Text, Time};
    let one = |scope, at, kind, label, meaning| Named { scope, kind, at, words: 1, label, meaning };
    let many = |scope, at: Range<usize>, kind, label, meaning| Named {
        scope,
        kind,
        at: at.start,
        words: at.len(),
        label,
        meaning,
    };
    let times = |which: usize, label, meaning| {
        let at = which * histogram::WORDS;
        many(FieldScope::Histogram, at..at + histogram::WORDS, Histogram, label, meaning)
    };
    let (e, s) = (FieldScope::Engine, FieldScope::Session);
    let mut fields = vec![
        one(e, engine::PUBLISHED, Time, "published", "When this line was written last."),
        many(e, engine::DRIVER, Text, "driver", "The engine's way to the kernel."),
        one(e, engine::SESSIONS, Gauge, "sessions", "Sessions that are open."),
        one(e, engine::LAST_TURN, Gauge, "last_turn_ns", "How long the last turn that did work took."),
    ];
    let (own, totals) = (SessionCounters::default(), EngineTotals::default());
    let own: Vec<_> = own.table().map(|(label, _, meaning)| (label, meaning)).collect();
    let totals: Vec<_> = totals.table().map(|(label, _, meaning)| (label, meaning)).collect();
    let counter = |scope, first| {
        move |(at, (label, meaning)): (usize, (&'static str, &'static str))| {
            // Only the longest of something is not a sum of what happened.
            let kind = if label.starts_with("longest_") { Gauge } else { FieldKind::Counter };
            Named { scope, kind, at: first + at, words: 1, label, meaning }
        }
    };
    let all = own.iter().chain(&totals).copied();
    fields.extend(all.enumerate().map(counter(e, engine::COUNTERS)));
    fields.extend([
        one(s, session::PUBLISHED, Time, "published", "When this line was written last."),
        one(s, session::STATE, State, "state", "Where it stands in its life: see docs/counters.md."),
        one(s, session::GENERATION, Gauge, "generation", "Which of the slot's sessions it is."),
        one(s, session::SINCE, Time, "since", "When this session was seen first."),
        many(s, session::ADDRESS, Address, "address", "The peer's address."),
        one(s, session::PAUSED, Gauge, "paused", "1 while its reading is paused."),
        one(s, session::RECEIVE_BUFFER_USED, Gauge, "bytes_buffered", "Bytes received, not yet handed out."),
        one(s, session::RING_USED, Gauge, "bytes_unsent", "Bytes of the send ring that are in use."),
        one(s, session::RING_HIGH_WATER, Gauge, "bytes_unsent_max", "The most, to a sixteenth of the ring."),
        one(s, session::OLDEST_UNSENT, Gauge, "oldest_unsent_ns", "The age of the oldest unsent byte."),
    ]);
    fields.extend(own.into_iter().enumerate().map(counter(s, session::COUNTERS)));
    fields.extend([
        many(s, session::ID, Text, "peer", "The peer id."),
        times(TURNS, "turn_ns", "How long turns that did work took."),
        times(
            TO_KERNEL,
            "to_kernel_ns",
            "From commit to kernel: the first message of each ring's sixteenths.",
        ),
    ]);
    fields
}

/// How large everything is, for so many engines and slots.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    pub(crate) engines: usize,
    pub(crate) slots: usize,
    fields: usize,
}

impl Layout {
    pub(crate) fn new(engines: usize, slots: usize) -> Layout {
        Layout { engines, slots, fields: fields().len() }
    }

    /// The first word of each part.
    pub(crate) fn table(&self) -> usize {
        header::WORDS
    }

    pub(crate) fn engine_lines(&self) -> usize {
        self.table() + self.fields * entry::WORDS
    }

    pub(crate) fn histograms(&self) -> usize {
        self.engine_lines() + self.engines * ENGINE_WORDS
    }

    pub(crate) fn session_lines(&self) -> usize {
        self.histograms() + self.engines * HISTOGRAMS * histogram::WORDS
    }

    /// Words of the whole.
    pub(crate) fn words(&self) -> usize {
        self.session_lines() + self.engines * self.slots * SESSION_WORDS
    }

    pub(crate) fn bytes(&self) -> usize {
        self.words() * size_of::<u64>()
    }

    pub(crate) fn engine(&self, engine: usize) -> Range<usize> {
        let start = self.engine_lines() + engine * ENGINE_WORDS;
        start..start + ENGINE_WORDS
    }

    pub(crate) fn histogram(&self, engine: usize, which: usize) -> usize {
        self.histograms() + (engine * HISTOGRAMS + which) * histogram::WORDS
    }

    pub(crate) fn session(&self, engine: usize, slot: usize) -> Range<usize> {
        let start = self.session_lines() + (engine * self.slots + slot) * SESSION_WORDS;
        start..start + SESSION_WORDS
    }
}

/// Writes text into words, filled up with zeros, and cut where it does not fit.
pub(crate) fn put_text(words: &[Word], text: &[u8]) {
    let mut pieces = text.chunks(size_of::<u64>());
    for word in words {
        let mut bytes = [0; size_of::<u64>()];
        let piece = pieces.next().unwrap_or_default();
        bytes[..piece.len()].copy_from_slice(piece);
        word.set(u64::from_ne_bytes(bytes));
    }
}

/// The text that words have.
pub(crate) fn text(words: impl IntoIterator<Item = u64>) -> String {
    let bytes: Vec<u8> = words.into_iter().flat_map(u64::to_ne_bytes).take_while(|&byte| byte != 0).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_do_not_overlap_and_fit_their_lines_and_the_table() {
        let mut taken = std::collections::BTreeSet::new();
        for field in fields() {
            let room = match field.scope {
                FieldScope::Engine => ENGINE_WORDS,
                FieldScope::Session => SESSION_WORDS,
                FieldScope::Histogram => HISTOGRAMS * histogram::WORDS,
            };
            assert!(field.at + field.words <= room, "{field:?}");
            assert!(
                field.at > 0 || field.scope == FieldScope::Histogram,
                "{field:?} stands in the version's place"
            );
            for at in field.at..field.at + field.words {
                assert!(
                    taken.insert((SCOPES.iter().position(|&scope| scope == field.scope), at)),
                    "{field:?}"
                );
            }
            assert!(
                field.label.len() < entry::LABEL.len() * 8 && field.meaning.len() < entry::MEANING.len() * 8
            );
            assert!(field.unit().len() <= 16);
        }
    }

    #[test]
    fn every_line_is_on_cache_lines_of_its_own() {
        let layout = Layout::new(3, 5);
        let starts = [layout.engine(2).start, layout.session(2, 4).start, layout.histogram(1, 1)];
        assert!(starts.iter().all(|start| start % 16 == 0), "{starts:?}");
        assert_eq!(layout.session(2, 4).end, layout.words());
    }
}
