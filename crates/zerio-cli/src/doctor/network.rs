//! The way to the kernel, and what the kernel does with a connection.
#![forbid(unsafe_code)]

use zerio::{Config, DriverInfo, WaitStrategy};

use super::facts::{self, Facts};
use super::finding::{Finding, micros};
use super::loopback::{Lanes, Trips};

/// Below this part of what cubic brings over loopback, the congestion control in force is worth a word.
const LANE_SHORT: f64 = 0.8;

/// `few` is what a client gets, or a server of few sessions.
pub(super) fn driver(
    facts: &Facts,
    server: &Result<DriverInfo, String>,
    few: &Result<DriverInfo, String>,
) -> Finding {
    let check = "driver";
    let info = match server {
        Ok(info) => info,
        Err(why) => {
            // Of a setting that can't be had they say themselves what would do.
            let advice =
                if why.starts_with("--") { "as it says" } else { "--driver auto, or see `ulimit -a`" };
            return Finding::wrong(check, why).cost("no server starts").advice(advice);
        }
    };
    let few = few.as_ref().ok();
    let Some(why) = info.fallback.as_ref().or(few.and_then(|few| few.fallback.as_ref())) else {
        let other = few.filter(|few| few.name != info.name);
        let other = other.map(|few| format!("; {} for a client or up to four sessions", few.name));
        return Finding::fine(check, format!("{}{}", info.name, other.unwrap_or_default()));
    };
    let finding = Finding::costs(check, format!("{}; {why}", info.name));
    if !facts.linux {
        return finding
            .cost("a system call for each receive, where Registered I/O looks into memory")
            .advice("a Windows of 8 or later, and no layered service provider (netsh winsock show catalog)");
    }
    let advice = match facts.number(facts::URING_DISABLED) {
        Some(1) => "sysctl -w kernel.io_uring_disabled=0, or its group in kernel.io_uring_group",
        Some(2..) => "sysctl -w kernel.io_uring_disabled=0",
        _ if why.contains("EPERM") || why.contains("ENOSYS") => {
            "let the container's seccomp profile allow io_uring_setup, io_uring_enter and io_uring_register"
        }
        _ if why.contains("ENOMEM") => "ulimit -l unlimited",
        _ => "Linux 6.1 or later",
    };
    finding.cost("2 to 3 % of a round trip, for a client or up to four sessions; more have epoll anyway (BENCHMARKS.md)").advice(advice)
}

pub(super) fn round_trip(trips: &Result<Trips, String>) -> Finding {
    let check = "round trip";
    let trips = match trips {
        Ok(trips) => trips,
        Err(why) => return Finding::unknown(check, format!("it could not be measured: {why}")),
    };
    let (spinning, blocking) = (trips.spinning_us, trips.blocking_us);
    let found =
        format!("bare sockets over loopback: {} spinning, {} blocking", micros(spinning), micros(blocking));
    let finding = if spinning > blocking {
        Finding::costs(check, found)
            .cost("spinning threads keep their cores from each other, or others do")
            .advice("more cores, a quieter machine, or --wait park")
    } else {
        Finding::fine(check, found)
            .cost(format!("{} a round trip, to sleep in between", micros(blocking - spinning)))
    };
    finding.figure("spinning_p50_us", spinning).figure("blocking_p50_us", blocking)
}

pub(super) fn congestion(facts: &Facts, config: &Config, lanes: &Result<Lanes, String>) -> Finding {
    let check = "congestion control";
    let lanes = match lanes {
        Ok(lanes) => lanes,
        Err(why) => {
            return match &config.congestion {
                Some(name) => Finding::wrong(check, format!("{name} was refused: {why}"))
                    .cost("no server starts")
                    .advice(others(facts, name)),
                None => Finding::unknown(check, format!("it could not be measured: {why}")),
            };
        }
    };
    let (name, rate) = (&lanes.here.0, lanes.here.1);
    let rates = |rate: f64| format!("{:.2} GB/s", rate / 1e9);
    if name.is_empty() {
        return Finding::fine(check, format!("the system's own: {} one way over loopback", rates(rate)))
            .figure("bytes_per_second", rate);
    }
    let found = format!("{name}: {} one way over loopback", rates(rate));
    let finding = match &lanes.usual {
        None => Finding::fine(check, found),
        Some(Err(why)) => {
            Finding::unknown(check, format!("{found}; cubic, to compare with, was refused: {why}"))
        }
        Some(Ok(usual)) => {
            let (found, part) = (format!("{found}, {} under cubic", rates(*usual)), rate / usual);
            let finding = if part < LANE_SHORT {
                Finding::costs(check, found)
                    .cost(format!("{:.0} % of the throughput over loopback", 100.0 * (1.0 - part)))
                    .advice("--congestion cubic, or sysctl -w net.ipv4.tcp_congestion_control=cubic; over a long or lossy link measure first")
            } else {
                Finding::fine(check, found)
            };
            finding.figure("cubic_bytes_per_second", *usual).figure("ratio", part)
        }
    };
    finding.figure("bytes_per_second", rate)
}

