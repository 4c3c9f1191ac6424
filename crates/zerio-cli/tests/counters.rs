//! `zerio stat` and `zerio top` beside a running `zerio serve`: what they print, in a real terminal where they draw.
#![deny(unsafe_code)]

mod support;

use std::io::BufReader;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ChildStdout;

use serde_json::Value;
use support::{Tool, line, run, text, until};

/// A server with a file of counters of the test's own.
struct Served {
    tool: Tool,
    address: SocketAddr,
    file: PathBuf,
    /// What it prints: it ends when nobody reads that.
    _out: BufReader<ChildStdout>,
}

impl Served {
    fn start(name: &str) -> Served {
        let file = std::env::temp_dir().join(format!("zerio-cli-test-{}-{name}", std::process::id()));
        let mut tool = Tool::start(&format!("serve 127.0.0.1:0 --counters {}", file.display()));
        let mut out = tool.stdout();
        let address = support::address(&line(&mut out));
        Served { tool, address, file, _out: out }
    }

    fn stat(&self) -> Value {
        let output = run(&format!("stat {} --json", self.file.display()), b"");
        assert!(output.status.success(), "{}", text(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn ping(&self, id: &str) -> Tool {
        Tool::start(&format!("ping {} --interval 10ms --id {id}", self.address))
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // The tool is killed next, and so leaves it.
        let _ = std::fs::remove_file(&self.file);
    }
}

#[test]
fn stat_in_json_says_what_the_server_counts() {
    let served = Served::start("json");
    let _ping = served.ping("me");
    until(|| served.stat()["totals"]["messages_received"].as_u64() >= Some(3));
    let stat = served.stat();
    assert_eq!((&stat["role"], &stat["state"]), (&"server".into(), &"running".into()));
    assert_eq!(stat["address"], served.address.to_string());
    let sessions = stat["sessions"].as_array().unwrap();
    assert_eq!(
        (sessions.len(), &sessions[0]["peer"], &sessions[0]["state"]),
        (1, &"me".into(), &"open".into())
    );
    assert!(sessions[0]["messages_accepted"].as_u64() >= Some(3), "{stat}");
    let times = &stat["times"]["turn_ns"];
    let values = ["p50", "p90", "p99", "p999", "max"].map(|part| times[part].as_u64().unwrap());
    assert!(values[0] > 0 && values.is_sorted() && times["count"].as_u64() > Some(0), "{times}");
    assert_eq!(stat["engines"].as_array().unwrap().len(), 1);
}

#[test]
fn stat_prints_tables_and_finds_a_server_by_what_it_is_called() {
    let mut served = Served::start("tables");
    let _ping = served.ping("somebody");
    // Before its handshake a session is listed without a name.
    until(|| served.stat()["sessions"][0]["peer"] == "somebody");
    let by_path = run(&format!("stat {}", served.file.display()), b"");
    let out = text(&by_path.stdout);
    for part in
        ["messages received", "turn ", "to kernel", "somebody", &format!("process {}", served.tool.id())]
    {
        assert!(out.contains(part), "no {part}: {out}");
    }
    assert!(!out.contains('\x1b'), "{out}");
    let nobody = run("stat nobody-is-called-so", b"");
    assert_eq!(nobody.status.code(), Some(1));
    assert!(text(&nobody.stderr).contains("nobody writes counters as"), "{}", text(&nobody.stderr));
    let diary = std::env::temp_dir().join(format!("zerio-cli-test-{}-diary", std::process::id()));
    std::fs::write(&diary, "dear diary, ".repeat(100)).unwrap();
    let foreign = run(&format!("stat {}", diary.display()), b"");
    std::fs::remove_file(&diary).unwrap();
    assert!(text(&foreign.stderr).contains("no counters file"), "{}", text(&foreign.stderr));
}

/// Without a path the file is where `stat` looks for it, by address and by process; and nothing is left of it.
#[test]
fn a_server_writes_its_counters_on_its_own_accord() {
    let (mut server, address, _out) = support::server("");
    let by_address = run(&format!("stat {address} --json"), b"");
    if !by_address.status.success() {
        // A sandbox may have no shared memory; then the server has said so and serves.
        return eprintln!("SKIPPED: {}", text(&by_address.stderr));
    }
    let by_process = run(&format!("stat {} --json", server.id()), b"");
    let file = |output: &std::process::Output| -> Value {
        serde_json::from_slice::<Value>(&output.stdout).unwrap()["file"].clone()
    };
    assert_eq!(file(&by_address), file(&by_process));
    let path = PathBuf::from(file(&by_address).as_str().unwrap());
    assert!(path.exists());
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0));
    assert!(cfg!(windows) || !path.exists(), "{}", path.display());
    let (_without, address, _out) = support::server("--no-counters");
    assert!(!run(&format!("stat {address}"), b"").status.success());
}

/// Two servers at once, neither of them the only one; and a file that a server of another version might write.
#[test]
fn who_is_meant_is_asked_with_all_that_tells_one_from_another() {
    let (first, second) = (support::server(""), support::server(""));
    if !run(&format!("stat {}", first.1), b"").status.success() {
        return eprintln!("SKIPPED: a machine without shared memory");
    }
    let asked = run("stat", b"");
    assert_eq!(asked.status.code(), Some(1));
    let why = text(&asked.stderr);
    for (_, address, _) in [&first, &second] {
        let file = format!("server {address}, process ");
        let name = format!(", file serve-127.0.0.1-{}", address.port());
        assert!(why.lines().any(|line| line.contains(&file) && line.ends_with(&name)), "{why}");
        assert!(run(&format!("stat serve-127.0.0.1-{}", address.port()), b"").status.success());
    }
    assert!(
        why.contains("which one?") && why.contains("say which: its address, process id or file"),
        "{why}"
    );
    assert!(!why.contains("ADDRESS"), "{why}");
    let nobody = text(&run("stat nobody-is-called-so", b"").stderr);
    assert!(nobody.contains("there are:") && nobody.contains(&first.1.to_string()), "{nobody}");

    let folder = zerio::CountersFile::folder();
    let mut bytes = std::fs::read(folder.join(format!("serve-127.0.0.1-{}", first.1.port()))).unwrap();
    // Its second word is the layout's version.
    bytes[8..16].copy_from_slice(&99_u64.to_ne_bytes());
    let newer = folder.join(format!("zerio-cli-test-{}-newer", std::process::id()));
    std::fs::write(&newer, bytes).unwrap();
    let why = text(&run("stat nobody-is-called-so", b"").stderr);
    std::fs::remove_file(&newer).unwrap();
    let told = format!("can't read the counters in {}: its layout is version 99", newer.display());
    assert!(why.contains(&told) && why.contains("the `zerio` of the server's version"), "{why}");
}

#[test]
fn a_watch_tells_rates_and_ends_with_the_server() {
    let mut served = Served::start("watch");
    let _ping = served.ping("me");
    let mut watch = Tool::start(&format!("stat {} --watch 100ms --json", served.file.display()));
    let mut out = watch.stdout();
    let mut next = || -> Value { serde_json::from_str(&line(&mut out)).unwrap() };
    while next()["rates"]["messages_received_per_second"].as_f64() <= Some(1.0) {}
    served.tool.signal("KILL");
    served.tool.wait();
    while next()["state"] != "died" {}
    let output = watch.finish(b"");
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output.stderr).contains("has died"), "{}", text(&output.stderr));
}

