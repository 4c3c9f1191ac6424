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
const TOLERANCE_KIB: u64 = 1024;

/// In the text memory stands once in so many seconds.
const SAMPLES_EVERY: usize = 10;

/// From so many seconds on, what the clock alone decides has been done at least once, also by a slow machine.
const STOPS_FROM: u64 = 10;

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
    /// Messages to victims that were gone, each refused.
    pub(super) to_departed: u64,
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

/// What was resident each ten seconds, as text.
fn samples(resident: &[u64]) -> String {
    let each = resident.iter().skip(SAMPLES_EVERY - 1).step_by(SAMPLES_EVERY);
    let each: Vec<String> = each.map(u64::to_string).collect();
    if each.is_empty() { "too short".into() } else { each.join(", ") }
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
        let lasted = |seconds| self.lasted_ms >= 1000 * seconds;
        let long = lasted(EVERYTHING_FROM);
        if long && rate < meant * CHURN_MIN {
            self.faults.push(format!("{rate:.1} connections a second came and went, {meant} were to"));
        }
        if self.kills_heard > self.kills {
            self.faults.push(format!("{} victims killed, {} ends told", self.kills, self.kills_heard));
        }
        let all_misbehave = args.misbehaving() >= misbehave::deeds().count();
        let must = [
            (self.stops, lasted(STOPS_FROM), "no peer was stopped and continued"),
            (self.exhaustions, lasted(STOPS_FROM), "never were there no descriptors left"),
            (self.accept_errors, long && args.churn > 0, "no accept failed, not even without descriptors"),
            (self.kills, long, "no peer was killed"),
            (self.to_departed, long, "nothing was sent to a peer that was gone"),
            (self.full_rings, long, "no ring was ever full"),
            (self.slow_peers, long && all_misbehave, "no peer was disconnected because it did not read"),
        ];
        for (_, _, what) in must.into_iter().filter(|&(count, must, _)| must && count == 0) {
            self.faults.push(what.into());
        }
        if long && all_misbehave {
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
        line(self.to_departed, "messages to peers that were gone, refused")?;
        line(self.exhaustions, "times no descriptors were left")?;
        line(self.accept_errors, "connections that could not be accepted then")?;
        line(self.too_long, "messages too long to be sent, refused")?;
        for (name, count) in &self.misbehaved {
            line(*count, name)?;
        }
        line(self.slow_peers, "peers disconnected because they did not read")?;
        line(self.turned_away, "turned away meanwhile, by a full server or its deadline")?;
        for (whose, resident) in
            [("the server", &self.resident_kib), ("the clients", &self.clients_resident_kib)]
        {
            if let Some((base, more)) = growth(resident) {
                let what = format!(
                    "KiB resident in the process of {whose}, later {more} more at the most; each {SAMPLES_EVERY} s: {}",
                    samples(resident)
                );
                line(base, &what)?;
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
    use clap::Parser;

    use super::{Run, growth, samples};
    use crate::args::Torture;

    /// What a run of so many seconds is judged to be, in which everything was done and `change` was not.
    fn judged(seconds: u64, change: impl Fn(&mut Run)) -> Vec<String> {
        #[derive(Parser)]
        struct Line {
            #[command(flatten)]
            torture: Torture,
        }
        let args = Line::parse_from(["torture", "--misbehaving=30", "--churn=10"]).torture;
        let done = |name: &str| (name.to_owned(), 1);
        let mut run = Run {
            lasted_ms: 1000 * seconds,
            misbehaved: super::misbehave::deeds().map(done).collect(),
            came_and_went: 10 * seconds,
            churned_ms: 1000 * seconds,
            stops: 1,
            exhaustions: 1,
            accept_errors: 1,
            kills: 1,
            to_departed: 1,
            full_rings: 1,
            slow_peers: 1,
            ..Run::default()
        };
        change(&mut run);
        run.judge(&args);
        run.faults
    }

    #[test]
    fn what_must_have_happened_by_then_and_has_not_is_a_fault() {
        /// From how many seconds on what must have happened, and what a fault would say of it.
        type Change = (u64, fn(&mut Run), &'static str);
        let changes: [Change; 9] = [
            (10, |run| run.stops = 0, "no peer was stopped"),
            (10, |run| run.exhaustions = 0, "no descriptors"),
            (30, |run| run.accept_errors = 0, "no accept failed"),
            (30, |run| run.kills = 0, "no peer was killed"),
            (30, |run| run.to_departed = 0, "to a peer that was gone"),
            (30, |run| run.full_rings = 0, "no ring was ever full"),
            (30, |run| run.slow_peers = 0, "because it did not read"),
            (30, |run| _ = run.misbehaved.remove("silent"), "silent: it never"),
            (30, |run| run.came_and_went = 0, "connections a second"),
        ];
        for (from, change, fault) in changes {
            let faults = judged(from, change);
            assert!(matches!(&faults[..], [one] if one.contains(fault)), "{fault}: {faults:?}");
            assert_eq!(judged(from - 1, change), [""; 0], "{fault}: too early to say");
        }
        assert_eq!(judged(3600, |_| {}), [""; 0]);
    }

    #[test]
    fn memory_may_grow_by_what_is_rounded_up_and_stands_there_each_ten_seconds() {
        let grown = |by: u64| {
            judged(30, |run| run.resident_kib = [vec![1000u64; 25], vec![1000u64 + by; 5]].concat())
        };
        assert_eq!(grown(1024), [""; 0]);
        assert_eq!(grown(1025), ["the server's memory grew by 1025 KiB from 1000 KiB on"]);
        assert_eq!(samples(&(1..=35).collect::<Vec<_>>()), "10, 20, 30");
        assert_eq!(samples(&[1; 9]), "too short");
    }

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