/// What to ask for in place of a congestion control that was refused: where the system has it, it is for the privileged.
fn others(facts: &Facts, refused: &str) -> String {
    let allowed = facts.text(facts::ALLOWED).unwrap_or("net.ipv4.tcp_allowed_congestion_control");
    let available = facts.text(facts::AVAILABLE).unwrap_or_default();
    if available.split(' ').any(|name| name == refused) {
        return format!(
            "one of {allowed}; or add {refused} to net.ipv4.tcp_allowed_congestion_control, or CAP_NET_ADMIN"
        );
    }
    format!("one of {allowed}; or load its module (modprobe tcp_{refused}), if the kernel has it")
}

pub(super) fn busy_polling(facts: &Facts, config: &Config) -> Finding {
    let check = "busy polling";
    let (read, poll) = (facts.number(facts::BUSY_READ), facts.number(facts::BUSY_POLL));
    let (Some(read), Some(poll)) = (read, poll) else {
        return Finding::unknown(check, "the system does not tell net.core.busy_read and busy_poll");
    };
    let asked = config.busy_poll.map(|time| format!(", --busy-poll {time:?}")).unwrap_or_default();
    let found = format!("net.core.busy_read={read}, busy_poll={poll}{asked}");
    // Who spins asks the sockets, who sleeps the system: docs/tuning.md, step 5.
    if matches!(config.wait, WaitStrategy::BusySpin | WaitStrategy::Yield) {
        let finding = Finding::fine(check, found);
        return match config.busy_poll {
            None if read == 0 => finding.advice(
                "over a card, with up to four sessions an engine: --busy-poll 50us takes its interrupts away",
            ),
            _ => finding,
        };
    }
    if poll > 0 {
        return Finding::fine(check, found);
    }
    Finding::costs(check, found)
        .cost("the card's interrupt for each packet that meets an engine asleep; over loopback nothing")
        .advice("sysctl -w net.core.busy_poll=50, if the card's driver can; it costs processor time")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    use crate::doctor::finding::Verdict;

    fn fallback(why: &str) -> Result<DriverInfo, String> {
        // What a server says of itself is the only way to one.
        let mut config = Config::default();
        (config.driver, config.sessions_max) = (zerio::DriverKind::Poll, 1);
        let mut info = crate::doctor::driver(&config, 1)?;
        info.fallback = Some(why.to_owned());
        Ok(info)
    }

    #[test]
    fn a_server_of_many_sessions_was_told_the_driver_of_few() {
        let with = |sessions| crate::doctor::driver(&Config::default(), sessions);
        let (many, few) = (with(crate::doctor::MANY), with(4));
        assert_eq!(many, with(256), "so many are as good as more");
        let [many_name, few_name] = [&many, &few].map(|info| info.as_ref().unwrap().name);
        let none = Facts::of(&[]);
        let found = driver(&none, &many, &few).found;
        assert!(found.starts_with(many_name) && found.contains(few_name), "{found}");
        assert!(driver(&none, &few, &few).found.starts_with(few_name));
        if cfg!(target_os = "linux") {
            // For want of io_uring it is the same, and a client's loss is told. Elsewhere it is one driver for all.
            let without = fallback("io_uring: EPERM (…), using epoll");
            let finding = driver(&none, &many, &without);
            assert_eq!(finding.verdict, Verdict::Costs);
            assert!(finding.found.starts_with(many_name) && finding.found.contains("EPERM"), "{finding:?}");
        }
    }

    #[test]
    fn a_forbidden_io_uring_is_told_with_who_forbids_it() {
        let eperm = fallback("io_uring: EPERM (…), using epoll");
        for (disabled, advice) in [("0", "seccomp"), ("1", "io_uring_group"), ("2", "io_uring_disabled=0")] {
            let finding = driver(&Facts::of(&[(facts::URING_DISABLED, disabled)]), &eperm, &eperm);
            assert_eq!(finding.verdict, Verdict::Costs);
            assert!(finding.advice.unwrap().contains(advice), "{disabled}");
        }
        let old = fallback("io_uring: EINVAL (this kernel is older than 6.1)");
        let old = driver(&Facts::of(&[]), &old, &old);
        assert!(old.advice.unwrap().contains("6.1"));
        assert_eq!(driver(&Facts::of(&[]), &Err("no".into()), &eperm).verdict, Verdict::Wrong);
    }

    #[test]
    fn a_congestion_control_is_held_against_cubic() {
        let (none, config) = (Facts::of(&[]), Config::default());
        let of = |here: f64, usual| {
            congestion(&none, &config, &Ok(Lanes { here: ("bbr".to_owned(), here), usual }))
        };
        assert_eq!(of(8e8, Some(Ok(1e9))).verdict, Verdict::Fine);
        let short = of(7.9e8, Some(Ok(1e9)));
        assert_eq!(short.verdict, Verdict::Costs);
        assert_eq!(short.cost.as_deref(), Some("21 % of the throughput over loopback"));
        assert_eq!(short.figures["ratio"], 0.79);
        assert_eq!(of(1e9, None).verdict, Verdict::Fine);
        assert_eq!(of(1e9, Some(Err("EPERM".into()))).verdict, Verdict::Unknown);
        assert_eq!(congestion(&none, &config, &Err("no sockets".into())).verdict, Verdict::Unknown);
        let mut named = Config::default();
        let facts = Facts::of(&[(facts::ALLOWED, "reno cubic"), (facts::AVAILABLE, "reno cubic bbr")]);
        for (name, advice) in [
            ("none-such", "one of reno cubic; or load its module (modprobe tcp_none-such)"),
            ("bbr", "one of reno cubic; or add bbr to net.ipv4.tcp_allowed_congestion_control"),
        ] {
            named.congestion = Some(name.into());
            let refused = congestion(&facts, &named, &Err("refused".into()));
            assert_eq!(refused.verdict, Verdict::Wrong);
            assert!(refused.advice.as_ref().unwrap().starts_with(advice), "{refused:?}");
        }
    }

    #[test]
    fn spinning_is_worth_it_where_it_is_faster() {
        let of = |spinning_us, blocking_us| round_trip(&Ok(Trips { spinning_us, blocking_us }));
        let good = of(8.0, 19.5);
        assert_eq!(
            (good.verdict, &*good.cost.unwrap()),
            (Verdict::Fine, "11.5 µs a round trip, to sleep in between")
        );
        assert_eq!(of(4000.0, 30.0).verdict, Verdict::Costs);
        assert_eq!(round_trip(&Err("no sockets".into())).verdict, Verdict::Unknown);
    }

    #[test]
    fn busy_polling_is_the_systems_for_engines_that_sleep_and_the_sockets_for_those_that_spin() {
        let facts = |read, poll| Facts::of(&[(facts::BUSY_READ, read), (facts::BUSY_POLL, poll)]);
        let mut config = Config::default();
        assert_eq!(busy_polling(&facts("0", "0"), &config).verdict, Verdict::Costs);
        assert_eq!(busy_polling(&facts("0", "50"), &config).verdict, Verdict::Fine);
        assert_eq!(busy_polling(&Facts::of(&[]), &config).verdict, Verdict::Unknown);
        config.busy_poll = Some(Duration::from_micros(50));
        let asleep = busy_polling(&facts("50", "0"), &config);
        assert_eq!(asleep.verdict, Verdict::Costs, "a socket that nobody asks does not poll");
        assert!(asleep.found.ends_with("--busy-poll 50µs"), "{}", asleep.found);
        config.wait = WaitStrategy::BusySpin;
        assert_eq!(busy_polling(&facts("0", "0"), &config).advice, None);
        config.busy_poll = None;
        let spins = busy_polling(&facts("0", "0"), &config);
        assert_eq!(spins.verdict, Verdict::Fine);
        assert!(spins.advice.is_some_and(|advice| advice.contains("--busy-poll 50us")));
        assert_eq!(busy_polling(&facts("50", "0"), &config).advice, None);
    }

    #[test]
    fn a_setting_that_was_refused_was_told_to_be_the_drivers() {
        let advice = |why: &str| driver(&Facts::of(&[]), &Err(why.to_owned()), &fallback("")).advice;
        let busy =
            advice("--busy-poll 50us: the system refused it; no more than net.core.busy_read would do");
        assert_eq!(busy.as_deref(), Some("as it says"));
        assert!(advice("can't be had").is_some_and(|advice| advice.contains("--driver auto")));
    }
}
