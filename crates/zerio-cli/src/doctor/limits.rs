//! What the system allows, against what the configuration asks for.
#![forbid(unsafe_code)]

use zerio::Config;

use super::facts::{self, Facts};
use super::finding::{Finding, bytes};

/// Descriptors of an engine beside its sessions', and of a program beside its engines': more than either needs.
const PER_ENGINE: u64 = 8;
const PER_PROGRAM: u64 = 16;

/// How many connections zerio lets wait for being accepted.
const BACKLOG: u64 = 1024;

pub(super) fn descriptors(facts: &Facts, config: &Config) -> Finding {
    let check = "descriptors";
    let Some((soft, hard)) = facts.limit("Max open files") else {
        return Finding::unknown(check, "the system does not tell its limit");
    };
    // The spare slots, in which connections hear that the server is full, need one too.
    let slots = config.memory().map_or(0, |memory| memory.slots as u64);
    let needed = slots + PER_ENGINE * config.engines as u64 + PER_PROGRAM;
    let found = format!("{} allowed; {} sessions take up to {needed}", limit(soft), config.sessions_max);
    let finding = if soft >= needed {
        Finding::fine(check, found)
    } else {
        let fit = soft.saturating_sub(needed - config.sessions_max as u64);
        let advice = if hard >= needed {
            format!("ulimit -n {needed}, or LimitNOFILE={needed} of its systemd unit")
        } else {
            format!(
                "LimitNOFILE={needed} of its systemd unit, or `* hard nofile {needed}` in /etc/security/limits.conf"
            )
        };
        let cost = format!("after about {fit} sessions nobody gets in");
        Finding::wrong(check, found).cost(cost).advice(advice)
    };
    finding.figure("allowed", finite(soft)).figure("needed", needed as f64)
}

pub(super) fn locked_memory(facts: &Facts, config: &Config) -> Finding {
    let check = "locked memory";
    let Some((soft, _)) = facts.limit("Max locked memory") else {
        return Finding::unknown(check, "the system does not tell its limit");
    };
    let pinned = config.memory().map_or(0, |memory| memory.pinned as u64);
    let allowed = if soft == u64::MAX { "any".to_owned() } else { bytes(soft) };
    let finding = if pinned <= soft {
        let needs = if pinned == 0 {
            "nothing is pinned".to_owned()
        } else {
            format!("{} are pinned", bytes(pinned))
        };
        Finding::fine(check, format!("{allowed} allowed; {needs}"))
    } else {
        Finding::wrong(check, format!("{allowed} allowed; {} are to be pinned", bytes(pinned)))
            .cost("the server does not start")
            .advice("ulimit -l unlimited, or LimitMEMLOCK=infinity of its systemd unit")
    };
    finding.figure("allowed_bytes", finite(soft)).figure("pinned_bytes", pinned as f64)
}

pub(super) fn memory(facts: &Facts, config: &Config) -> Finding {
    let check = "memory";
    let (Some(all), Some(free)) = (facts.memory("MemTotal"), facts.memory("MemAvailable")) else {
        return Finding::unknown(check, "the system does not tell how much there is");
    };
    let bill = config.memory().map_or(0, |memory| memory.total() as u64);
    let found = format!("{} available; all rings and buffers in use take {}", bytes(free), bytes(bill));
    let allowed = facts.text(facts::MEMORY_LIMITS).and_then(facts::memory_limit);
    if let Some(allowed) = allowed.filter(|&allowed| allowed < bill) {
        return Finding::wrong(check, format!("{found}; a control group allows {}", bytes(allowed)))
            .cost("where all of it is touched, this is ended")
            .advice("a higher limit (memory.max; `--memory` of a container), or fewer --sessions-max")
            .figure("allowed_bytes", allowed as f64)
            .figure("bill_bytes", bill as f64);
    }
    let advice = "fewer --sessions-max, or a smaller --send-ring and --receive-buffer; `zerio serve --explain` has the bill";
    let finding = if bill <= free {
        Finding::fine(check, found)
    } else if bill <= all {
        let cost = "where all of it is touched, others are pushed out of memory, or this is ended";
        Finding::costs(check, found).cost(cost).advice(advice)
    } else {
        let cost =
            format!("more than the {} of this machine: where all of it is touched, it is ended", bytes(all));
        Finding::wrong(check, found).cost(cost).advice(advice)
    };
    finding.figure("available_bytes", free as f64).figure("bill_bytes", bill as f64)
}

pub(super) fn backlog(facts: &Facts, config: &Config) -> Finding {
    let check = "backlog";
    let Some(allowed) = facts.number(facts::SOMAXCONN) else {
        return Finding::unknown(check, "the system does not tell net.core.somaxconn");
    };
    let wanted = BACKLOG.min(config.sessions_max as u64);
    let found = format!("{allowed} connections may wait to be accepted");
    let finding = if allowed >= wanted {
        Finding::fine(check, found)
    } else {
        Finding::costs(check, found)
            .cost("of more that come at once, each waits a second or more for its next attempt")
            .advice(format!("sysctl -w net.core.somaxconn={BACKLOG}"))
    };
    finding.figure("allowed", allowed as f64)
}

