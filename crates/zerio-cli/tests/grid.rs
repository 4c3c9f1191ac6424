//! `zerio bench --grid`, as a process: its lines, its files, and what it does with what is typed.
#![deny(unsafe_code)]

mod support;

use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

use support::{Tool, line, run, text};

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

/// A host of a grid, with two servers, on ports of 127.0.0.1 that nobody had.
fn host() -> (Tool, String) {
    loop {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut host = Tool::start(&format!("bench --grid-host {free} --servers 2 --size 100,8"));
        if line(&mut host.stdout()).starts_with("ready: ") {
            return (host, free.to_string());
        }
        // One of the four has been taken.
        let mut why = String::new();
        host.stderr().read_to_string(&mut why).unwrap();
        assert!(why.contains("can't listen") || why.contains("twice as many ports"), "{why}");
    }
}

#[test]
fn the_servers_are_on_hosts_where_those_are_named() {
    let (folder, hosts) = (Folder::new("hosts"), [host(), host()]);
    let [first, second] = hosts.each_ref().map(|(_, address)| address);
    let flags = format!(
        "--hosts {first},{second} --servers 2 --clients 2 --size 100 --delay 100ms --burst 3 --seconds 1"
    );
    let output = run(&format!("bench --grid {} {flags}", folder.0.display()), b"");
    assert!(output.status.success(), "{}", text(&output.stderr));
    for line in folder.read("grid.csv").lines().skip(1) {
        let line: Vec<&str> = line.split(',').collect();
        // Two hosts with two servers with two clients, which send three messages ten times.
        assert_eq!(line[3..8], ["240", "240", "100", "100000", "3"], "{line:?}");
    }
    let too_long =
        run(&format!("bench --grid {} {flags}", folder.0.display()).replace("--size 100", "--size 1m"), b"");
    assert_eq!(too_long.status.code(), Some(1));
    assert!(text(&too_long.stderr).contains("--size as large"), "{}", text(&too_long.stderr));
    let [(mut host, address), _other] = hosts;
    host.signal("INT");
    assert_eq!(host.wait().code(), Some(0));
    let alone = run(&format!("bench --grid {} --hosts {address}", folder.0.display()), b"");
    assert_eq!(alone.status.code(), Some(1));
    assert!(text(&alone.stderr).contains("can't connect"), "{}", text(&alone.stderr));
}

/// Two namespaces with a link between them, which go with their test.
#[cfg(target_os = "linux")]
struct Link(String);

#[cfg(target_os = "linux")]
impl Link {
    /// A complaint of `ip` where it can't be had.
    fn new() -> Result<Link, String> {
        let link = Link(format!("zerio-grid-{}", std::process::id()));
        let name = &link.0;
        for step in [
            format!("netns add {name}-a"),
            format!("netns add {name}-b"),
            format!("-n {name}-a link add link0 type veth peer name link0 netns {name}-b"),
            format!("-n {name}-a addr add 10.213.8.1/24 dev link0"),
            format!("-n {name}-b addr add 10.213.8.2/24 dev link0"),
            format!("-n {name}-a link set link0 up"),
            format!("-n {name}-b link set link0 up"),
        ] {
            Link::ip(&step)?;
        }
        Ok(link)
    }

    fn ip(arguments: &str) -> Result<(), String> {
        let outcome = std::process::Command::new("ip").args(arguments.split_whitespace()).output();
        let output = outcome.map_err(|why| why.to_string())?;
        if output.status.success() {
            Ok(())
        } else {
            Err(format!("ip {arguments}: {}", text(&output.stderr)))
        }
    }

    /// The tool in one of the two.
    fn tool(&self, side: &str, arguments: &str) -> Tool {
        let mut command = std::process::Command::new("ip");
        command.args(["netns", "exec", &format!("{}-{side}", self.0)]);
        let tool = support::zerio(arguments);
        command.arg(tool.get_program()).args(tool.get_args());
        Tool::spawn(command)
    }
}