#[test]
fn top_draws_on_terminals_only() {
    let served = Served::start("pipe");
    let output = run(&format!("top {}", served.file.display()), b"");
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("stat --watch"), "{}", text(&output.stderr));
}

/// In a terminal that `script` makes, whose screen is kept by a terminal emulator.
#[cfg(target_os = "linux")]
mod in_a_terminal {
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::num::NonZero;
    use std::process::{Child, ChildStdin, Command, Stdio};
    use std::sync::{Arc, Mutex};

    use super::*;

    struct Terminal {
        child: Child,
        keys: ChildStdin,
        screen: Arc<Mutex<vt100::Parser>>,
    }

    impl Terminal {
        fn start(arguments: &str, columns: u16, rows: u16) -> Terminal {
            Terminal::with(("LANG", "C.UTF-8"), arguments, columns, rows)
        }

        /// With this in its environment.
        fn with((name, value): (&str, &str), arguments: &str, columns: u16, rows: u16) -> Terminal {
            let size = |len| NonZero::new(len).expect("a terminal has some");
            let tool = env!("CARGO_BIN_EXE_zerio");
            let command = format!("stty cols {columns} rows {rows}; exec {tool} {arguments}");
            let mut child = Command::new("script")
                .args(["--quiet", "--return", "--command", &command, "/dev/null"])
                .env("TERM", "xterm-256color")
                .env_remove("NO_COLOR")
                .env(name, value)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .expect("every Linux has `script`");
            let screen = Arc::new(Mutex::new(vt100::Parser::new(size(rows), size(columns), 0)));
            let (mut out, shown) = (child.stdout.take().unwrap(), screen.clone());
            std::thread::spawn(move || {
                let mut bytes = [0; 4096];
                while let Ok(len @ 1..) = out.read(&mut bytes) {
                    shown.lock().unwrap().process(&bytes[..len]);
                }
            });
            let keys = child.stdin.take().unwrap();
            Terminal { child, keys, screen }
        }

