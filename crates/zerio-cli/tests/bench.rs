//! `zerio bench`, as a process: that all of it works and all of it is told. Never how fast it is.
#![deny(unsafe_code)]

#[cfg(target_os = "linux")]
#[path = "../../zerio/tests/common/seccomp.rs"]
mod seccomp;
mod support;

use serde_json::Value;
use support::{Tool, lines_until, run, text};

fn number(line: &Value, name: &str) -> f64 {
    line[name].as_f64().unwrap_or_else(|| panic!("no number {name:?} in {line}"))
}

/// What `auto` may take, on whatever system.
const DRIVERS: [&str; 3] = ["poll", "uring", "rio"];

#[test]
fn a_smoke_test_measures_every_line_and_nothing_allocates() {
    let output = run("bench --smoke --json", b"");
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(output.stderr.is_empty(), "{}", text(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();

    let lines = |name: &str| report[name].as_array().unwrap_or_else(|| panic!("no {name}")).clone();
    let round_trip = lines("round_trip");
    for line in &round_trip {
        let order = ["p50_us", "p90_us", "p99_us", "p999_us", "max_us"].map(|name| number(line, name));
        assert!(order[0] > 0.0 && order.is_sorted(), "{line}");
        let [p50, p99] = ["p50_us", "p99_us"].map(|name| number(line, name));
        let [c50, c99] = ["control_p50_us", "control_p99_us"].map(|name| number(line, name));
        assert!(c50 > 0.0 && c50 <= c99, "{line}");
        for (ratio, ours, theirs) in [("ratio_p50", p50, c50), ("ratio_p99", p99, c99)] {
            assert!((number(line, ratio) - ours / theirs).abs() <= 0.001, "{line}");
        }
        assert!(line["size"].is_u64() && line["wait"].is_string(), "{line}");
        assert!(DRIVERS.contains(&line["driver"].as_str().unwrap()), "{line}");
    }
    let has = |drive: &str, size: u64, wait: &str| {
        let is = |line: &&Value| line["drive"] == drive && line["size"] == size && line["wait"] == wait;
        assert!(round_trip.iter().any(|line| is(&line)), "{drive}, {size}, {wait}");
    };
    for size in [32, 256, 4096] {
        has("polled", size, "busy-spin");
    }
    for wait in ["busy-spin", "spin-then-park:20us", "yield", "sleep:50us", "park"] {
        has("thread", 32, wait);
    }

    let of = |driver: &str| round_trip.iter().any(|line| line["driver"] == driver);
    let others = DRIVERS.iter().filter(|driver| **driver != "poll" && of(driver)).count();
    assert!(of("poll") && (others == 1 || report["driver"]["fallback"].is_string()), "{report}");

    let one_way = lines("one_way");
    let drives: Vec<_> = one_way.iter().map(|line| &line["drive"]).collect();
    assert_eq!(drives, ["polled", "thread", "polled"]);
    for line in &one_way {
        let [ours, theirs] =
            ["messages_per_second", "control_messages_per_second"].map(|name| number(line, name));
        assert!(ours > 0.0 && theirs > 0.0, "{line}");
        assert!((number(line, "ratio") - ours / theirs).abs() <= 0.001, "{line}");
        assert!(DRIVERS.contains(&line["driver"].as_str().unwrap()), "{line}");
        assert_eq!(number(line, "bytes_per_second"), ours * number(line, "size"), "{line}");
    }

    let idle = lines("idle");
    assert_eq!(idle.len(), 5);
    assert!(idle.iter().all(|line| number(line, "cpu_percent") >= 0.0 && line["sessions"] == 16));

    assert_eq!(report["allocations"], 0);
    assert_eq!(report["interrupted"], false);
    assert!(report["machine"]["cores"].is_u64());
    let driver = &report["driver"];
    // Where auto did not take io_uring, it says why.
    assert!(driver["name"] == "uring" || driver["fallback"].is_string() || !cfg!(target_os = "linux"));
}

#[cfg(target_os = "linux")]
#[test]
fn where_io_uring_is_forbidden_it_says_why_it_measures_epoll() {
    // A process that a thread starts has the thread's filter.
    let forbidden = std::thread::spawn(|| {
        seccomp::forbid(libc::SYS_io_uring_setup).expect("the filter");
        let bench = "bench --smoke --only round-trip --size 32 --drive polled";
        [run(bench, b""), run(&format!("{bench} --json"), b"")]
    });
    let [words, json] = forbidden.join().unwrap();
    let why =
        "io_uring: EPERM (forbidden: a container's seccomp filter, or kernel.io_uring_disabled), using epoll";
    assert!(words.status.success() && json.status.success(), "{}", text(&words.stderr));
    assert!(text(&words.stdout).contains(&format!("driver poll ({why})")), "{}", text(&words.stdout));
    let report: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!((&report["driver"]["name"], &report["driver"]["fallback"]), (&"poll".into(), &why.into()));
    assert!(report["round_trip"].as_array().unwrap().iter().all(|line| line["driver"] == "poll"), "{report}");
}

#[test]
fn a_report_is_one_page_with_every_line_and_nothing_from_elsewhere() {
    let path = std::env::temp_dir().join(format!("zerio-report-{}.html", std::process::id()));
    let plots = path.with_extension("plots");
    let (file, folder) = (path.display(), plots.display());
    let flags = format!("bench --smoke --size 32,100 --drive polled --report {file} --plots {folder}");
    let output = run(&flags, b"");
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("the report is in "), "{}", text(&output.stderr));
    let page = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert_eq!(page.matches("<svg ").count(), 2, "a picture for each size");
    assert_eq!(page.matches("<polyline class=\"zerio\"").count(), 2);
    assert_eq!(page.matches("<polyline class=\"control\"").count(), 2);
    assert_eq!(page.matches("<div class=\"bar zerio\"").count(), 2);
    assert_eq!(page.matches("<p>bare sockets: ").count(), 2, "a bar has its name beside its colour");
    for part in ["32 bytes, polled", "100 bytes, polled", "cores", "0 heap allocations", "--size 32,100"] {
        assert!(page.contains(part), "no {part:?} in {page}");
    }
    let command = "<pre><span>zerio bench</span> <span>--smoke</span> <span>--size 32,100</span>";
    assert!(page.contains(command), "a command that is another machine's, too: {page}");
    for part in ["http", "src=", "<script", "<link", "NaN", "@import", "url("] {
        assert!(!page.contains(part), "{part:?} in {page}");
    }
    for tag in ["html", "head", "body", "style", "svg", "figure", "table", "div", "text", "pre"] {
        let count = |what: String| page.matches(&what).count();
        let open = count(format!("<{tag}>")) + count(format!("<{tag} "));
        assert_eq!(open, count(format!("</{tag}>")), "<{tag}>");
    }
    assert!(page.split("<figure").all(|figure| figure.matches("<figcaption").count() <= 1), "{page}");
    for size in [32, 100] {
        let start = format!("round-trip-{size}-bytes-polled-");
        let mut files = std::fs::read_dir(&plots).unwrap().map(|file| file.unwrap().path());
        let file = files.find(|file| {
            file.file_name().is_some_and(|name| text(name.as_encoded_bytes()).starts_with(&start))
        });
        let picture = std::fs::read_to_string(file.expect("a file for each size")).unwrap();
        assert!(picture.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\" "), "{picture}");
        for part in [&format!(">Round trip, {size} bytes, polled"), ">zerio<", "bare sockets<", "--zerio:"] {
            assert!(picture.contains(part), "no {part:?} in {picture}");
        }
    }
    std::fs::remove_dir_all(&plots).unwrap();
    let nowhere = run("bench --smoke --report /no/such/folder/report.html", b"");
    assert_eq!(nowhere.status.code(), Some(1));
    assert!(text(&nowhere.stderr).contains("can't write the report to "), "{}", text(&nowhere.stderr));
    assert!(nowhere.stdout.is_empty(), "it told before it measured");
}

