//! What the cores give, and what takes their time away.
#![forbid(unsafe_code)]

use zerio::{Config, WaitStrategy};

use super::facts::{self, Facts};
use super::finding::{Finding, bytes, micros};
use super::measure::{Interruptions, WakeUps};

/// Clocks that are read without a system call, and those of which each look waits for a device.
const FAST_CLOCKS: [&str; 5] =
    ["tsc", "kvm-clock", "hyperv_clocksource_tsc_page", "arch_sys_counter", "riscv_clocksource"];
const SLOW_CLOCKS: [&str; 4] = ["hpet", "acpi_pm", "jiffies", "refined-jiffies"];

/// Nanoseconds from which a look at the clock, and a system call, are worth a word.
const CLOCK_SLOW: f64 = 200.0;
const CALL_SLOW: f64 = 1000.0;

/// Microseconds from which a wake-up is, and the leaving of an idle state.
const WAKE_UP_SLOW: f64 = 10.0;
const IDLE_DEEP: u64 = 10;

/// The part of its speed that a core has at the least when it comes out of idleness.
const SPEED_LOW: f64 = 0.9;

/// What may be lost to interruptions, and the microseconds that the longest may take.
const LOST: f64 = 0.001;
const LONGEST: f64 = 100.0;

pub(super) fn cores(facts: &Facts, config: &Config) -> Finding {
    let check = "cores";
    let count = std::thread::available_parallelism().map_or(1, usize::from);
    // Those that `--core` may name, as the library goes by.
    let allowed = core_affinity::get_core_ids().unwrap_or_default();
    let allowed: Vec<usize> = allowed.iter().map(|core| core.id).collect();
    with_cores(check, count, &allowed, facts, config).figure("cores", count as f64)
}

fn with_cores(
    check: &'static str,
    count: usize,
    allowed: &[usize],
    facts: &Facts,
    config: &Config,
) -> Finding {
    let load = facts.text(facts::LOAD).and_then(|text| text.split(' ').next()?.parse::<f64>().ok());
    let mut found =
        format!("{count} for {} {}", config.engines, if config.engines == 1 { "engine" } else { "engines" });
    if let Some(load) = load {
        found += &format!("; load {load:.1}");
    }
    if let Some(core) = config.cores.iter().find(|core| !allowed.contains(core)) {
        let online = facts.text(facts::ONLINE).and_then(facts::cores);
        let why = match online {
            Some(online) if online.contains(core) => "is kept from this process (taskset, or a cpuset)",
            _ => "is not there",
        };
        let names: Vec<_> = allowed.iter().map(usize::to_string).collect();
        return Finding::wrong(check, format!("{found}; core {core} {why}"))
            .cost("no server starts")
            .advice(format!("--core with one of {}", names.join(",")));
    }
    let spins = matches!(config.wait, WaitStrategy::BusySpin | WaitStrategy::Yield);
    if spins && config.engines >= count {
        return Finding::wrong(check, found)
            .cost("engines that never sleep take all cores, from each other and from everybody else")
            .advice("fewer --engines, or --wait spin-then-park:20us");
    }
    if let Some(quota) =
        facts.text(facts::QUOTAS).and_then(facts::quota).filter(|quota| *quota < count as f64)
    {
        return Finding::costs(check, format!("{found}; a control group allows the time of {quota:.1}"))
            .cost("when that is used up, everything stands still until its next period, up to 100 ms")
            .advice(
                "no limit of processor time (cpu.max; `--cpus` of a container), or whole cores (cpuset)",
            );
    }
    if config.engines > count {
        return Finding::costs(check, found).cost("engines wait for each other").advice("fewer --engines");
    }
    match load {
        Some(load) if load > count as f64 => Finding::costs(check, found)
            .cost("more wants to run than there are cores: everything below is worse for it")
            .advice("a quieter machine, or an engine with a core of its own: see isolation"),
        _ => Finding::fine(check, found),
    }
}