        fn text(&self) -> String {
            self.screen.lock().unwrap().screen().contents()
        }

        fn has_colours(&self) -> bool {
            let shown = self.screen.lock().unwrap();
            let (rows, columns) = shown.screen().size();
            let mut cells =
                (0..rows.get()).flat_map(|row| (0..columns.get()).map(move |column| (row, column)));
            cells.any(|(row, column)| {
                let cell = shown.screen().cell(row, column);
                cell.is_some_and(|cell| cell.fgcolor() != vt100::Color::Default)
            })
        }

        #[track_caller]
        fn shows(&self, what: &str) {
            self.comes_to(what, |text| text.contains(what));
        }

        /// Waits until what it shows is so; says what it shows instead, where it does not come to that.
        #[track_caller]
        fn comes_to(&self, what: &str, is_so: impl Fn(&str) -> bool) {
            let begun = std::time::Instant::now();
            while !is_so(&self.text()) {
                assert!(begun.elapsed() < support::PATIENCE, "no {what:?}:\n{}", self.text());
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
        }

        fn press(&mut self, keys: &str) {
            self.keys.write_all(keys.as_bytes()).and_then(|()| self.keys.flush()).unwrap();
        }
    }

    impl Drop for Terminal {
        fn drop(&mut self) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }

    #[test]
    fn top_shows_sessions_sorts_filters_and_pauses() {
        let served = Served::start("top");
        let (_one, _two) = (served.ping("busy-one"), served.ping("busy-two"));
        let mut top = Terminal::start(&format!("top {} -i 100ms", served.file.display()), 80, 24);
        top.shows("busy-one");
        top.shows("busy-two");
        let text = top.text();
        let first = text.lines().next().unwrap_or_default();
        assert!(first.contains(&format!("server {}", served.address)), "{text}");
        for part in ["sessions  2 of 256", "turns", "to kernel", "IN/s▾", "OLDEST", "q quit"] {
            assert!(text.contains(part), "no {part}:\n{text}");
        }
        assert!(!text.contains("ADDRESS"), "80 columns have no room for it:\n{text}");
        top.press("s");
        top.shows("OUT/s▾");
        top.press("r");
        top.shows("OUT/s▴");
        top.press("/two");
        top.shows("filter: two");
        until(|| !top.text().contains("busy-one") && top.text().contains("busy-two"));
        top.press("x\r");
        top.shows("no session matches the filter");
        top.press("\x1b");
        top.shows("busy-one");
        top.press("p");
        top.shows("PAUSED");
        top.press("p");
        until(|| !top.text().contains("PAUSED"));
        top.press("q");
        assert!(top.child.wait().unwrap().success());
    }

    /// A session with the server, byte by byte.
    fn arrive(address: SocketAddr, id: &str) -> TcpStream {
        let mut stream = TcpStream::connect(address).unwrap();
        let frame = [&(id.len() as u32).to_le_bytes(), id.as_bytes()].concat();
        stream.write_all(&frame).unwrap();
        let mut answer = vec![0; frame.len()];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(answer, frame);
        stream
    }

