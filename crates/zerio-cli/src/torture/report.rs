//! What `zerio torture` prints, and what it takes for a fault when all is counted. What was seen to be one while the
//! run went on is among it.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::io::{Write, stdout};

use serde::Serialize;

use super::misbehave;
use crate::args;
use crate::failure::Failure;

/// From the tenth second on memory does not grow; in a shorter run, from its middle on. The first sample is the first
/// second's.
const FLAT_FROM: usize = 9;

/// By so much it may: what the allocator and the kernel round up.
const TOLERANCE_KIB: u64 = 2048;

/// From so many seconds on, everything that can be done has been done at least once, and as often as it should.
const EVERYTHING_FROM: u64 = 30;

/// Of the connections that are to come and go in a second this part must.
const CHURN_MIN: f64 = 0.95;

#[derive(Debug, Serialize)]
pub(super) struct Report {
    version: &'static str,
    clients: usize,
    misbehaving: usize,
    churn_per_second: u32,
    seconds: u64,
    descriptors: u64,
    pub(super) runs: Vec<Run>,
}

/// What came of one driver's turn.
#[derive(Debug, Default, Serialize)]
pub(super) struct Run {
    pub(super) driver: &'static str,
    /// Less than was asked for where it was interrupted.
    pub(super) lasted_ms: u64,
    /// Messages held against what was sent: at the server, back at the client, and at the stopped victim.
    pub(super) messages_checked: u64,
    pub(super) messages_lost: u64,
    pub(super) too_long: u64,
    /// How often each was done and came to what it should.
    pub(super) misbehaved: BTreeMap<String, u64>,
    pub(super) turned_away: u64,
    pub(super) came_and_went: u64,
    /// For so long.
    pub(super) churned_ms: u64,
    pub(super) slow_peers: u64,
    pub(super) kills: u64,
    pub(super) kills_heard: u64,
    /// The longest that one of those took from its process's start until it was let in, or not.
    pub(super) longest_start_ms: u64,
    pub(super) stops: u64,
    pub(super) to_stopped_victim: u64,
    pub(super) full_rings: u64,
    pub(super) exhaustions: u64,
    pub(super) accept_errors: u64,
    /// Second by second.
    pub(super) resident_kib: Vec<u64>,
    pub(super) clients_resident_kib: Vec<u64>,
    pub(super) faults: Vec<String>,
}

/// Where memory has to be flat from, and how far it grew from there on.
fn growth(resident: &[u64]) -> Option<(u64, u64)> {
    let from = FLAT_FROM.min(resident.len() / 2);
    let base = *resident.get(from)?;
    Some((base, resident[from..].iter().max()? - base))
}

impl Run {
    fn churn_per_second(&self) -> f64 {
        self.came_and_went as f64 * 1000.0 / self.churned_ms.max(1) as f64
    }

    /// Adds to its faults what the counts show.
    pub(super) fn judge(&mut self, args: &args::Torture) {
        for (whose, resident) in [("server's", &self.resident_kib), ("clients'", &self.clients_resident_kib)]
        {
            if let Some((base, more)) = growth(resident)
                && more > TOLERANCE_KIB
            {
                self.faults.push(format!("the {whose} memory grew by {more} KiB from {base} KiB on"));
            }
        }
        let (rate, meant) = (self.churn_per_second(), f64::from(args.churn));
        let long = self.lasted_ms >= 1000 * EVERYTHING_FROM;
        if long && rate < meant * CHURN_MIN {
            self.faults.push(format!("{rate:.1} connections a second came and went, {meant} were to"));
        }
        if self.kills_heard > self.kills {
            self.faults.push(format!("{} victims killed, {} ends told", self.kills, self.kills_heard));
        }
        if long && args.misbehaving() >= misbehave::deeds().count() {
            for name in misbehave::deeds().filter(|name| !self.misbehaved.contains_key(*name)) {
                self.faults.push(format!("{name}: it never came to what it should"));
            }
        }
    }
}

impl Report {
    pub(super) fn new(args: &args::Torture, descriptors: u64) -> Report {
        Report {
            version: env!("CARGO_PKG_VERSION"),
            clients: args.clients(),
            misbehaving: args.misbehaving(),
            churn_per_second: args.churn,
            seconds: args.seconds,
            descriptors,
            runs: Vec::new(),
        }
    }

    pub(super) fn print(&self, json: bool) -> Result<(), Failure> {
        let mut out = stdout().lock();
        if json {
            let text = serde_json::to_string_pretty(self).map_err(Failure::new)?;
            return writeln!(out, "{text}").map_err(Failure::output);
        }
        let (clients, misbehaving) = (self.clients, self.misbehaving);
        writeln!(out, "{clients} clients, {misbehaving} peers that misbehave, {} s a driver", self.seconds)
            .map_err(Failure::output)?;
        for run in &self.runs {
            run.write(&mut out).map_err(Failure::output)?;
        }
        Ok(())
    }
}

impl Run {
    fn write(&self, out: &mut impl Write) -> std::io::Result<()> {
        writeln!(out, "\n{}", self.driver)?;
        let mut line = |count: u64, what: &str| writeln!(out, "  {count:>12}  {what}");
        line(self.messages_checked, "messages checked")?;
        line(self.messages_lost, "messages lost")?;
        let rate =
            format!("connections that came, had an echo and went, {:.1} a second", self.churn_per_second());
        line(self.came_and_went, &rate)?;
        line(self.kills, "peers killed, and told of")?;
        line(self.longest_start_ms, "ms from the start of such a process until it was let in, at the most")?;
        line(self.stops, "times a peer was stopped and continued")?;
        line(self.full_rings, "times its ring was full meanwhile")?;
        line(self.exhaustions, "times no descriptors were left")?;
        line(self.accept_errors, "connections that could not be accepted then")?;
        line(self.too_long, "messages too long to be sent, refused")?;
        for (name, count) in &self.misbehaved {
            line(*count, name)?;
        }
        line(self.slow_peers, "peers disconnected because they did not read")?;
        line(self.turned_away, "turned away meanwhile by a full server")?;
        for (whose, resident) in
            [("the server", &self.resident_kib), ("the clients", &self.clients_resident_kib)]
        {
            if let Some((base, more)) = growth(resident) {
                line(
                    base,
                    &format!("KiB resident in the process of {whose}, later {more} more at the most"),
                )?;
            }
        }
        for fault in &self.faults {
            writeln!(out, "  FAULT: {fault}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::growth;

    #[test]
    fn memory_is_held_against_the_tenth_second() {
        let mut resident = vec![1; 9];
        resident.extend([100, 90, 103, 101]);
        // As long again: a shorter run is held against its half.
        resident.extend([102; 6]);
        assert_eq!(growth(&resident), Some((100, 3)));
        assert_eq!(growth(&[5, 9, 8, 7]), Some((8, 0)));
        assert_eq!(growth(&[]), None);
    }
}
