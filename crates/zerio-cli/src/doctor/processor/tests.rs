//! What texts and figures come to.
#![forbid(unsafe_code)]

use std::time::Duration;

use super::*;
use crate::doctor::finding::Verdict;

fn nothing() -> Facts {
    Facts::of(&[])
}

fn woken(p50_us: f64, speed_after_idling: f64) -> Result<WakeUps, String> {
    Ok(WakeUps { p50_us, p99_us: 2.0 * p50_us, after_idling_us: 3.0 * p50_us, speed_after_idling })
}

#[test]
fn cores_are_counted_against_engines_that_never_sleep() {
    let mut config = Config::default();
    let of = |count, config: &Config| with_cores("cores", count, &[0, 1, 2], &nothing(), config).verdict;
    assert_eq!(of(1, &config), Verdict::Fine);
    config.wait = WaitStrategy::BusySpin;
    assert_eq!(of(2, &config), Verdict::Fine);
    assert_eq!(of(1, &config), Verdict::Wrong);
    config.engines = 3;
    config.wait = WaitStrategy::Park;
    assert_eq!(of(3, &config), Verdict::Fine);
    assert_eq!(of(2, &config), Verdict::Costs);
}

#[test]
fn a_core_that_is_not_there_a_quota_and_a_load_are_told() {
    let mut config = Config::default();
    let facts =
        Facts::of(&[(facts::ONLINE, "0-2"), (facts::LOAD, "2.00 1 1 1/1 1"), (facts::QUOTAS, "max 100000")]);
    let of = |facts: &Facts, config: &Config| with_cores("cores", 2, &[0, 1], facts, config);
    assert_eq!(of(&facts, &config).verdict, Verdict::Fine);
    config.cores = vec![3];
    let absent = of(&facts, &config);
    assert!(absent.found.ends_with("core 3 is not there"), "{absent:?}");
    assert_eq!(absent.advice.as_deref(), Some("--core with one of 0,1"));
    config.cores = vec![2];
    let kept = of(&facts, &config);
    assert!(kept.found.contains("core 2 is kept from this process"), "{kept:?}");
    assert_eq!((kept.verdict, of(&nothing(), &config).verdict), (Verdict::Wrong, Verdict::Wrong));
    config.cores = vec![1];
    assert_eq!(of(&facts, &config).verdict, Verdict::Fine);
    let busy = of(&Facts::of(&[(facts::LOAD, "2.10 1 1 1/1 1")]), &config);
    assert_eq!((busy.verdict, &*busy.found), (Verdict::Costs, "2 for 1 engine; load 2.1"));
    let bound = of(&Facts::of(&[(facts::QUOTAS, "150000 100000")]), &config);
    assert!(bound.found.contains("the time of 1.5"), "{}", bound.found);
}

#[test]
fn slow_clocks_are_told_with_a_faster_one_where_there_is_one() {
    let of = |name, others, read| clock(&Facts::of(&[(facts::CLOCK, name), (facts::CLOCKS, others)]), read);
    assert_eq!(of("tsc", "tsc hpet", 25.0).verdict, Verdict::Fine);
    assert_eq!(of("tsc", "tsc hpet", 200.0).verdict, Verdict::Costs);
    let slow = of("hpet", "kvm-clock hpet acpi_pm", 900.0);
    assert_eq!(slow.verdict, Verdict::Wrong);
    assert!(slow.advice.unwrap().starts_with("echo kvm-clock >"));
    assert!(of("hpet", "hpet acpi_pm", 900.0).advice.unwrap().contains("tsc=reliable"));
    assert_eq!(clock(&nothing(), 30.0).verdict, Verdict::Fine);
    assert_eq!(clock(&nothing(), 300.0).verdict, Verdict::Costs);
}

#[test]
fn system_calls_are_slow_from_a_microsecond_on() {
    assert_eq!(system_call(Some(999.0)).verdict, Verdict::Fine);
    assert_eq!(system_call(Some(1000.0)).verdict, Verdict::Costs);
    assert_eq!(system_call(None).verdict, Verdict::Elsewhere);
}

#[test]
fn a_wake_up_costs_engines_that_sleep() {
    let mut config = Config::default();
    assert_eq!(wake_up(&config, &woken(9.9, 1.0)).verdict, Verdict::Fine);
    let slow = wake_up(&config, &woken(10.0, 1.0));
    assert_eq!((slow.verdict, slow.figures["p99_us"]), (Verdict::Costs, 20.0));
    config.wait = WaitStrategy::BusySpin;
    assert!(wake_up(&config, &woken(50.0, 1.0)).cost.unwrap().contains("busy-spin"));
    assert_eq!(wake_up(&config, &Err("no thread".into())).verdict, Verdict::Unknown);
}

