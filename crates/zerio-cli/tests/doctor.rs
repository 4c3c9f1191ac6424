//! `zerio doctor`, as a process: that it looks at everything, says so to people and to programs, and that its exit
//! status tells whether anything is wrong. Never what it measures.
#![deny(unsafe_code)]

mod support;

use serde_json::Value;
#[cfg(target_os = "linux")]
use support::{Tool, line};
use support::{run, text};

const CHECKS: [&str; 19] = [
    "driver",
    "descriptors",
    "locked memory",
    "memory",
    "backlog",
    "socket buffers",
    "cores",
    "clock",
    "system call",
    "wake-up",
    "round trip",
    "congestion control",
    "frequency",
    "idle states",
    "isolation",
    "priority",
    "huge pages",
    "busy polling",
    "virtual machine",
];

fn finding<'a>(report: &'a Value, check: &str) -> &'a Value {
    let findings = report["findings"].as_array().unwrap();
    findings.iter().find(|finding| finding["check"] == check).unwrap_or_else(|| panic!("no {check}"))
}

#[test]
fn everything_is_looked_at_and_the_exit_status_tells_whether_anything_is_wrong() {
    let output = run("doctor --json", b"");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let findings = report["findings"].as_array().unwrap();
    assert_eq!(findings.iter().map(|finding| finding["check"].as_str().unwrap()).collect::<Vec<_>>(), CHECKS);
    for finding in findings {
        let verdict = finding["verdict"].as_str().unwrap();
        assert!(["fine", "costs", "wrong", "unknown", "elsewhere"].contains(&verdict), "{finding}");
        assert!(!finding["found"].as_str().unwrap().is_empty(), "{finding}");
        // What costs something says what, and what to do.
        let told = !finding["cost"].is_null() && !finding["advice"].is_null();
        assert!(told || !["costs", "wrong"].contains(&verdict), "{finding}");
        assert!(verdict != "elsewhere" || !cfg!(target_os = "linux"), "{finding}");
    }
    // Which one a server gets, and not a smaller one.
    let server = zerio::Server::bind("127.0.0.1:0").unwrap().start_polled().unwrap();
    let found = finding(&report, "driver")["found"].as_str().unwrap();
    assert!(found.starts_with(server.driver().name), "{found}");
    let wrong = findings.iter().filter(|finding| finding["verdict"] == "wrong").count();
    assert_eq!(report["wrong"], wrong);
    assert_eq!(output.status.code(), Some(i32::from(wrong > 0)), "{}", text(&output.stderr));
    for (check, figure) in [("clock", "read_ns"), ("wake-up", "p50_us"), ("round trip", "spinning_p50_us")] {
        assert!(finding(&report, check)["figures"][figure].as_f64().unwrap() > 0.0, "{report}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_limit_of_descriptors_that_the_configuration_does_not_fit_is_wrong() {
    let zerio = env!("CARGO_BIN_EXE_zerio");
    let doctor = |limit: u32| {
        let command = format!("ulimit -n {limit}; exec {zerio} doctor --sessions-max 100 --json");
        let output = std::process::Command::new("sh").args(["-c", &command]).output().unwrap();
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        (output.status.code(), finding(&report, "descriptors").clone())
    };
    // 100 sessions and 8 spare ones, 8 for the engine, 16 for the program.
    let (_, enough) = doctor(132);
    assert_eq!(enough["verdict"], "fine", "{enough}");
    let (code, short) = doctor(131);
    assert_eq!((code, &short["verdict"]), (Some(1), &"wrong".into()), "{short}");
    assert!(short["advice"].as_str().unwrap().contains("NOFILE=132"), "{short}");
}

#[test]
fn in_a_pipe_there_is_a_line_for_each_finding_and_no_colours() {
    let output = run("doctor --congestion none-such", b"");
    let out = text(&output.stdout);
    for check in CHECKS {
        let lines = out.lines().filter(|line| line.contains(&format!(" {check} "))).count();
        assert!(lines >= 1, "{check}: {out}");
    }
    assert!(!out.contains('\u{1b}'), "{out}");
    // A name that the system does not know can't be had, which is wrong: so is the exit status.
    assert_eq!(output.status.code(), Some(1), "{out}");
    let why = text(&output.stderr);
    assert!(why.contains("wrong; what to do stands beside"), "{why}");
}

/// A core that is there and kept from it, and a priority: which of the two it gets, a server shows.
#[cfg(target_os = "linux")]
#[test]
fn a_core_and_a_priority_that_no_server_would_get_had_been_called_fine() {
    let zerio = env!("CARGO_BIN_EXE_zerio");
    let allowed: Vec<usize> = core_affinity::get_core_ids().unwrap().iter().map(|core| core.id).collect();
    let has_taskset = std::process::Command::new("taskset").arg("--version").output().is_ok();
    let command = match allowed[..] {
        [first, other, ..] if has_taskset => {
            format!("taskset -c {first} {zerio} doctor --json --core {other}")
        }
        _ => format!("{zerio} doctor --json --core 1000"),
    };
    let doctor = |command: &str| -> Value {
        let output = std::process::Command::new("sh").args(["-c", command]).output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output.stderr)))
    };
    let cores = finding(&doctor(&command), "cores").clone();
    assert_eq!(cores["verdict"], "wrong", "{cores}");
    let priority = finding(&doctor(&format!("{zerio} doctor --json --priority 50")), "priority").clone();
    let mut serve = Tool::start("serve 127.0.0.1:0 --priority 50 --wait park --no-counters");
    let serves = line(&mut serve.stdout()).contains("listening on");
    assert_eq!(priority["verdict"], if serves { "fine" } else { "wrong" }, "{priority}");
}

#[test]
fn a_configuration_that_can_t_be_is_wrong_usage() {
    let output = run("doctor --send-ring 200000", b"");
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("262144 would do"), "{}", text(&output.stderr));
}
