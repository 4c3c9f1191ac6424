//! What `zerio top` knows of a server, and what its user has chosen to see of it.
#![forbid(unsafe_code)]

use std::cmp::Ordering;
use std::path::PathBuf;
use std::time::Duration;

use zerio::{CountersFile, CountersRow, CountersSnapshot, Histogram, WriterState};

use crate::args::SortBy;
use crate::counters::{ago, key, rate, role, state_name, total_rate};

/// An engine that runs and has not told anything for so long does not: a handler keeps it.
const SILENCE: Duration = Duration::from_secs(3);

pub(super) struct Model {
    path: PathBuf,
    file: CountersFile,
    then: CountersSnapshot,
    now: CountersSnapshot,
    pub(super) state: WriterState,
    pub(super) sort: SortBy,
    pub(super) reversed: bool,
    pub(super) paused: bool,
    pub(super) filter: String,
    /// The keys go into the filter.
    pub(super) typing: bool,
    /// The first session that is shown, and how many there was room for.
    pub(super) first: usize,
    pub(super) room: usize,
}

/// A session as it is shown.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Line {
    pub(super) peer: String,
    pub(super) address: String,
    pub(super) state: &'static str,
    /// Messages and bytes in a second.
    pub(super) incoming: f64,
    pub(super) outgoing: f64,
    pub(super) incoming_bytes: f64,
    pub(super) outgoing_bytes: f64,
    /// Parts of the ring, in percent.
    pub(super) ring: u64,
    pub(super) high: u64,
    /// In nanoseconds.
    pub(super) oldest: u64,
    pub(super) full: u64,
    /// In all.
    pub(super) received: u64,
    pub(super) sent: u64,
}

impl Model {
    pub(super) fn new(file: CountersFile, sort: SortBy) -> Model {
        let now = file.read();
        Model {
            path: file.path().to_owned(),
            state: file.state(),
            file,
            then: now.clone(),
            now,
            sort,
            reversed: false,
            paused: false,
            filter: String::new(),
            typing: false,
            first: 0,
            room: 1,
        }
    }

    /// Looks again, unless it is paused.
    pub(super) fn look(&mut self) {
        if self.paused {
            return;
        }
        self.state = self.file.state();
        if self.state != WriterState::Running {
            self.find_again();
        }
        let now = self.file.read();
        self.then = std::mem::replace(&mut self.now, now);
        self.scroll(0);
    }

    /// Where the writer has gone, another one may have come in its place.
    fn find_again(&mut self) {
        let Ok(file) = CountersFile::open(&self.path) else { return };
        if file.state() == WriterState::Running {
            self.now = file.read();
            (self.file, self.state) = (file, WriterState::Running);
        }
    }

    pub(super) fn pause(&mut self) {
        self.paused = !self.paused;
    }

    pub(super) fn sort_by_next(&mut self) {
        use SortBy::{Full, High, In, InBytes, Oldest, Out, OutBytes, Peer, Ring};
        self.sort = match self.sort {
            Peer => In,
            In => Out,
            Out => InBytes,
            InBytes => OutBytes,
            OutBytes => Ring,
            Ring => High,
            High => Oldest,
            Oldest => Full,
            Full => Peer,
        };
    }

    pub(super) fn scroll(&mut self, by: isize) {
        let last = self.lines().len().saturating_sub(self.room);
        self.first = self.first.saturating_add_signed(by).min(last);
    }

    /// Who it is, and what tells it from others at the same address.
    pub(super) fn who(&self) -> (String, u32) {
        (role(&self.file), self.file.writer().process)
    }

    pub(super) fn driver(&self) -> &str {
        self.now.engines.first().and_then(|engine| engine.text("driver")).unwrap_or_default()
    }

    pub(super) fn engines(&self) -> usize {
        self.now.engines.len()
    }

    pub(super) fn sessions_max(&self) -> usize {
        self.file.writer().sessions_max
    }

    pub(super) fn age(&self) -> Duration {
        ago(self.file.writer().started)
    }

    pub(super) fn total(&self, label: &str) -> u64 {
        self.now.total(label)
    }

    pub(super) fn most(&self, label: &str) -> u64 {
        self.now.most(label)
    }