pub(super) fn clock(facts: &Facts, read_ns: f64) -> Finding {
    let check = "clock";
    let Some(name) = facts.text(facts::CLOCK) else {
        let found = format!("a look takes {read_ns:.0} ns");
        let finding = if read_ns < CLOCK_SLOW {
            Finding::fine(check, found)
        } else {
            Finding::costs(check, found).cost("an engine looks in every turn").advice(
                "a clock that the processor has itself; on Windows: bcdedit /deletevalue useplatformclock",
            )
        };
        return finding.figure("read_ns", read_ns);
    };
    let found = format!("{name}; a look takes {read_ns:.0} ns");
    let others = facts.text(facts::CLOCKS).unwrap_or_default();
    let faster = FAST_CLOCKS.iter().find(|clock| others.split_whitespace().any(|other| other == **clock));
    let advice = match faster {
        Some(faster) if *faster != name => {
            format!("echo {faster} > /sys/devices/system/clocksource/clocksource0/current_clocksource")
        }
        _ => "boot with tsc=reliable, if the machine's is; `dmesg | grep -i tsc` says why it is not used"
            .to_owned(),
    };
    let finding = if SLOW_CLOCKS.contains(&name) {
        Finding::wrong(check, found)
            .cost("each look waits for a device; an engine looks in every turn")
            .advice(advice)
    } else if read_ns >= CLOCK_SLOW {
        Finding::costs(check, found).cost("an engine looks in every turn").advice(advice)
    } else {
        Finding::fine(check, found)
    };
    finding.figure("read_ns", read_ns)
}

pub(super) fn system_call(time_ns: Option<f64>) -> Finding {
    let check = "system call";
    let Some(time) = time_ns else {
        return Finding::elsewhere(check, "the least that a system call takes");
    };
    let found = format!("{time:.0} ns at the least; a message takes one or two each way, a batch no more");
    let finding = if time < CALL_SLOW {
        Finding::fine(check, found)
    } else {
        Finding::costs(check, found)
            .cost("so much on top of each send and each receive")
            .advice("what makes them slow: seccomp and audit rules, gVisor; mitigations, see /sys/devices/system/cpu/vulnerabilities")
    };
    finding.figure("time_ns", time)
}

pub(super) fn wake_up(config: &Config, measured: &Result<WakeUps, String>) -> Finding {
    let check = "wake-up";
    let times = match measured {
        Ok(times) => times,
        Err(why) => return Finding::unknown(check, format!("it could not be measured: {why}")),
    };
    let (p50, p99) = (times.p50_us, times.p99_us);
    let found = format!("p50 {}, p99 {}", micros(p50), micros(p99));
    let finding = match config.wait {
        WaitStrategy::BusySpin | WaitStrategy::Yield => {
            Finding::fine(check, found).cost(format!("nothing: with {} an engine never sleeps", config.wait))
        }
        _ if p50 < WAKE_UP_SLOW => Finding::fine(check, found).cost("so much for each message that meets an engine asleep"),
        _ => Finding::costs(check, found)
            .cost("so much for each message that meets an engine asleep")
            .advice("--wait busy-spin and a core of its own, or a --wait spin-then-park:TIME that outlasts your gaps"),
    };
    finding.figure("p50_us", p50).figure("p99_us", p99)
}

pub(super) fn frequency(facts: &Facts, measured: &Result<WakeUps, String>) -> Finding {
    let check = "frequency";
    let governors = facts.governors();
    let named = match governors[..] {
        [] => "not told, as in most virtual machines: the host decides".to_owned(),
        _ => governors.join(", "),
    };
    let Ok(times) = measured else {
        return Finding::unknown(check, named);
    };
    let speed = times.speed_after_idling;
    let found =
        format!("{named}; after 20 ms of rest a core has {:.0} % of its speed", 100.0 * speed.min(1.0));
    let finding = if speed >= SPEED_LOW {
        Finding::fine(check, found)
    } else {
        let finding =
            Finding::costs(check, found).cost("all that follows a pause is slower by as much, for a while");
        match governors[..] {
            [] => finding.advice("an engine that spins (--wait busy-spin) keeps its core awake"),
            ["performance"] => {
                finding.advice("governed for speed already: it is idle states, or who else runs")
            }
            _ => finding.advice("cpupower frequency-set -g performance"),
        }
    };
    finding.figure("speed_after_rest", speed)
}

pub(super) fn idle_states(facts: &Facts, measured: &Result<WakeUps, String>) -> Finding {
    let check = "idle states";
    let after = |finding: Finding| match measured {
        Ok(times) => finding.figure("wake_up_after_rest_us", times.after_idling_us),
        Err(_) => finding,
    };
    let states = facts.idle_states();
    let Some(deepest) = states.iter().max_by_key(|state| state.latency_us) else {
        return after(Finding::unknown(check, "not told, as in most virtual machines: the host decides"));
    };
    let names: Vec<_> = states.iter().map(|state| &*state.name).collect();
    let (names, latency) = (names.join(", "), deepest.latency_us);
    let found = format!("{names}; {} takes {latency} µs to leave", deepest.name);
    after(if latency < IDLE_DEEP {
        Finding::fine(check, found)
    } else {
        let finding = Finding::costs(check, found)
            .advice("cpupower idle-set -D 10, or --wait busy-spin, whose core never rests");
        match measured {
            Ok(times) => finding.cost(format!(
                "a wake-up takes {} after 20 ms of rest, {} after 1 ms",
                micros(times.after_idling_us),
                micros(times.p50_us)
            )),
            Err(_) => finding,
        }
    })
}

