//! `zerio torture`, as a process: a short one finds nothing, and tells all that it has done.
#![cfg(unix)]
#![deny(unsafe_code)]

mod support;

use serde_json::Value;
#[cfg(target_os = "linux")]
use support::Tool;
use support::{run, text};

#[test]
fn a_short_torture_loses_nothing_and_tells_what_was_done() {
    let output = run("torture --seconds 3 --clients 60 --misbehaving 30 --json", b"");
    let report: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}{}", text(&output.stdout), text(&output.stderr)));
    assert!(output.status.success(), "{report:#}");
    let runs = report["runs"].as_array().unwrap();
    assert!(!runs.is_empty());
    for run in runs {
        assert!(["poll", "uring"].contains(&run["driver"].as_str().unwrap()), "{run}");
        assert_eq!(
            (run["messages_lost"].as_u64(), run["faults"].as_array().map(Vec::len)),
            (Some(0), Some(0))
        );
        for some in
            ["messages_checked", "came_and_went", "kills", "stops", "to_stopped_victim", "to_departed"]
        {
            assert!(run[some].as_u64().unwrap() > 0, "{some} in {run:#}");
        }
        let done = run["misbehaved"].as_object().unwrap();
        assert!(done.len() >= 10, "{done:?}");
        for some in
            ["a client to an address where nobody listens", "a client to an address that says nothing"]
        {
            assert!(done.contains_key(some), "{some} in {done:?}");
        }
    }
}

// Elsewhere nothing tells when it has a child.
#[cfg(target_os = "linux")]
#[test]
fn an_interrupt_ends_a_long_torture_with_what_was_found_until_then() {
    let mut torture = Tool::start("torture --seconds 3600 --clients 10 --driver poll");
    // By the time that it has a child it catches the signal.
    let id = torture.id();
    support::until(|| support::signal::has_children(id));
    torture.signal("INT");
    let output = torture.finish(b"");
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains("messages checked"), "{}", text(&output.stdout));
    assert!(text(&output.stderr).contains("interrupted"), "{}", text(&output.stderr));
}