    pub(super) fn rate(&self, label: &str) -> f64 {
        total_rate(&self.then, &self.now, label)
    }

    /// Times since the last look, or all of them where there were none.
    pub(super) fn times(&self, label: &str) -> Option<Histogram> {
        let now = self.now.histogram(label)?;
        let news = self.then.histogram(label).map(|then| now.since(then));
        news.filter(|news| news.count() > 0).or_else(|| Some(now.clone()))
    }

    /// The longest time since its start.
    pub(super) fn longest(&self, label: &str) -> u64 {
        self.now.histogram(label).map_or(0, Histogram::max)
    }

    /// An engine that has not told anything for too long, and for how long.
    pub(super) fn silent(&self) -> Option<(usize, Duration)> {
        if self.state != WriterState::Running || self.paused {
            return None;
        }
        let silence = |engine: &CountersRow| Some((engine.engine, ago(engine.get("published")?)));
        self.now.engines.iter().filter_map(silence).find(|(_, silence)| *silence > SILENCE)
    }

    /// The sessions that the filter lets through, sorted.
    pub(super) fn lines(&self) -> Vec<Line> {
        let wanted = self.filter.to_lowercase();
        let lines = self.now.sessions.iter().map(|session| self.line(session));
        let mut lines: Vec<Line> = lines
            .filter(|line| line.peer.to_lowercase().contains(&wanted) || line.address.contains(&wanted))
            .collect();
        lines.sort_by(|a, b| {
            let order = compare(self.sort, a, b);
            let order = if self.reversed { order.reverse() } else { order };
            order.then_with(|| a.peer.cmp(&b.peer))
        });
        lines
    }

    fn line(&self, session: &CountersRow) -> Line {
        let then = self.then.sessions.iter().find(|then| key(then) == key(session));
        let per_second = |label: &str| then.and_then(|then| rate(then, session, label)).unwrap_or(0.0);
        let number = |label: &str| session.get(label).unwrap_or(0);
        let part = |label: &str| (number(label) * 100).div_ceil(self.file.writer().send_ring.max(1));
        Line {
            peer: session.text("peer").unwrap_or_default().to_owned(),
            address: session.text("address").unwrap_or_default().to_owned(),
            state: state_name(session),
            incoming: per_second("messages_received"),
            outgoing: per_second("messages_accepted"),
            incoming_bytes: per_second("bytes_received"),
            outgoing_bytes: per_second("bytes_sent"),
            ring: part("bytes_unsent"),
            high: part("bytes_unsent_max"),
            oldest: number("oldest_unsent_ns"),
            full: number("full_rings"),
            received: number("messages_received"),
            sent: number("messages_accepted"),
        }
    }
}

/// The order of two sessions: names from a to z, and of numbers the largest first.
fn compare(by: SortBy, a: &Line, b: &Line) -> Ordering {
    match by {
        SortBy::Peer => a.peer.cmp(&b.peer),
        SortBy::In => b.incoming.total_cmp(&a.incoming),
        SortBy::Out => b.outgoing.total_cmp(&a.outgoing),
        SortBy::InBytes => b.incoming_bytes.total_cmp(&a.incoming_bytes),
        SortBy::OutBytes => b.outgoing_bytes.total_cmp(&a.outgoing_bytes),
        SortBy::Ring => b.ring.cmp(&a.ring),
        SortBy::High => b.high.cmp(&a.high),
        SortBy::Oldest => b.oldest.cmp(&a.oldest),
        SortBy::Full => b.full.cmp(&a.full),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_sorted_from_the_largest_and_names_from_the_first() {
        let a = Line { peer: "a".into(), incoming: 1.0, oldest: 5, ..Line::default() };
        let b = Line { peer: "b".into(), incoming: 2.0, oldest: 4, ..Line::default() };
        assert_eq!(compare(SortBy::Peer, &a, &b), Ordering::Less);
        assert_eq!(compare(SortBy::In, &a, &b), Ordering::Greater);
        assert_eq!(compare(SortBy::Oldest, &a, &b), Ordering::Less);
        assert_eq!(compare(SortBy::Full, &a, &b), Ordering::Equal);
    }
}
