//! What `zerio bench` measures: the lines that its flags ask for, and how long each runs.
#![forbid(unsafe_code)]

use std::fmt;
use std::time::Duration;

use zerio::{Config, DriverKind, WaitStrategy};

use crate::args::{self, Drive, Only};
use crate::settings::{driver, make_room};

/// The size that most lines are measured at: a price, an order, a reading.
const SMALL: usize = 32;

/// One line: a way to exchange messages of one size.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Case {
    pub(super) size: usize,
    /// Of an engine with a thread; a polled one is driven by a loop that spins.
    pub(super) wait: WaitStrategy,
    pub(super) drive: Drive,
    pub(super) driver: DriverKind,
    /// How long each run sends, after its warm-up.
    pub(super) run: Duration,
    /// Pin the server to core 0 and the client to core 1.
    pub(super) pin: bool,
    /// Its session speaks TLS; the control's never does.
    pub(super) tls: bool,
}

/// What an idle server does while nothing comes.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct IdleCase {
    pub(super) wait: WaitStrategy,
    pub(super) driver: DriverKind,
    pub(super) run: Duration,
}

#[derive(Debug)]
pub(super) struct Plan {
    pub(super) rounds: u16,
    pub(super) round_trip: Vec<Case>,
    pub(super) one_way: Vec<Case>,
    pub(super) idle: Vec<IdleCase>,
}

impl Case {
    fn new(size: usize, wait: WaitStrategy, drive: Drive) -> Case {
        let run = Duration::from_millis(100);
        Case { size, wait, drive, driver: DriverKind::Auto, run, pin: false, tls: false }
    }

    fn polled(size: usize) -> Case {
        Case::new(size, WaitStrategy::BusySpin, Drive::Polled)
    }

    fn defaults(size: usize) -> Case {
        Case::new(size, WaitStrategy::default(), Drive::Thread)
    }

    fn for_millis(self, millis: u64) -> Case {
        Case { run: Duration::from_millis(millis), ..self }
    }

    /// How long each run sends before anything counts.
    pub(super) fn warm_up(&self) -> Duration {
        self.run / 5
    }

    /// Whether its sides never sleep, so that its control must not either.
    pub(super) fn spins(&self) -> bool {
        self.drive == Drive::Polled || matches!(self.wait, WaitStrategy::BusySpin | WaitStrategy::Yield)
    }

    /// The server's and the client's cores.
    pub(super) fn cores(&self) -> (Option<usize>, Option<usize>) {
        if self.pin { (Some(0), Some(1)) } else { (None, None) }
    }

    /// The library's defaults but for what the line is about.
    pub(super) fn config(&self, core: Option<usize>) -> Config {
        let mut config = Config::default();
        config.message_max = config.message_max.max(self.size);
        config.tls = self.tls;
        make_room(&mut config);
        (config.wait, config.driver) = (self.wait, self.driver);
        // There is one client, and the server is told so.
        config.sessions_max = 1;
        if self.drive == Drive::Thread {
            config.cores = core.into_iter().collect();
        }
        config
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.drive {
            Drive::Polled => write!(f, "{} B, polled", self.size),
            Drive::Thread => write!(f, "{} B, {}", self.size, self.wait),
        }
    }
}

impl Plan {
    /// The plan that these flags ask for. `others` are the drivers that can be had beside the one that
    /// `auto` takes.
    pub(super) fn new(args: &args::Bench, others: &[DriverKind]) -> Plan {
        let asked = !(args.size.is_empty()
            && args.wait.is_empty()
            && args.driver.is_empty()
            && args.drive.is_empty());
        let mut plan = if asked { Plan::asked(args) } else { Plan::whole(others) };
        plan.rounds = args.rounds;
        match args.only {
            Some(Only::RoundTrip) => (plan.one_way, plan.idle) = (Vec::new(), Vec::new()),
            Some(Only::OneWay) => (plan.round_trip, plan.idle) = (Vec::new(), Vec::new()),
            Some(Only::Idle) => (plan.round_trip, plan.one_way) = (Vec::new(), Vec::new()),
            None => {}
        }
        for case in plan.round_trip.iter_mut().chain(&mut plan.one_way) {
            (case.pin, case.tls) = (args.pin, args.tls.is_on());
            if args.smoke {
                case.run = Duration::from_millis(20);
            }
        }
        if args.tls.is_on() {
            // Its clients are bare sockets.
            plan.idle.clear();
        }
        if args.smoke {
            plan.rounds = 1;
            plan.idle.iter_mut().for_each(|case| case.run = Duration::from_millis(50));
        }
        plan
    }

    /// Each thing once, and the two lines that say most for longer; under 30 s in all.
    fn whole(others: &[DriverKind]) -> Plan {
        let mut round_trip = vec![Case::polled(SMALL).for_millis(240), Case::defaults(SMALL).for_millis(240)];
        round_trip.extend([Case::polled(256), Case::polled(4096)]);
        let waits = strategies();
        let others_than_default = waits.iter().filter(|wait| **wait != WaitStrategy::default());
        round_trip.extend(others_than_default.map(|&wait| Case::new(SMALL, wait, Drive::Thread)));
        round_trip.extend(others.iter().map(|&driver| Case { driver, ..Case::polled(SMALL) }));
        let one_way = [Case::polled(SMALL), Case::defaults(SMALL), Case::polled(4096)];
        let one_way = one_way.map(|case| case.for_millis(180)).into();
        let idle = waits.iter().map(|&wait| IdleCase::new(wait, DriverKind::Auto)).collect();
        Plan { rounds: 1, round_trip, one_way, idle }
    }