#[test]
fn a_bench_that_came_to_nothing_left_an_empty_report_behind() {
    let path = std::env::temp_dir().join(format!("zerio-no-report-{}.html", std::process::id()));
    let killed = || {
        let mut bench = Tool::start(&format!("bench --rounds 1000 --report {}", path.display()));
        let mut out = bench.stdout();
        lines_until(&mut out, "driver ");
        bench.signal("KILL");
        bench.wait();
    };
    killed();
    assert!(!path.exists());
    // That of a run before stays as it is.
    std::fs::write(&path, "the last one").unwrap();
    killed();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "the last one");
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn flags_choose_the_lines() {
    let flags =
        "--smoke --json --only round-trip --size 8,100 --wait park --drive thread,polled --driver poll";
    let output = run(&format!("bench {flags}"), b"");
    assert!(output.status.success(), "{}", text(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let lines = report["round_trip"].as_array().unwrap();
    let lines: Vec<_> = lines.iter().map(|line| (&line["size"], &line["drive"], &line["wait"])).collect();
    let expected = [
        (&Value::from(8), &Value::from("thread"), &Value::from("park")),
        (&Value::from(8), &Value::from("polled"), &Value::from("busy-spin")),
        (&Value::from(100), &Value::from("thread"), &Value::from("park")),
        (&Value::from(100), &Value::from("polled"), &Value::from("busy-spin")),
    ];
    assert_eq!(lines, expected);
    assert!(report["one_way"].as_array().unwrap().is_empty());
}

#[test]
fn messages_of_one_byte_and_of_a_megabyte_can_be_measured() {
    let output = run("bench --smoke --json --size 1,1M --driver poll", b"");
    assert!(output.status.success(), "{}", text(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["one_way"].as_array().unwrap().len(), 4);
}

#[test]
fn people_get_tables_and_no_colours_in_a_pipe() {
    let output = run("bench --smoke --only one-way", b"");
    assert!(output.status.success(), "{}", text(&output.stderr));
    let out = text(&output.stdout);
    assert!(out.contains("One way") && out.contains("driver ") && out.contains("heap allocations"), "{out}");
    assert!(!out.contains('\u{1b}') && output.stderr.is_empty(), "{out}");
}

#[test]
fn an_interrupt_ends_it_with_what_was_measured_until_then() {
    let mut bench = Tool::start("bench --rounds 1000");
    let mut out = bench.stdout();
    // By now it has begun, and catches the signal.
    lines_until(&mut out, "driver ");
    bench.signal("INT");
    lines_until(&mut out, "heap allocations");
    let output = bench.finish(b"");
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("interrupted"), "{}", text(&output.stderr));
}

#[test]
fn under_tls_nothing_is_allocated_for_a_message_either() {
    let output = run("bench --smoke --json --tls --size 32,1M --driver poll", b"");
    let report: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output.stderr)));
    assert_eq!((&report["tls"], &report["allocations"]), (&Value::Bool(true), &Value::from(0)), "{report}");
    assert_eq!(report["round_trip"].as_array().map(Vec::len), Some(4));
}