#[cfg(target_os = "linux")]
impl Drop for Link {
    fn drop(&mut self) {
        for side in ["a", "b"] {
            let _ = Link::ip(&format!("netns del {}-{side}", self.0));
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_grid_goes_from_one_host_to_another() {
    let link = match Link::new() {
        Ok(link) => link,
        Err(why) => {
            let why = format!("no network namespaces here (they take root and iproute2): {why}");
            return support::skipped("links", why);
        }
    };
    let mut host = link.tool("a", "bench --grid-host 10.213.8.1:7000 --servers 2");
    assert_eq!(
        line(&mut host.stdout()),
        "ready: ports 7000 to 7003 of 10.213.8.1, messages of up to 1024 bytes"
    );
    let folder = Folder::new("link");
    let flags = "--hosts 10.213.8.1:7000 --servers 2 --size 1k --delay 100ms --burst 2 --seconds 1";
    let output = link.tool("b", &format!("bench --grid {} {flags}", folder.0.display())).finish(b"");
    assert!(output.status.success(), "{}", text(&output.stderr));
    let lines = folder.read("grid.csv");
    let answers: Vec<&str> = lines.lines().map(|line| line.split(',').nth(4).unwrap()).collect();
    assert_eq!(answers, ["ActMsgCount", "40", "40"]);
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
    assert!(
        text(&bad.stderr).contains("give three words, size, delay and burst, as in: 32 1ms 10"),
        "{}",
        text(&bad.stderr)
    );
}

#[test]
fn the_first_interrupt_had_waited_for_a_line_that_nobody_typed() {
    let folder = Folder::new("waits");
    let mut grid = Tool::start(&format!("bench --grid {} --manual", folder.0.display()));
    // By now it has begun, and catches the signal.
    assert_eq!(line(&mut grid.stdout()), HEADS);
    grid.signal("INT");
    assert_eq!(grid.wait().code(), Some(0));
}

#[test]
fn a_test_that_was_interrupted_stood_in_the_files_as_if_it_had_been_whole() {
    for manual in [false, true] {
        let folder = Folder::new(&format!("cut-{manual}"));
        std::fs::create_dir(&folder.0).unwrap();
        for whole in ["zerio-32-1000us-1.hgrm", "tcp-32-1000us-1.hgrm"] {
            std::fs::write(folder.0.join(whole), "of a whole test").unwrap();
        }
        let how = if manual { "--manual" } else { "--size 32 --delay 1ms --burst 1" };
        let mut grid = Tool::start(&format!("bench --grid {} --seconds 60 {how}", folder.0.display()));
        assert_eq!(line(&mut grid.stdout()), HEADS);
        if manual {
            grid.write(b"32 1ms 1\n");
        }
        // Before it has begun, or in its midst: either way it is cut short.
        std::thread::sleep(Duration::from_millis(300));
        grid.signal("INT");
        let code = grid.wait().code();
        assert!(!folder.0.join("grid.csv").exists(), "{manual}: {}", folder.read("grid.csv"));
        for whole in ["zerio-32-1000us-1.hgrm", "tcp-32-1000us-1.hgrm"] {
            assert_eq!(folder.read(whole), "of a whole test", "{manual}");
        }
        // At the prompt a Ctrl-C is an end in order.
        assert!(code == Some(1) || manual && code == Some(0), "{manual}: {code:?}");
    }
}

#[test]
fn what_can_not_be_is_wrong_usage() {
    let folder = Folder::new("wrong");
    std::fs::create_dir(&folder.0).unwrap();
    std::fs::write(folder.0.join("grid.csv"), "the last results").unwrap();
    for (flags, word) in [
        ("--size 7", "carries a time"),
        ("--delay 0ms", "1us or more"),
        ("--bandwidth 0", "--bandwidth"),
        ("--smoke", "--smoke"),
        ("--rounds 3", "--rounds"),
        ("--tls", "--tls"),
        ("--tls-cert a --tls-key b --tls-ca c", "--tls-cert"),
        ("--manual --size 32", "--manual"),
        ("--hosts nonsense", "HOST:PORT"),
        ("--grid-host 127.0.0.1:7000", "--grid-host"),
        ("--hosts 127.0.0.1:65535", "twice as many ports"),
    ] {
        let output = run(&format!("bench --grid {} {flags}", folder.0.display()), b"");
        assert_eq!(output.status.code(), Some(2), "{flags}");
        assert!(text(&output.stderr).contains(word), "{flags}: {}", text(&output.stderr));
    }
    let tls = run(&format!("bench --grid {} --tls", folder.0.display()), b"");
    assert!(!text(&tls.stderr).contains("--tls-cert"), "{}", text(&tls.stderr));
    // Nobody listens there, and nobody types.
    let nobody = zerio::Server::bind("127.0.0.1:0").unwrap();
    for flags in [format!("--hosts {}", nobody.local_addr()), "--manual".to_owned()] {
        run(&format!("bench --grid {} {flags}", folder.0.display()), b"");
    }
    assert_eq!(folder.read("grid.csv"), "the last results", "a run without any had erased them");
    let host = run("bench --grid-host 127.0.0.1:7000 --tls", b"");
    assert_eq!(host.status.code(), Some(2));
    let alone = run("bench --burst 3", b"");
    assert_eq!(alone.status.code(), Some(2));
    assert!(text(&alone.stderr).contains("--grid"), "{}", text(&alone.stderr));
    let nowhere = run("bench --grid-host 127.0.0.1:0", b"");
    assert_eq!(nowhere.status.code(), Some(2));
    assert!(text(&nowhere.stderr).contains("name a port"), "{}", text(&nowhere.stderr));
}
