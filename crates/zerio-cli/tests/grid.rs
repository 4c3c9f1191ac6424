//! `zerio bench --grid`, as a process: its lines, its files, and what it does with what is typed.
#![deny(unsafe_code)]

mod support;

use std::path::PathBuf;

use support::{run, text};

const HEADS: &str = "Transport,Started,Ended,TgtMsgCount,ActMsgCount,MsgSize,Delay,Burst,TgtMsgSec,TgtBwMb,ActMsgSec,ActBwMb,\
     Average,StDev,Min,P10,P20,P30,P40,P50,P60,P70,P80,P90,P925,P95,P975,P99,P999,P9999,P99999,Max";

/// A folder that goes with its test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        Folder(std::env::temp_dir().join(format!("zerio-grid-{name}-{}", std::process::id())))
    }

    fn read(&self, name: &str) -> String {
        let path = self.0.join(name);
        std::fs::read_to_string(&path).unwrap_or_else(|why| panic!("{}: {why}", path.display()))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn each_test_has_a_line_and_a_file_of_percentiles() {
    let folder = Folder::new("all");
    let flags = "--size 32 --delay 10ms --burst 2 --seconds 1 --servers 2 --clients 2";
    let output = run(&format!("bench --grid {} {flags}", folder.0.display()), b"");
    assert!(output.status.success(), "{}", text(&output.stderr));
    let csv = folder.read("grid.csv");
    assert_eq!(text(&output.stdout).replace("\r\n", "\n"), csv, "it prints what it writes");
    let lines: Vec<Vec<&str>> = csv.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(lines[0], HEADS.split(',').collect::<Vec<_>>());
    assert_eq!(lines.iter().map(|line| line[0]).collect::<Vec<_>>(), ["Transport", "zerio", "tcp"]);
    for line in &lines[1..] {
        assert_eq!(line.len(), lines[0].len());
        assert_eq!(line[3..10], ["800", "800", "32", "10000", "2", "800", "0.205"]);
        let times: Vec<f64> = line[14..].iter().map(|time| time.parse().unwrap()).collect();
        assert!(times[0] > 0.0 && times.is_sorted(), "{line:?}");
        assert!(line[1] < line[2] && line[1].ends_with('Z'), "{line:?}");
        let percentiles = folder.read(&format!("{}-32-10000us-2.hgrm", line[0]));
        assert!(percentiles.contains("Percentile TotalCount 1/(1-Percentile)"), "{percentiles}");
        let numbers = percentiles.lines().filter(|line| !line.starts_with('#')).skip(2);
        let rows: Vec<Vec<f64>> =
            numbers.map(|row| row.split_whitespace().map(|word| word.parse().unwrap()).collect()).collect();
        assert!(rows.is_sorted_by(|a, b| a[0] <= b[0] && a[1] <= b[1] && a[2] <= b[2]), "{percentiles}");
        let last = rows.last().unwrap();
        assert_eq!((last[1], last[2]), (1.0, 800.0), "{percentiles}");
        assert!(percentiles.contains("Total count    =          800]"), "{percentiles}");
    }
}

#[test]
fn what_is_typed_is_measured() {
    let folder = Folder::new("typed");
    let command = format!("bench --grid {} --manual --seconds 1", folder.0.display());
    let output = run(&command, b"64 100ms 1\n\n");
    assert!(output.status.success(), "{}", text(&output.stderr));
    let out = text(&output.stdout);
    let starts: Vec<String> =
        out.lines().skip(1).map(|line| line.split(',').next().unwrap().to_owned()).collect();
    assert_eq!(starts, ["zerio", "tcp"]);
    let bad = run(&command, b"64 100ms\n");
    assert_eq!(bad.status.code(), Some(2));
    assert!(text(&bad.stderr).contains("is not three words"), "{}", text(&bad.stderr));
}

#[test]
fn what_can_not_be_is_wrong_usage() {
    let folder = Folder::new("wrong");
    for (flags, word) in [
        ("--size 7", "carries a time"),
        ("--delay 0ms", "1us or more"),
        ("--bandwidth 0", "--bandwidth"),
        ("--smoke", "--smoke"),
        ("--manual --size 32", "--manual"),
    ] {
        let output = run(&format!("bench --grid {} {flags}", folder.0.display()), b"");
        assert_eq!(output.status.code(), Some(2), "{flags}");
        assert!(text(&output.stderr).contains(word), "{flags}: {}", text(&output.stderr));
    }
    let alone = run("bench --burst 3", b"");
    assert_eq!(alone.status.code(), Some(2));
    assert!(text(&alone.stderr).contains("--grid"), "{}", text(&alone.stderr));
}