    /// Every combination of what was given.
    fn asked(args: &args::Bench) -> Plan {
        let or = |given: &[usize], default| if given.is_empty() { vec![default] } else { given.to_vec() };
        let sizes = or(&args.size, SMALL);
        let drivers: Vec<DriverKind> = match args.driver.as_slice() {
            [] => vec![DriverKind::Auto],
            given => given.iter().map(|&flag| driver(flag)).collect(),
        };
        let waits = if args.wait.is_empty() { vec![WaitStrategy::default()] } else { args.wait.clone() };
        let drives = match (args.drive.as_slice(), args.wait.as_slice()) {
            ([], []) => vec![Drive::Polled, Drive::Thread],
            // A wait strategy is a thread's.
            ([], _) => vec![Drive::Thread],
            (given, _) => given.to_vec(),
        };
        let mut cases = Vec::new();
        for &driver in &drivers {
            for &size in &sizes {
                for &drive in &drives {
                    match drive {
                        Drive::Polled => cases.push(Case { driver, ..Case::polled(size) }),
                        Drive::Thread => {
                            let case = |&wait| Case { driver, ..Case::new(size, wait, Drive::Thread) };
                            cases.extend(waits.iter().map(case));
                        }
                    }
                }
            }
        }
        let cases: Vec<Case> = cases.into_iter().map(|case| case.for_millis(250)).collect();
        let idle = |&driver| waits.iter().map(move |&wait| IdleCase::new(wait, driver));
        let idle = match drives.contains(&Drive::Thread) {
            true => drivers.iter().flat_map(idle).collect(),
            false => Vec::new(),
        };
        Plan { rounds: 1, round_trip: cases.clone(), one_way: cases, idle }
    }

    /// How many runs it takes.
    pub(super) fn runs(&self) -> u64 {
        let lines = (self.round_trip.len() + self.one_way.len()) as u64;
        2 * lines * u64::from(self.rounds) + self.idle.len() as u64
    }

    /// How long its runs take in all, setting them up apart.
    pub(super) fn duration(&self) -> Duration {
        let cases = self.round_trip.iter().chain(&self.one_way).map(|case| case.run + case.warm_up());
        2 * u32::from(self.rounds) * cases.sum::<Duration>()
            + self.idle.iter().map(|case| case.run).sum::<Duration>()
    }
}

impl IdleCase {
    fn new(wait: WaitStrategy, driver: DriverKind) -> IdleCase {
        IdleCase { wait, driver, run: Duration::from_millis(500) }
    }
}

/// Each wait strategy once, the default first.
fn strategies() -> [WaitStrategy; 5] {
    let sleep = WaitStrategy::Sleep(Duration::from_micros(50));
    [WaitStrategy::default(), WaitStrategy::BusySpin, WaitStrategy::Yield, sleep, WaitStrategy::Park]
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn plan(flags: &str) -> Plan {
        let words = ["zerio", "bench"].into_iter().chain(flags.split_whitespace());
        let args::Command::Bench(bench) = args::Args::parse_from(words).command else {
            panic!("another command")
        };
        Plan::new(&bench, &[DriverKind::Poll])
    }

    #[test]
    fn the_whole_plan_leaves_room_below_thirty_seconds() {
        let plan = plan("");
        assert!(plan.duration() < Duration::from_secs(24), "{:?}", plan.duration());
        assert_eq!(plan.idle.len(), 5);
    }

    #[test]
    fn a_smoke_test_takes_no_more_than_a_moment() {
        assert!(plan("--smoke").duration() < Duration::from_secs(2));
        assert_eq!(plan("--smoke").round_trip.len(), plan("").round_trip.len());
    }

    #[test]
    fn what_is_given_is_combined() {
        let plan = plan("--size 8,16 --wait park,yield --driver poll --drive thread --only one-way");
        assert_eq!((plan.round_trip.len(), plan.one_way.len(), plan.idle.len()), (0, 4, 0));
        assert!(plan.one_way.iter().all(|case| case.driver == DriverKind::Poll));
    }

    #[test]
    fn under_tls_everything_is_and_nothing_is_idle() {
        let plan = plan("--tls");
        assert!(plan.round_trip.iter().chain(&plan.one_way).all(|case| case.config(None).tls));
        assert!(plan.idle.is_empty() && !plan.one_way.is_empty());
    }

    #[test]
    fn a_wait_strategy_alone_is_for_threads() {
        let plan = plan("--wait park");
        assert_eq!(plan.round_trip.len(), 1);
        assert_eq!((plan.round_trip[0].drive, plan.round_trip[0].spins()), (Drive::Thread, false));
    }
}
