//! Every workload with every peer, once and for a moment: whether all of it works. Nothing here fails because it took
//! long, short of a run that never ends.
#![cfg(target_os = "linux")]
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

#[test]
fn every_workload_works_with_every_peer() {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let (json, plots) = (folder.join("smoke.json"), folder.join("plots"));
    let output = Command::new(env!("CARGO_BIN_EXE_zerio-bench"))
        .args(["all", "--smoke", "--json"])
        .arg(&json)
        .arg("--plots")
        .arg(&plots)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{complained}\n{said}");

    let report: Value = serde_json::from_str(&std::fs::read_to_string(json).unwrap()).unwrap();
    let lines = report["lines"].as_array().unwrap();
    for line in lines {
        for row in line["rows"].as_array().unwrap() {
            let run = &row["rounds"][0];
            let (line, name) = (&line["title"], &row["name"]);
            assert!(run["seconds"].as_f64() > Some(0.0), "{line}, {name}: {run}");
        }
    }
    let families = ["w1", "w2", "w3", "w4", "w5", "w6", "engines", "idle", "tls"];
    for family in families {
        assert!(lines.iter().any(|line| line["workload"] == family), "nothing of {family}");
        let plot = std::fs::read_to_string(plots.join(format!("{family}.svg"))).unwrap();
        assert!(plot.starts_with("<svg"), "{family}");
    }
    assert!(said.contains("| reached"), "{said}");
}

#[test]
fn every_option_works_in_every_workload_or_says_what_it_lacks() {
    let json = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("options.json");
    let output = Command::new(env!("CARGO_BIN_EXE_zerio-bench"))
        .args(["options", "--smoke", "--json"])
        .arg(&json)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let report: Value = serde_json::from_str(&std::fs::read_to_string(json).unwrap()).unwrap();
    let lines = report["lines"].as_array().unwrap();
    assert_eq!(lines.len(), 8, "{said}");
    for line in lines {
        for row in line["rows"].as_array().unwrap() {
            let (run, failure) = (&row["rounds"][0], row["failures"][0].as_str());
            let (line, name) = (&line["title"], &row["name"]);
            // Not everybody may have them, and not every system has them all.
            let refused = failure.is_some_and(|why| why.contains("the system refused it"));
            assert!(refused || run["seconds"].as_f64() > Some(0.0), "{line}, {name}: {run} {failure:?}");
        }
    }
}

#[test]
fn a_workload_that_is_none_is_refused_by_naming_those_there_are() {
    let output = Command::new(env!("CARGO_BIN_EXE_zerio-bench"))
        .args(["all", "--smoke", "--only", "w9"])
        .output()
        .unwrap();
    assert!(!output.status.success());
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(complained.contains("w1"), "it names what there is: {complained}");
}
