//! `zerio serve --metrics`, asked over HTTP and read by a parser of Prometheus' text format.
#![deny(unsafe_code)]

mod support;

use std::io::{BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::ChildStdout;
use std::time::Duration;

use prometheus_parse::{Sample, Scrape, Value};
use support::{Tool, line, run, text};

fn serve(flags: &str) -> (Tool, SocketAddr, SocketAddr, BufReader<ChildStdout>) {
    let file = std::env::temp_dir().join(format!("zerio-metrics-{}-{}", std::process::id(), flags.len()));
    let counters = file.display();
    let mut tool = Tool::start(&format!("serve 0 --metrics 0 --counters {counters} {flags}"));
    let mut out = tool.stdout();
    let address = support::address(&line(&mut out));
    let second = line(&mut out);
    let metrics = second.strip_prefix("metrics at http://").and_then(|rest| rest.strip_suffix("/metrics"));
    let metrics = metrics.and_then(|address| address.parse().ok()).unwrap_or_else(|| panic!("{second}"));
    (tool, address, metrics, out)
}

/// What comes back, head and body.
fn ask(address: SocketAddr, request: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no HTTP: {answer:?}"));
    (head.to_owned(), body.to_owned())
}

fn scrape(address: SocketAddr) -> Vec<Sample> {
    let (head, body) = ask(address, "GET /metrics HTTP/1.1\r\nHost: here\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.contains("text/plain; version=0.0.4"), "{head}");
    assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{head}");
    let lines = body.lines().map(|line| Ok(line.to_owned()));
    Scrape::parse(lines).unwrap().samples
}

fn find<'a>(samples: &'a [Sample], name: &str) -> &'a Sample {
    let found = samples.iter().find(|sample| sample.metric == name);
    found.unwrap_or_else(|| {
        panic!("no {name} among {:?}", samples.iter().map(|s| &s.metric).collect::<Vec<_>>())
    })
}

#[test]
fn a_scraper_finds_what_the_server_counts() {
    let (mut server, address, metrics, _out) = serve("--engines 2");
    assert!(run(&format!("ping {address} --count 7 --interval 0ms"), b"").status.success());
    let sum = |name: &str| -> f64 {
        let samples = scrape(metrics);
        let of_it = samples.iter().filter(|sample| sample.metric == name);
        let values: Vec<f64> = of_it
            .map(|sample| match sample.value {
                Value::Counter(value) | Value::Gauge(value) => value,
                ref other => panic!("{name} is {other:?}"),
            })
            .collect();
        assert_eq!(values.len(), 2, "{name} of each engine");
        values.iter().sum()
    };
    support::until(|| sum("zerio_messages_received_total") == 7.0 && sum("zerio_disconnected_total") == 1.0);
    assert_eq!(sum("zerio_messages_accepted_total"), 7.0);
    let samples = scrape(metrics);
    assert!(matches!(find(&samples, "zerio_turns_total").value, Value::Counter(turns) if turns > 0.0));
    assert!(matches!(find(&samples, "zerio_longest_turn_seconds").value, Value::Gauge(time) if time < 60.0));
    assert!(matches!(find(&samples, "zerio_session_most_bytes_unsent").value, Value::Gauge(_)));
    for name in ["zerio_turn_seconds", "zerio_to_kernel_seconds"] {
        let Value::Histogram(times) = &find(&samples, name).value else { panic!("no histogram") };
        let counts: Vec<f64> = times.iter().map(|bucket| bucket.count).collect();
        let bounds: Vec<f64> = times.iter().map(|bucket| bucket.less_than).collect();
        assert!(counts.is_sorted() && counts.last() > Some(&0.0), "{name}: {times:?}");
        assert!(
            bounds.is_sorted() && bounds.first() > Some(&0.0) && bounds.last() == Some(&f64::INFINITY),
            "{name}: {times:?}"
        );
        let one = |part: &str| match find(&samples, &format!("{name}_{part}")).value {
            Value::Untyped(value) | Value::Counter(value) => value,
            ref other => panic!("{name}_{part} is {other:?}"),
        };
        assert_eq!(Some(&one("count")), counts.last());
        assert!(one("sum") > 0.0);
    }
    assert!(samples.iter().all(|sample| sample.metric.starts_with("zerio_")));
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn whoever_asks_for_something_else_or_for_nothing_hears_so_or_keeps_nobody_out() {
    let (_server, _, metrics, _out) = serve("");
    let (head, _) = ask(metrics, "GET / HTTP/1.1\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 404 "), "{head}");
    let (head, _) = ask(metrics, "POST /metrics HTTP/1.1\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 405 "), "{head}");
    // One that says nothing is given up on after a while, and one that never gets to the end of what it says.
    let silent = TcpStream::connect(metrics).unwrap();
    let mut slow = TcpStream::connect(metrics).unwrap();
    let speaking = std::thread::spawn(move || {
        while slow.write_all(b"x").is_ok() {
            std::thread::sleep(Duration::from_millis(100));
        }
    });
    assert!(!scrape(metrics).is_empty());
    speaking.join().unwrap();
    drop(silent);
    let taken = run(&format!("serve 0 --metrics {metrics}"), b"");
    assert_eq!(taken.status.code(), Some(1));
    for words in ["for scrapers", "another program listens there: choose another port"] {
        assert!(text(&taken.stderr).contains(words), "{}", text(&taken.stderr));
    }
    let contrary = run("serve 0 --metrics 0 --no-counters", b"");
    assert_eq!(contrary.status.code(), Some(2));
}