    #[test]
    fn top_shows_what_a_server_has_lost_and_whom_it_has_refused() {
        let served = Served::start("trouble");
        let top = Terminal::start(&format!("top {} -i 100ms", served.file.display()), 80, 24);
        top.shows("no losses, refusals, failed handshakes, bad frames or full rings");
        let _here = arrive(served.address, "here");
        let again = run(&format!("ping {} --count 1 --id here", served.address), b"");
        assert_eq!(again.status.code(), Some(1), "{}", text(&again.stderr));
        drop(TcpStream::connect(served.address).unwrap());
        arrive(served.address, "bad").write_all(&[0xff; 4]).unwrap();
        // What comes back is not read, and in the end has no room; then the connection is reset.
        let mut slow = arrive(served.address, "slow");
        let frame = [&60_000_u32.to_le_bytes()[..], &[b'x'; 60_000]].concat();
        let total = |name: &str| served.stat()["totals"][name].as_u64().unwrap();
        while total("full_rings") == 0 {
            (0..16).for_each(|_| slow.write_all(&frame).unwrap());
        }
        top.shows("slow");
        drop(slow);
        let names = ["messages_undelivered", "refused", "failed_handshakes", "bad_frames", "full_rings"];
        until(|| names.iter().all(|name| total(name) > 0) && total("sessions") == 1);
        let [lost, refused, failed, bad, full] = names.map(total);
        assert!((refused, failed, bad) == (1, 1, 1) && lost.max(full) < 1000, "{}", served.stat());
        let trouble =
            format!("trouble   undelivered {lost}  refused 1  failed 1  bad frames 1  full rings {full}");
        top.shows(&trouble);
    }

    #[test]
    fn top_sorts_the_sessions_by_what_is_chosen_and_lets_none_in_while_it_pauses() {
        let served = Served::start("order");
        let (_silent, _busy) = (arrive(served.address, "a-silent-one"), served.ping("b-busy-one"));
        let mut top = Terminal::start(&format!("top {} -i 100ms", served.file.display()), 80, 24);
        let busy_is_first = |top: &Terminal| {
            let text = top.text();
            Some(text.find("b-busy-one")? < text.find("a-silent-one")?)
        };
        until(|| busy_is_first(&top) == Some(true));
        top.press("r");
        until(|| busy_is_first(&top) == Some(false));
        top.press("rp");
        until(|| busy_is_first(&top) == Some(true) && top.text().contains("PAUSED"));
        let _late = arrive(served.address, "c-late-one");
        until(|| served.stat()["totals"]["sessions"] == 3);
        std::thread::sleep(std::time::Duration::from_millis(300));
        assert!(!top.text().contains("c-late-one"), "{}", top.text());
        top.press("p");
        top.shows("c-late-one");
        drop(top);
        let top = Terminal::start(&format!("top {} -i 100ms --sort peer", served.file.display()), 80, 24);
        until(|| busy_is_first(&top) == Some(false));
    }

    #[test]
    fn top_scrolls_by_lines_and_pages_and_from_its_end_at_once() {
        let served = Served::start("scroll");
        let _here: Vec<_> = (10..40).map(|id| arrive(served.address, &format!("peer-{id}"))).collect();
        // Nobody scrolls beyond what stands in the file, and that may be some of them for a while.
        let is_listed = |session: &Value| session["peer"].as_str().is_some_and(|id| id.starts_with("peer-"));
        until(|| {
            served.stat()["sessions"].as_array().unwrap().iter().filter(|one| is_listed(one)).count() == 30
        });
        let which = served.file.display().to_string();
        let mut top = Terminal::start(&format!("top {which} -i 100ms --sort peer"), 80, 24);
        let shows = |top: &Terminal, after: &str, from: u32, to: u32| {
            let is_shown = |text: &str, id: u32| text.contains(&format!("peer-{id}"));
            top.comes_to(&format!("{from} to {to} after {after}"), |text| {
                (10..40).filter(|id| is_shown(text, *id)).eq(from..to)
            });
        };
        // Of 24 lines eight are not the sessions'.
        shows(&top, "the start", 10, 26);
        for (key, from) in
            [("j", 11), ("\x1b[B", 12), ("k", 11), ("\x1b[A", 10), ("\x1b[6~", 20), ("\x1b[5~", 10)]
        {
            top.press(key);
            shows(&top, key, from, from + 16);
        }
        top.press("\x1b[F");
        shows(&top, "End", 24, 40);
        // It had gone on beyond what is shown, and took as many keys to come back.
        top.press("k");
        shows(&top, "k", 23, 39);
        top.press("\x1b[H");
        shows(&top, "Home", 10, 26);
        top.press("/peer-31\x7f");
        shows(&top, "a filter", 30, 40);
        top.press("\r ");
        top.shows("PAUSED");
    }