pub(super) fn interruptions(facts: &Facts, config: &Config, seen: &Interruptions) -> Finding {
    let check = "isolation";
    let isolated = facts.text(facts::ISOLATED).and_then(facts::cores);
    let mut found = match &isolated {
        Some(cores) if cores.is_empty() => "no core is isolated; ".to_owned(),
        Some(_) => format!("isolated: {}; ", facts.text(facts::ISOLATED).unwrap_or_default()),
        None => String::new(),
    };
    let (count, longest, lost) = (seen.count, seen.longest_us, seen.lost);
    found += &format!("a spinning thread was interrupted {count} times in {} ms", seen.watched.as_millis());
    let finding = if lost < LOST && longest < LONGEST {
        Finding::fine(check, found)
    } else {
        let free = isolated.unwrap_or_default();
        let advice = match free.iter().find(|core| !config.cores.contains(core)) {
            Some(core) if config.cores.is_empty() => format!("--core {core}, which is isolated"),
            _ if facts.linux => {
                "boot with isolcpus=N nohz_full=N rcu_nocbs=N, steer interrupts away (/proc/irq), and say --core N".to_owned()
            }
            _ => "--core N, and keep others from that core".to_owned(),
        };
        Finding::costs(check, found)
            .cost(format!("{:.1} % of its time, {} at the longest", 100.0 * lost, micros(longest)))
            .advice(advice)
    };
    finding.figure("interruptions", count as f64).figure("longest_us", longest).figure("lost", lost)
}

pub(super) fn priority(config: &Config, outcome: &Result<(), String>) -> Finding {
    let check = "priority";
    match (config.priority, outcome) {
        (None, _) => Finding::fine(check, "none asked for"),
        (Some(priority), Ok(())) => {
            Finding::fine(check, format!("{priority} is allowed")).figure("priority", priority.into())
        }
        (Some(_), Err(why)) => {
            Finding::wrong(check, why).cost("no server starts").advice("what it takes, or no --priority")
        }
    }
}

pub(super) fn huge_pages(facts: &Facts, config: &Config) -> Finding {
    let check = "huge pages";
    match facts.chosen(facts::HUGE_PAGES) {
        None => Finding::unknown(check, "the system does not tell"),
        Some("always") => {
            let bill =
                config.memory().map_or(0, |memory| (memory.send_rings + memory.receive_buffers) as u64);
            Finding::costs(check, "transparent huge pages always")
                .cost(format!(
                    "the first byte touched may bring 2 MiB: all {} of rings and buffers, used or not; and stalls while they are made",
                    bytes(bill)
                ))
                .advice("echo madvise > /sys/kernel/mm/transparent_hugepage/enabled")
                .figure("rings_and_buffers_bytes", bill as f64)
        }
        Some("never") if config.huge_pages => {
            Finding::costs(check, "transparent huge pages never, and --huge-pages asks for some")
                .cost("it brings nothing")
                .advice("echo madvise > /sys/kernel/mm/transparent_hugepage/enabled, or leave it out")
        }
        Some(choice) => Finding::fine(check, format!("transparent huge pages {choice}")),
    }
}

pub(super) fn virtual_machine(facts: &Facts, steal: Option<f64>) -> Finding {
    let check = "virtual machine";
    let maker = [facts.text(facts::VENDOR), facts.text(facts::PRODUCT)];
    let maker = maker.into_iter().flatten().collect::<Vec<_>>().join(" ");
    let flags = facts.processor("flags");
    let makers =
        ["QEMU", "KVM", "VMware", "VirtualBox", "Xen", "Amazon EC2", "Google Compute", "Virtual Machine"];
    let is_one = flags.is_some_and(|flags| flags.split(' ').any(|flag| flag == "hypervisor"))
        || makers.iter().any(|name| maker.contains(name));
    if !is_one {
        return match flags {
            Some(_) => Finding::fine(check, "no hypervisor"),
            None => Finding::unknown(check, "the processor does not tell"),
        };
    }
    let mut found =
        if maker.is_empty() { "a hypervisor".to_owned() } else { format!("a hypervisor ({maker})") };
    let finding = match steal {
        Some(share) => {
            found += &format!("; it took {:.1} % of the time meanwhile", 100.0 * share);
            Finding::costs(check, found).figure("steal", share)
        }
        None => Finding::costs(check, found),
    };
    finding
        .cost("interrupts and wake-ups go through the host, and its other guests take turns with this one")
        .advice(
            "an engine that spins on a core of its own; cores that the host gives to nobody else; bare metal",
        )
}

#[cfg(test)]
mod tests;