pub(super) fn socket_buffers(facts: &Facts, config: &Config) -> Finding {
    let check = "socket buffers";
    let mut short = Vec::new();
    for (asked, path, name) in [
        (config.socket_send_buffer, facts::SEND_MAX, "net.core.wmem_max"),
        (config.socket_receive_buffer, facts::RECEIVE_MAX, "net.core.rmem_max"),
    ] {
        let (Some(asked), Some(allowed)) = (asked, facts.number(path)) else { continue };
        if asked as u64 > allowed {
            short.push((asked, allowed, name));
        }
    }
    match &short[..] {
        [] if config.socket_send_buffer.or(config.socket_receive_buffer).is_none() => {
            Finding::fine(check, "the system's own, which adapt themselves")
        }
        [] => Finding::fine(check, "as large as they were asked for"),
        [(asked, allowed, name), ..] => {
            let found = format!("{} asked for, {} allowed", bytes(*asked as u64), bytes(*allowed));
            let advice: Vec<_> = short.iter().map(|(asked, _, name)| format!("{name}={asked}")).collect();
            Finding::costs(check, found)
                .cost(format!("the system cuts it to {name} without a word, and no longer adapts it"))
                .advice(format!("sysctl -w {}, or leave the size to the system", advice.join(" ")))
        }
    }
}

fn limit(number: u64) -> String {
    if number == u64::MAX { "any number".to_owned() } else { number.to_string() }
}

/// A limit as JSON can say it: none is -1.
fn finite(limit: u64) -> f64 {
    if limit == u64::MAX { -1.0 } else { limit as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::Verdict;

    fn limits(soft: &str, hard: &str) -> Facts {
        let text = format!("Max open files  {soft}  {hard}  files\nMax locked memory  {soft}  {hard}  bytes");
        Facts::of(&[(facts::LIMITS, &text)])
    }

    #[test]
    fn descriptors_are_enough_just_inside_the_limit_and_not_just_outside() {
        // 256 sessions, 8 spare slots, 8 for the engine and 16 for the program.
        let config = Config::default();
        assert_eq!(descriptors(&limits("288", "288"), &config).verdict, Verdict::Fine);
        assert_eq!(descriptors(&limits("unlimited", "unlimited"), &config).verdict, Verdict::Fine);
        let short = descriptors(&limits("287", "1024"), &config);
        assert_eq!(short.verdict, Verdict::Wrong);
        assert!(short.cost.unwrap().contains("255 sessions"));
        assert!(short.advice.unwrap().starts_with("ulimit -n 288"));
        let hard = descriptors(&limits("100", "100"), &config);
        assert!(hard.advice.unwrap().starts_with("LimitNOFILE=288"));
        assert_eq!(descriptors(&Facts::of(&[]), &config).verdict, Verdict::Unknown);
    }

    #[test]
    fn only_what_is_pinned_counts_against_locked_memory() {
        let mut config = Config::default();
        if !cfg!(windows) {
            assert_eq!(locked_memory(&limits("65536", "65536"), &config).verdict, Verdict::Fine);
        }
        config.driver = zerio::DriverKind::Rio;
        let short = locked_memory(&limits("65536", "65536"), &config);
        assert_eq!(short.verdict, Verdict::Wrong);
        assert!(short.found.starts_with("64 KiB allowed"), "{}", short.found);
        assert_eq!(locked_memory(&limits("unlimited", "unlimited"), &config).verdict, Verdict::Fine);
    }

    #[test]
    fn memory_is_held_against_what_is_free_and_what_there_is() {
        let config = Config::default();
        let bill = config.memory().unwrap().total() as u64;
        let of = |all: u64, free: u64| {
            let text = format!("MemTotal: {} kB\nMemAvailable: {} kB", all / 1024, free / 1024);
            memory(&Facts::of(&[(facts::MEMORY, &text)]), &config).verdict
        };
        assert_eq!(of(4 * bill, bill + 1024), Verdict::Fine);
        assert_eq!(of(4 * bill, bill - 1024), Verdict::Costs);
        assert_eq!(of(bill - 1024, bill - 2048), Verdict::Wrong);
        assert_eq!(memory(&Facts::of(&[]), &config).verdict, Verdict::Unknown);
        let in_a_group = |allowed: u64| {
            let text = format!("MemTotal: {0} kB\nMemAvailable: {0} kB", 4 * bill / 1024);
            let (plenty, limits) = ((facts::MEMORY, &*text), format!("max\n{allowed}"));
            memory(&Facts::of(&[plenty, (facts::MEMORY_LIMITS, &limits)]), &config).verdict
        };
        assert_eq!((in_a_group(bill), in_a_group(bill - 1)), (Verdict::Fine, Verdict::Wrong));
    }

    #[test]
    fn a_backlog_is_short_of_what_the_sessions_need_and_of_no_more() {
        let mut config = Config::default();
        let of =
            |allowed, config: &Config| backlog(&Facts::of(&[(facts::SOMAXCONN, allowed)]), config).verdict;
        assert_eq!(of("256", &config), Verdict::Fine);
        assert_eq!(of("255", &config), Verdict::Costs);
        config.sessions_max = 10_000;
        assert_eq!(of("1024", &config), Verdict::Fine);
        assert_eq!(of("1023", &config), Verdict::Costs);
    }

    #[test]
    fn a_buffer_that_the_system_cuts_is_told() {
        let facts = Facts::of(&[(facts::SEND_MAX, "212992"), (facts::RECEIVE_MAX, "212992")]);
        let mut config = Config::default();
        assert_eq!(socket_buffers(&facts, &config).verdict, Verdict::Fine);
        config.socket_send_buffer = Some(212_992);
        assert_eq!(socket_buffers(&facts, &config).verdict, Verdict::Fine);
        config.socket_receive_buffer = Some(212_993);
        let cut = socket_buffers(&facts, &config);
        assert_eq!(cut.verdict, Verdict::Costs);
        assert!(cut.advice.unwrap().contains("net.core.rmem_max=212993"));
    }
}