    #[test]
    fn top_went_on_for_ever_when_its_terminal_had_gone() {
        let served = Served::start("gone");
        let top = Terminal::start(&format!("top {} -i 100ms", served.file.display()), 80, 24);
        top.shows("nobody is connected");
        let script = top.child.id();
        let children = std::fs::read_to_string(format!("/proc/{script}/task/{script}/children")).unwrap();
        let process = format!("/proc/{}", children.trim());
        assert!(std::fs::read_to_string(format!("{process}/comm")).unwrap().starts_with("zerio"));
        drop(top);
        until(|| !std::path::Path::new(&process).exists());
    }

    #[test]
    fn top_on_a_wide_terminal_has_addresses_and_totals() {
        let served = Served::start("wide");
        let _ping = served.ping("me");
        let top = Terminal::start(&format!("top {} -i 100ms", served.file.display()), 200, 24);
        for part in ["ADDRESS", "RECEIVED", "127.0.0.1:", "open"] {
            top.shows(part);
        }
    }

    #[test]
    fn top_and_stat_have_no_colours_where_somebody_wants_none() {
        let served = Served::start("colours");
        let _ping = served.ping("me");
        let file = served.file.display();
        for (name, has_colours) in [("LANG", true), ("NO_COLOR", false)] {
            let top = Terminal::with((name, "1"), &format!("top {file} -i 100ms"), 80, 24);
            top.shows("me ");
            top.shows("up ");
            assert_eq!(top.has_colours(), has_colours, "{name}:\n{}", top.text());
        }
        let stat = Terminal::with(("NO_COLOR", "1"), &format!("stat {file} --watch 100ms"), 80, 40);
        stat.shows("me ");
        assert!(!stat.has_colours());
    }

    #[test]
    fn stat_watches_in_eighty_columns_until_it_is_interrupted() {
        let served = Served::start("news");
        let _ping = served.ping("me");
        let mut stat = Terminal::start(&format!("stat {} --watch 100ms", served.file.display()), 80, 40);
        for part in ["per second", "messages received", "to kernel", "me "] {
            stat.shows(part);
        }
        println!("{}", stat.text());
        // Each look takes the place of the last one: there is one title, however many there were.
        let seconds = format!("server {}", served.address);
        assert_eq!(stat.text().matches(&seconds).count(), 1, "{}", stat.text());
        stat.press("\x03");
        assert!(stat.child.wait().unwrap().success());
    }

    #[test]
    fn top_survives_a_server_that_goes_and_shows_it_again_when_it_is_back() {
        let mut served = Served::start("back");
        let _ping = served.ping("me");
        let mut top = Terminal::start(&format!("top {} -i 100ms", served.file.display()), 80, 24);
        top.shows("me ");
        served.tool.signal("KILL");
        served.tool.wait();
        top.shows("died; waiting for it");
        assert!(top.text().contains("me "), "its last counts stay:\n{}", top.text());
        let again = Served::start("back");
        top.shows(&format!("server {}", again.address));
        top.shows("nobody is connected");
        // An end in order says so.
        let mut again = again;
        again.tool.signal("INT");
        assert!(again.tool.wait().success());
        top.shows("ended; waiting for it");
        let third = Served::start("back");
        top.shows(&format!("server {}", third.address));
        // Ctrl-C, as a terminal has it where the program reads each key.
        top.press("\x03");
        assert!(top.child.wait().unwrap().success());
    }
}
