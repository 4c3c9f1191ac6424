//! The bill for memory, against what the process really maps; and of what pages: `huge_pages`.
#![forbid(unsafe_code)]

use std::process::Command;

use zerio::{Config, DriverKind, Error, Server};

use crate::hostile::{Echo, RawPeer, config, drivers, frame};

/// Set in a process that runs one test alone, so that nobody else maps memory meanwhile.
const ALONE: &str = "ZERIO_TEST_ALONE";

/// How much memory this process has mapped, in bytes.
fn mapped() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmSize:")).unwrap();
    let kib: usize = line.trim().strip_suffix(" kB").unwrap().trim().parse().unwrap();
    kib * 1024
}

/// Whether this process runs that test alone. Where it does not, one that does is started, and has to pass.
#[track_caller]
pub(crate) fn alone(test: &str) -> bool {
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    let mut process = Command::new(std::env::current_exe().unwrap());
    let outcome = process.args([test, "--exact", "--nocapture"]).env(ALONE, "1").output().unwrap();
    let (stdout, stderr) =
        (String::from_utf8_lossy(&outcome.stdout), String::from_utf8_lossy(&outcome.stderr));
    assert!(outcome.status.success() && stdout.contains("1 passed"), "{stdout}\n{stderr}");
    false
}

/// How much memory of this process is there, in bytes: what was mapped and touched.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    1024 * line.trim().strip_suffix(" kB").unwrap().trim().parse::<usize>().unwrap()
}

#[test]
fn large_rings_are_not_touched_before_somebody_uses_them() {
    /// Of each of 64 slots, a send ring and a receive buffer.
    const LARGE: usize = 2 << 20;
    /// What an engine has besides, with much room: a thread, tables, a driver's queues.
    const BESIDES: usize = 16 << 20;
    if !alone("memory::large_rings_are_not_touched_before_somebody_uses_them") {
        return;
    }
    // The model of Registered I/O looks at all of it.
    for driver in drivers().filter(|&driver| driver != DriverKind::RioModel) {
        let config = config(|c| {
            (c.sessions_max, c.send_ring, c.receive_buffer) = (60, LARGE, LARGE);
            c.driver = driver;
        });
        let before = resident();
        let server = Server::bind("127.0.0.1:0").unwrap().config(config);
        let server = server.handler(Echo::default()).start().unwrap();
        // One peer uses the beginning of its own.
        let mut peer = RawPeer::welcome(server.local_addr(), "peer");
        peer.say(&frame(b"oui"));
        assert_eq!(peer.hear(), b"oui");
        let (grown, mapped) = (resident().saturating_sub(before), 128 * LARGE);
        assert!(grown < BESIDES, "{driver}: {grown} bytes of some {mapped} are there");
    }
}

#[test]
fn the_bill_is_what_a_server_maps() {
    if !alone("memory::the_bill_is_what_a_server_maps") {
        return;
    }
    for driver in drivers() {
        for (sessions_max, send_ring, receive_buffer) in
            [(100, 256 * 1024, 256 * 1024), (200, 1024 * 1024, 256 * 1024), (50, 256 * 1024, 2 * 1024 * 1024)]
        {
            let config = config(|c| {
                (c.sessions_max, c.send_ring, c.receive_buffer) = (sessions_max, send_ring, receive_buffer);
                c.driver = driver;
                c.connections_per_address = Some(sessions_max);
            });
            let bill = config.memory().unwrap();
            let before = mapped();
            // A polled server, because a thread brings a stack and an arena of its own.
            let server = Server::bind("127.0.0.1:0").unwrap().config(config).start_polled().unwrap();
            let grown = mapped() - before;
            let exactly = bill.send_rings + bill.receive_buffers + bill.handshakes;
            assert!(grown >= exactly, "{driver}: {grown} mapped, {exactly} on the bill");
            // The tables stand there at the most; the allocator rounds what it maps, and a driver has
            // its queues.
            let most = bill.total() + 1024 * 1024;
            assert!(grown <= most, "{driver}: {grown} mapped, {most} would be much");
            assert_eq!(bill.total(), exactly + bill.tables + bill.addresses);
            drop(server);
            assert!(mapped() < before + grown / 2, "it is given back");
        }
    }
}

