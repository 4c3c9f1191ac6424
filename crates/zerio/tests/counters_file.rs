//! Counters that other processes read: the file's bytes by a reader of the test's own, which knows no more than
//! docs/counters.md says; whose file it is when processes come and go; and what it tells of engines and sessions.
//!
//! The other process is this test binary itself, told by its environment which file to write.
#![forbid(unsafe_code)]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use zerio::{Client, Config, CountersFile, CountersFileError, Error, Server, WaitStrategy, WriterState};

mod document;

const PATIENCE: Duration = Duration::from_secs(60);

/// Windows removes no file that somebody has mapped: a reader's stays, and one that has ended is replaced later.
const REMOVES: bool = cfg!(not(windows));

/// Where the other process is told to write its counters.
const OTHERS: &str = "ZERIO_TEST_COUNTERS";

/// A path of a test's own, which is gone when the test is over.
struct Place(PathBuf);

impl Place {
    fn new() -> Place {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("zerio-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        Place(std::env::temp_dir().join(name))
    }

    fn config(&self) -> Config {
        let mut config = Config::default();
        config.counters_file = Some(self.0.clone());
        config
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn echo(config: Config) -> Server {
    let server = Server::bind("127.0.0.1:0").unwrap().config(config);
    server.on_message(|peer, message| peer.send(message).unwrap()).start().unwrap()
}

#[track_caller]
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The process that writes a file until it is killed. In a run of the tests it has nothing to do.
#[test]
fn the_other_process_writes_its_counters() {
    let Some(path) = std::env::var_os(OTHERS) else { return };
    let mut config = Config::default();
    config.counters_file = Some(path.into());
    let _server = echo(config);
    println!("running");
    let _ = std::io::stdin().read(&mut [0]);
}

struct OtherProcess(Child);

impl OtherProcess {
    fn start(path: &Path) -> OtherProcess {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["the_other_process_writes_its_counters", "--exact", "--nocapture"])
            .env(OTHERS, path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(out.any(|line| line.unwrap().ends_with("running")), "it did not start");
        OtherProcess(child)
    }

    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for OtherProcess {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_file_of_a_living_process_is_refused_and_that_of_a_dead_one_replaced() {
    let place = Place::new();
    let mut other = OtherProcess::start(&place.0);
    let file = CountersFile::open(&place.0).unwrap();
    assert_eq!((file.writer().process, file.state()), (other.0.id(), WriterState::Running));

    let refused = Server::bind("127.0.0.1:0").unwrap().config(place.config()).start().unwrap_err();
    assert!(matches!(&refused, Error::CountersFile { path, .. } if *path == place.0), "{refused:?}");
    let text = refused.to_string();
    assert!(text.contains(&format!("process {} writes it, and lives", other.0.id())), "{text}");
    assert_eq!(file.state(), WriterState::Running, "nothing has happened to it");

    other.kill();
    assert_eq!(file.state(), WriterState::Died);
    let file = Some(file).filter(|_| REMOVES);
    let server = echo(place.config());
    let anew = CountersFile::open(&place.0).unwrap();
    assert_eq!((anew.writer().process, anew.state()), (std::process::id(), WriterState::Running));
    // Who still has the old one open reads the old one.
    let old = file.map(|file| (file.writer().process, file.state()));
    assert!(old.is_none_or(|old| old == (other.0.id(), WriterState::Died)), "{old:?}");
    server.stop();
    assert_eq!(anew.state(), WriterState::Ended);
    assert!(!(REMOVES && place.0.exists()), "it is gone with its server");
}

#[test]
fn one_process_does_not_write_a_file_twice() {
    let place = Place::new();
    let _server = echo(place.config());
    let again = Server::bind("127.0.0.1:0").unwrap().config(place.config()).start().unwrap_err();
    assert!(matches!(again, Error::CountersFile { .. }), "{again:?}");
}

#[test]
fn a_file_that_is_no_counters_file_stays() {
    let place = Place::new();
    fs::write(&place.0, "dear diary").unwrap();
    let refused = Server::bind("127.0.0.1:0").unwrap().config(place.config()).start().unwrap_err();
    assert!(refused.to_string().contains("no counters file, and it stays"), "{refused}");
    assert_eq!(fs::read(&place.0).unwrap(), b"dear diary");
    assert!(matches!(CountersFile::open(&place.0), Err(CountersFileError::Foreign)));
    // What a process leaves that dies at once is nothing.
    fs::write(&place.0, "").unwrap();
    assert!(matches!(CountersFile::open(&place.0), Err(CountersFileError::Beginning)));
    drop(echo(place.config()));
    assert!(!(REMOVES && place.0.exists()));
}

#[test]
fn a_damaged_file_is_read_by_nobody_and_replaced() {
    let place = Place::new();
    let server = echo(place.config());
    let good = fs::read(&place.0).unwrap();
    server.stop();
    let number = |at: usize| u64::from_ne_bytes(good[at..at + 8].try_into().unwrap());
    let (fields, session_lines) = (10 * 8, 14 * 8);
    for (at, value) in [
        (8, 2),                                  // another version
        (8 * 8, u64::MAX),                       // engines
        (9 * 8, 1 << 40),                        // slots
        (fields, 3),                             // not on a word
        (fields + 8, 8),                         // entries too short
        (session_lines, good.len() as u64),      // behind the end
        (session_lines + 8, 0),                  // of no length
        (number(fields) as usize + 16, !7),      // the first field, far away
        (number(fields) as usize + 24, 1 << 40), // or far too long
    ] {
        let mut bad = good.clone();
        bad[at..at + 8].copy_from_slice(&u64::to_ne_bytes(value));
        fs::write(&place.0, &bad).unwrap();
        let error = CountersFile::open(&place.0).map(drop).unwrap_err();
        assert_eq!(matches!(error, CountersFileError::Version(2)), at == 8, "{at}: {error}");
        assert!(at == 8 || matches!(error, CountersFileError::Damaged(_)), "{at}: {error}");
    }
    for len in [1, 100, 511, 512, 4096, good.len() - 1] {
        fs::write(&place.0, &good[..len]).unwrap();
        CountersFile::open(&place.0).map(drop).unwrap_err();
    }
    drop(echo(place.config()));
}

#[test]
fn a_server_that_is_polled_publishes_when_it_is_polled() {
    let place = Place::new();
    let server = Server::bind("127.0.0.1:0").unwrap().config(place.config());
    let mut server = server.on_message(|peer, message| peer.send(message).unwrap()).start_polled().unwrap();
    let client_place = Place::new();
    let client = Client::connect(server.local_addr(), "me").unwrap().config(client_place.config());
    let mut client = client.start_polled().unwrap();
    let (served, served_by) =
        (CountersFile::open(&place.0).unwrap(), CountersFile::open(&client_place.0).unwrap());
    assert!(served.writer().is_server && !served_by.writer().is_server);
    assert_eq!(served.writer().address, served_by.writer().address);
    let mut sent = false;
    until("a message there and back", || {
        server.poll().unwrap();
        client.poll().unwrap();
        if client.is_connected() && !sent {
            sent = client.try_send(b"hello").is_ok();
        }
        let (server, client) = (served.read(), served_by.read());
        let ids = |rows: &[zerio::CountersRow]| -> Vec<String> {
            rows.iter().filter_map(|row| row.text("peer").map(str::to_owned)).collect()
        };
        let counts = |label| (server.total(label), client.total(label));
        counts("messages_received") == (1, 1)
            && counts("messages_accepted") == (1, 1)
            && (ids(&server.sessions), ids(&client.sessions))
                == (vec!["me".to_owned()], vec!["me".to_owned()])
    });
    drop((server, client));
    assert_eq!((served.state(), served_by.state()), (WriterState::Ended, WriterState::Ended));
}

#[test]
fn the_file_says_what_the_server_itself_says() {
    for wait in [WaitStrategy::default(), WaitStrategy::Park, WaitStrategy::BusySpin] {
        let place = Place::new();
        let mut config = place.config();
        (config.wait, config.engines) = (wait, 2);
        struct Echo;
        impl zerio::Handler for Echo {
            fn on_message(&mut self, peer: &mut zerio::Context<'_>, message: &[u8]) {
                peer.send(message).unwrap();
            }
        }
        let server = Server::bind("127.0.0.1:0").unwrap().config(config).start_each(|_| Echo).unwrap();
        let file = CountersFile::open(&place.0).unwrap();
        let client = |id| Client::connect(server.local_addr(), id).unwrap().start().unwrap();
        let clients = ["one", "two", "three"].map(client);
        for client in &clients {
            (0..1000).for_each(|_| client.send(&[7; 100]).unwrap());
        }
        until("all is counted", || {
            let (snapshot, counters) = (file.read(), server.counters());
            snapshot.total("messages_received") == 3000
                && snapshot.total("messages_accepted") == 3000
                && snapshot.total("bytes_sent") == counters.sessions.sent.bytes_sent
                && snapshot.total("connected") == 3
                && snapshot.total("sessions") == 3
                && snapshot.most("longest_turn_ns") == counters.engine.longest_turn_ns
        });
        let snapshot = file.read();
        assert_eq!(snapshot.engines.len(), 2);
        let mut ids: Vec<_> = snapshot.sessions.iter().map(|row| row.text("peer").unwrap()).collect();
        ids.sort_unstable();
        assert_eq!(ids, ["one", "three", "two"]);
        for session in &snapshot.sessions {
            let id = session.text("peer").unwrap();
            let peer = server.peer(id).unwrap();
            assert_eq!(session.text("address"), Some(peer.address().to_string().as_str()));
            assert_eq!(session.get("messages_received"), Some(1000), "{id}");
            assert_eq!(session.get("state"), Some(3), "{id}");
            assert_eq!((session.get("bytes_unsent"), session.get("oldest_unsent_ns")), (Some(0), Some(0)));
            assert!(session.get("since") >= Some(file.writer().started), "{id}");
            assert!(session.get("published") >= session.get("since"), "{id}");
        }
        let turns = snapshot.histogram("turn_ns").unwrap();
        assert!(turns.count() > 0 && turns.count() <= snapshot.total("turns"), "{}", turns.count());
        assert!(turns.quantile(0.5) > 0 && turns.quantile(0.5) <= turns.max());
        assert_eq!(turns.max(), snapshot.most("longest_turn_ns"));
        // The first message of each session is the first of its ring's first sixteenth.
        let waits = snapshot.histogram("to_kernel_ns").unwrap();
        assert!(waits.count() >= 3, "{}", waits.count());

        // Who goes is seen to go, and what he has sent stays counted.
        drop(clients);
        until("all have gone", || file.read().sessions.is_empty());
        until("all is counted", || file.read().total("disconnected") == 3);
        assert_eq!(file.read().total("messages_received"), 3000);
    }
}

#[test]
fn sessions_that_come_and_go_between_two_rounds_were_not_counted() {
    let place = Place::new();
    let server = echo(place.config());
    let file = CountersFile::open(&place.0).unwrap();
    for n in 0..20 {
        let mut peer = TcpStream::connect(server.local_addr()).unwrap();
        peer.write_all(b"\x04\0\0\0peer\x05\0\0\0hello").unwrap();
        let mut answers = [0; 17];
        peer.read_exact(&mut answers).unwrap();
        drop(peer);
        until("it has gone", || server.counters().engine.disconnected == n + 1);
    }
    until("all of them are counted", || {
        let snapshot = file.read();
        snapshot.total("messages_received") == 20 && snapshot.total("messages_accepted") == 20
    });
    assert!(file.read().sessions.is_empty());
}

#[test]
fn what_threads_send_while_the_engine_sleeps_is_seen_soon() {
    let place = Place::new();
    let mut config = place.config();
    config.wait = WaitStrategy::Park;
    let server = echo(config);
    let client = Client::connect(server.local_addr(), "me").unwrap().start().unwrap();
    let file = CountersFile::open(&place.0).unwrap();
    until("it sleeps", || file.read().total("parks") > 2);
    // One that the engine need not wake for: the sending thread hands it to the kernel.
    server.send("me", b"direct").unwrap();
    until("it is seen", || file.read().total("messages_accepted") == 1);
    drop(client);
}

#[test]
fn a_peer_that_does_not_read_is_seen_to_fill_its_ring() {
    let place = Place::new();
    let mut config = place.config();
    (config.message_max, config.send_ring) = (1024, 16 * 1024);
    (config.socket_send_buffer, config.peer_timeout) = (Some(4096), PATIENCE);
    let server = Server::bind("127.0.0.1:0").unwrap().config(config).start().unwrap();
    let mut slow = TcpStream::connect(server.local_addr()).unwrap();
    slow.write_all(b"\x04\0\0\0slow").unwrap();
    let mut answer = [0; 8];
    slow.read_exact(&mut answer).unwrap();
    let peer = server.peer("slow").unwrap();
    let file = CountersFile::open(&place.0).unwrap();
    let seen = |label: &str| file.read().sessions.first().and_then(|session| session.get(label)).unwrap_or(0);
    until("the kernel has no room", || {
        while peer.try_send(&[7; 1000]).is_ok() {}
        seen("full_rings") > 0 && seen("oldest_unsent_ns") > 300_000_000
    });
    // Full but for less than a message and the sixteenth that is not released yet.
    let (used, most) = (seen("bytes_unsent"), seen("bytes_unsent_max"));
    assert!((13 * 1024..=16 * 1024).contains(&used) && most >= used && most <= 16 * 1024, "{used}, {most}");
    // Now it reads: all of it goes, and the most that it was stays.
    let accepted = peer.counters().unwrap().sent.messages_accepted;
    let mut all = vec![0; accepted as usize * 1004];
    slow.read_exact(&mut all).unwrap();
    until("nothing is unsent", || seen("bytes_unsent") == 0 && seen("oldest_unsent_ns") == 0);
    assert!(seen("bytes_unsent_max") >= most);
    // What waited longest is among the times from commit to kernel.
    assert!(file.read().histogram("to_kernel_ns").unwrap().max() > 300_000_000);
    drop(slow);
    until("it has gone", || file.read().sessions.is_empty());
}

#[test]
fn a_ring_that_was_never_full_had_been_so_by_its_high_water_once_it_was_empty() {
    const MESSAGES: u64 = 500;
    let place = Place::new();
    let server = echo(place.config());
    let client = Client::connect(server.local_addr(), "me").unwrap().start().unwrap();
    let file = CountersFile::open(&place.0).unwrap();
    // One by one, so that next to nothing is ever in the ring, and more than it takes to go back to the start.
    for number in 1..=MESSAGES {
        client.send(&[7; 60]).unwrap();
        until("it came back", || client.counters().sessions.received.messages_received == number);
    }
    until("it is seen", || file.read().total("messages_accepted") == MESSAGES);
    let most = file.read().sessions[0].get("bytes_unsent_max").unwrap();
    assert!(most < file.writer().send_ring / 4, "{most} bytes");
}

/// A name alone is one in the user's folder.
#[test]
fn a_name_is_a_file_in_the_folder_of_its_user() {
    let name = format!("test-{}", std::process::id());
    let mut config = Config::default();
    config.counters_file = Some(PathBuf::from(&name));
    let bill = config.memory().unwrap();
    let server = match Server::bind("127.0.0.1:0").unwrap().config(config).start() {
        Ok(server) => server,
        // A sandbox may have no shared memory.
        Err(error) => return eprintln!("SKIPPED: {error}"),
    };
    let path = CountersFile::folder().join(&name);
    assert!(CountersFile::list().unwrap().contains(&path));
    let file = CountersFile::open(&name).unwrap();
    assert_eq!((file.path(), file.writer().process), (path.as_path(), std::process::id()));
    assert_eq!(fs::metadata(&path).unwrap().len(), bill.counters_file as u64, "as the bill says");
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let modes = [path.parent().unwrap(), &path].map(|path| fs::metadata(path).unwrap().mode() & 0o777);
        assert_eq!(modes, [0o700, 0o600], "nobody else may read it");
    }
    server.stop();
    assert!(!(REMOVES && CountersFile::list().unwrap().contains(&path)));
}

#[test]
fn what_the_dead_leave_in_the_folder_does_not_pile_up() {
    let name = |n: usize| PathBuf::from(format!("test-dead-{}-{n}", std::process::id()));
    let mut config = Config::default();
    config.counters_file = Some(name(0));
    let server = match Server::bind("127.0.0.1:0").unwrap().config(config.clone()).start() {
        Ok(server) => server,
        Err(error) => return eprintln!("SKIPPED: {error}"),
    };
    let folder = CountersFile::folder();
    let dead = |n: usize| folder.join(name(n));
    // A copy is locked by nobody, as if its process had died.
    let of_the_living = fs::read(dead(0)).unwrap();
    (1..=20).for_each(|n| fs::write(dead(n), &of_the_living).unwrap());
    fs::write(dead(21), "no counters file").unwrap();
    config.counters_file = Some(name(22));
    let other = Server::bind("127.0.0.1:0").unwrap().config(config).start().unwrap();
    let left = (1..=20).filter(|&n| dead(n).exists()).count();
    assert!(left <= 8, "{left}");
    assert!([0, 21, 22].iter().all(|&n| dead(n).exists()), "the living stay, and what is not ours");
    (1..=21).for_each(|n| drop(fs::remove_file(dead(n))));
    drop((server, other));
}

// The layout, by a reader that knows docs/counters.md and nothing of the library's.

struct Bytes(Vec<u8>);

impl Bytes {
    fn number(&self, at: usize) -> u64 {
        u64::from_ne_bytes(self.0[at..at + 8].try_into().unwrap())
    }

    fn text(&self, at: usize, len: usize) -> String {
        let bytes: Vec<u8> = self.0[at..at + len].iter().copied().take_while(|&byte| byte != 0).collect();
        String::from_utf8(bytes).unwrap()
    }
}

/// The rows of the tables in the document whose first cell is a number: each row's cells.
fn table(document: &str, heading: &str) -> Vec<Vec<String>> {
    let section = document.split("\n## ").find(|section| section.starts_with(heading));
    let rows = section.unwrap_or_else(|| panic!("no section {heading}")).lines();
    let cells = |row: &str| -> Vec<String> {
        row.trim_matches('|').split('|').map(|cell| cell.trim().trim_matches('`').to_owned()).collect()
    };
    let rows = rows.filter(|row| row.starts_with("| ")).map(cells);
    rows.filter(|cells| cells[0].chars().all(|digit| digit.is_ascii_digit())).collect()
}

#[test]
fn the_bytes_are_what_the_document_says() {
    let document = document::read("counters.md");
    let place = Place::new();
    let mut config = place.config();
    (config.sessions_max, config.send_ring, config.receive_buffer) = (2, 8192, 8192);
    config.message_max = 1024;
    let server = echo(config);
    let client = Client::connect(server.local_addr(), "client-1").unwrap().start().unwrap();
    client.send(b"hello").unwrap();
    let file = CountersFile::open(&place.0).unwrap();
    until("it is counted", || file.read().total("messages_received") == 1);
    // By an ordinary read, as any language has it.
    let bytes = Bytes(fs::read(&place.0).unwrap());

    // The header, byte for byte, but for what is another one each time.
    if cfg!(target_endian = "little") {
        let block = document.split("```hex\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
        let mut lines = 0;
        for line in block.lines() {
            let (at, rest) = line.split_once("  ").unwrap();
            let at = usize::from_str_radix(at, 16).unwrap();
            for (index, byte) in rest.split('#').next().unwrap().split_whitespace().enumerate() {
                let found = format!("{:02x}", bytes.0[at + index]);
                assert!(
                    byte == "??" || byte == found,
                    "at {at:x} + {index}: {byte} and not {found}:\n{line}"
                );
            }
            lines += 1;
        }
        assert!(lines >= 27, "{lines} lines of hex");
    }
    assert_eq!(&bytes.0[..8], b"ZERIOCNT");
    assert_eq!(bytes.number(7 * 8), bytes.0.len() as u64);
    assert_eq!(bytes.number(3 * 8), u64::from(std::process::id()));
    assert_eq!(bytes.text(32 * 8, 128), server.local_addr().to_string());

    // The table of fields, row by row: at, length, label, kind, unit.
    let (table_at, entry) = (bytes.number(10 * 8) as usize, bytes.number(11 * 8) as usize);
    let mut entries = (0..bytes.number(18 * 8) as usize).map(|index| table_at + index * entry);
    let kinds = ["", "counter", "gauge", "time", "text", "address", "state", "histogram"];
    let mut fields = Vec::new();
    for (scope, heading) in [(1, "An engine's line"), (2, "A session's line"), (3, "Histograms")] {
        for row in table(&document, heading) {
            let at = entries.next().unwrap_or_else(|| panic!("no field for {row:?}"));
            assert_eq!(bytes.number(at), scope, "{row:?}");
            let found = [
                bytes.number(at + 16).to_string(),
                bytes.number(at + 24).to_string(),
                bytes.text(at + 64, 48),
                kinds[bytes.number(at + 8) as usize].to_owned(),
                bytes.text(at + 32, 16),
            ];
            assert_eq!(row[..5], found, "{row:?}");
            assert!(bytes.text(at + 112, 144).ends_with('.'), "{row:?} has no meaning");
            fields.push((scope, found[2].clone(), bytes.number(at + 16) as usize));
        }
    }
    assert_eq!(entries.next(), None, "the document names each field");

    // What the lines say.
    let field = |scope: u64, label: &str| {
        let found = fields.iter().find(|field| (field.0, field.1.as_str()) == (scope, label));
        found.unwrap_or_else(|| panic!("{label}")).2
    };
    let engine = bytes.number(12 * 8) as usize;
    assert!(bytes.number(engine).is_multiple_of(2), "it is not just being written");
    assert_eq!(bytes.number(engine + field(1, "messages_received")), 1);
    assert_eq!(bytes.text(engine + field(1, "driver"), 16), server.driver().name);
    let (sessions, line) = (bytes.number(14 * 8) as usize, bytes.number(15 * 8) as usize);
    let slots = bytes.number(9 * 8) as usize;
    let open: Vec<usize> = (0..slots)
        .map(|slot| sessions + slot * line)
        .filter(|&at| bytes.number(at + field(2, "state")) == 3)
        .collect();
    assert_eq!(open.len(), 1);
    assert_eq!(bytes.text(open[0] + field(2, "peer"), 256), "client-1");
    let address = open[0] + field(2, "address");
    assert_eq!((bytes.number(address) >> 32, &bytes.0[address + 8..address + 12]), (4, &[127, 0, 0, 1][..]));
    assert_eq!(bytes.number(address) as u16, server.peer("client-1").unwrap().address().port());
    assert_eq!(sessions + slots * line, bytes.0.len(), "nothing comes behind them");

    // The histograms, by the rule that the document gives for their buckets.
    let histograms = bytes.number(16 * 8) as usize;
    let (precision, buckets, head) =
        (bytes.number(20 * 8), bytes.number(21 * 8), bytes.number(22 * 8) as usize);
    for label in ["turn_ns", "to_kernel_ns"] {
        let at = histograms + field(3, label);
        let mut count = 0;
        let mut highest = 0;
        for bucket in 0..buckets {
            let here = bytes.number(at + head + bucket as usize * 8);
            let shift = (bucket >> precision).saturating_sub(1);
            if here > 0 {
                highest = ((bucket - (shift << precision)) + 1) << shift;
            }
            count += here;
        }
        assert!(count > 0, "{label}");
        let max = bytes.number(at + 8);
        assert!(max < highest && highest as f64 <= max as f64 * 1.01 + 1.0, "{label}: {max}, {highest}");
        assert!(bytes.number(at) >= max, "{label}: the sum");
    }
}