#[test]
fn a_governor_counts_by_what_it_does_to_the_speed() {
    let governed = |name| Facts::of(&[("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", name)]);
    assert_eq!(frequency(&governed("powersave"), &woken(5.0, 0.9)).verdict, Verdict::Fine);
    let slow = frequency(&governed("powersave"), &woken(5.0, 0.5));
    assert_eq!(slow.verdict, Verdict::Costs);
    assert!(slow.found.contains("50 %") && slow.advice.unwrap().contains("performance"));
    assert!(frequency(&nothing(), &woken(5.0, 1.1)).found.contains("100 %"));
    assert!(frequency(&nothing(), &woken(5.0, 0.5)).advice.unwrap().contains("busy-spin"));
    assert_eq!(frequency(&nothing(), &Err("no".into())).verdict, Verdict::Unknown);
}

#[test]
fn deep_idle_states_count_unless_they_are_disabled() {
    let state = |n, what| format!("sys/devices/system/cpu/cpu0/cpuidle/state{n}/{what}");
    let facts = |disabled| {
        let texts = [
            (state(0, "name"), "POLL"),
            (state(0, "latency"), "0"),
            (state(1, "name"), "C6"),
            (state(1, "latency"), "133"),
            (state(1, "disable"), disabled),
        ];
        Facts::of(&texts.iter().map(|(path, text)| (&**path, *text)).collect::<Vec<_>>())
    };
    let deep = idle_states(&facts("0"), &woken(10.0, 1.0));
    assert_eq!((deep.verdict, &*deep.found), (Verdict::Costs, "POLL, C6; C6 takes 133 µs to leave"));
    assert!(deep.cost.unwrap().contains("30.0 µs after 20 ms"));
    assert_eq!(idle_states(&facts("1"), &woken(10.0, 1.0)).verdict, Verdict::Fine);
    assert_eq!(idle_states(&nothing(), &woken(10.0, 1.0)).verdict, Verdict::Unknown);
}

#[test]
fn interruptions_count_by_their_share_and_their_length() {
    let mut config = Config::default();
    let seen =
        |lost, longest_us| Interruptions { count: 3, longest_us, lost, watched: Duration::from_millis(250) };
    let none = Facts::of(&[(facts::ISOLATED, "")]);
    assert_eq!(interruptions(&none, &config, &seen(0.0009, 99.0)).verdict, Verdict::Fine);
    assert_eq!(interruptions(&none, &config, &seen(0.0009, 100.0)).verdict, Verdict::Costs);
    let many = interruptions(&none, &config, &seen(0.01, 50.0));
    assert_eq!(many.cost.as_deref(), Some("1.0 % of its time, 50.0 µs at the longest"));
    assert!(many.advice.unwrap().contains("isolcpus"));
    let some = Facts::of(&[(facts::ISOLATED, "2-3")]);
    assert_eq!(
        interruptions(&some, &config, &seen(0.01, 50.0)).advice.as_deref(),
        Some("--core 2, which is isolated")
    );
    config.cores = vec![2];
    assert!(interruptions(&some, &config, &seen(0.01, 50.0)).advice.unwrap().contains("interrupts"));
}

#[test]
fn huge_pages_cost_where_they_come_unasked() {
    let of = |text| huge_pages(&Facts::of(&[(facts::HUGE_PAGES, text)]), &Config::default());
    assert_eq!(of("always [madvise] never").verdict, Verdict::Fine);
    let always = of("[always] madvise never");
    assert_eq!(always.verdict, Verdict::Costs);
    assert!(always.cost.unwrap().contains("132 MiB"));
    assert_eq!(huge_pages(&nothing(), &Config::default()).verdict, Verdict::Unknown);
    let never = Facts::of(&[(facts::HUGE_PAGES, "always madvise [never]")]);
    let mut config = Config::default();
    assert_eq!(huge_pages(&never, &config).verdict, Verdict::Fine);
    config.huge_pages = true;
    assert_eq!(huge_pages(&never, &config).verdict, Verdict::Costs);
    assert_eq!(of("always [madvise] never").verdict, Verdict::Fine);
}

#[test]
fn a_priority_is_fine_unless_it_is_asked_for_and_refused() {
    let mut config = Config::default();
    assert_eq!(priority(&config, &Ok(())).verdict, Verdict::Fine);
    config.priority = Some(50);
    assert_eq!(priority(&config, &Ok(())).figures["priority"], 50.0);
    let refused = priority(&config, &Err("the system refused it".into()));
    assert!(refused.verdict == Verdict::Wrong && refused.advice.is_some(), "{refused:?}");
}

#[test]
fn a_virtual_machine_is_known_by_its_processor_or_its_maker() {
    let of = |texts: &[(&str, &str)], steal| virtual_machine(&Facts::of(texts), steal);
    let cpu = (facts::CPUINFO, "flags\t\t: fpu hypervisor avx");
    let guest = of(&[cpu], Some(0.05));
    assert_eq!(
        (guest.verdict, &*guest.found),
        (Verdict::Costs, "a hypervisor; it took 5.0 % of the time meanwhile")
    );
    let named = of(&[(facts::VENDOR, "Amazon EC2"), (facts::PRODUCT, "c7g.large")], None);
    assert_eq!(named.found, "a hypervisor (Amazon EC2 c7g.large)");
    assert_eq!(of(&[(facts::CPUINFO, "flags : fpu avx")], None).verdict, Verdict::Fine);
    assert_eq!(of(&[], None).verdict, Verdict::Unknown);
}