/// The mappings of this process that are to be of huge pages (`hg`), each by its size in KiB.
fn huge() -> Vec<usize> {
    let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let (mut sizes, mut size) = (Vec::new(), 0);
    for line in smaps.lines() {
        if let Some(kib) = line.strip_prefix("Size:") {
            size = kib.trim().strip_suffix(" kB").unwrap().parse().unwrap();
        }
        if line
            .strip_prefix("VmFlags:")
            .is_some_and(|flags| flags.split_whitespace().any(|flag| flag == "hg"))
        {
            sizes.push(size);
        }
    }
    sizes
}

#[test]
fn huge_pages_is_what_the_kernel_is_asked_for_and_off_by_default() {
    for driver in drivers() {
        let start = |huge_pages| {
            let config = config(|c| (c.driver, c.huge_pages, c.sessions_max) = (driver, huge_pages, 3));
            let bill = config.memory().unwrap();
            let server = Server::bind("127.0.0.1:0").unwrap().config(config).start_polled();
            (server, (bill.send_rings + bill.receive_buffers) / 1024)
        };
        // Nobody else in this process asks for any.
        let (plain, _) = start(false);
        plain.unwrap();
        assert_eq!(huge(), [0; 0], "{driver}");
        match start(true) {
            (Ok(_server), kib) => {
                assert!(huge().iter().sum::<usize>() >= kib, "{driver}: {:?}, {kib} KiB on the bill", huge());
            }
            (Err(Error::Config(error)), _) => {
                assert_eq!(error.setting, "huge_pages");
                let there = std::path::Path::new("/sys/kernel/mm/transparent_hugepage").exists();
                assert!(!there, "refused where there are some: {error}");
            }
            (Err(error), _) => panic!("{driver}: {error}"),
        }
    }
}

#[test]
fn the_bill_grows_with_what_it_is_for() {
    let sum = |change: fn(&mut Config)| config(change).memory().unwrap();
    let default = sum(|_| {});
    assert_eq!(sum(|c| c.send_ring *= 2).send_rings, 2 * default.send_rings);
    assert_eq!(sum(|c| c.receive_buffer *= 2).receive_buffers, 2 * default.receive_buffers);
    let one_more = sum(|c| c.sessions_max += 1);
    assert!(one_more.slots == default.slots + 1 && one_more.handshakes > default.handshakes);
    let bounded = sum(|c| c.connections_per_address = Some(8));
    assert!(bounded.addresses > 0 && bounded.total() == default.total() + bounded.addresses);
    assert!(sum(|c| c.engines = 4).slots > default.slots, "each engine has slots to refuse in");
    assert_eq!(default.pinned + default.unpinned(), default.total());
}

#[test]
fn the_bill_can_be_printed() {
    let memory = config(|c| (c.sessions_max, c.send_ring) = (56, 1024 * 1024)).memory().unwrap();
    assert_eq!(memory.slots, 64);
    let text = memory.to_string();
    for line in [
        "65536 KiB  send rings, 64 slots",
        "16384 KiB  receive buffers",
        "129 KiB  handshakes",
        "384 KiB  tables",
        "0 KiB  addresses",
        "82433 KiB  in all",
        "0 KiB  of it pinned, 82433 KiB not",
    ] {
        assert!(text.contains(line), "{line:?} in\n{text}");
    }
}

#[test]
fn there_is_no_bill_for_what_can_not_work() {
    let error = config(|c| c.send_ring = 5000).memory().expect_err("no power of two");
    assert_eq!(error.setting, "send_ring");
}

/// Each value is one that can be; all of them together are more than any address has bits for.
#[test]
fn memory_that_no_machine_has_was_refused_without_a_word_of_what_to_change() {
    let config = config(|c| (c.sessions_max, c.send_ring) = (1_000_000, 1 << 30));
    assert!(config.memory().unwrap().total() > 1 << 49);
    let error = Server::bind("127.0.0.1:0").unwrap().config(config).start_polled().map(drop).unwrap_err();
    let text = error.to_string();
    assert!(["sessions_max", "send_ring"].iter().all(|setting| text.contains(setting)), "{text}");
}
