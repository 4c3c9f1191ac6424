//! The bill for memory, against what the process really maps.
#![forbid(unsafe_code)]

use std::process::Command;

use zerio::{Config, Server};

use crate::hostile::{config, drivers};

/// Set in a process that runs one test alone, so that nobody else maps memory meanwhile.
const ALONE: &str = "ZERIO_TEST_ALONE";

/// How much memory this process has mapped, in bytes.
fn mapped() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmSize:")).unwrap();
    let kib: usize = line.trim().strip_suffix(" kB").unwrap().trim().parse().unwrap();
    kib * 1024
}

#[test]
fn the_bill_is_what_a_server_maps() {
    if std::env::var_os(ALONE).is_none() {
        let outcome = Command::new(std::env::current_exe().unwrap())
            .args(["memory::the_bill_is_what_a_server_maps", "--exact", "--nocapture"])
            .env(ALONE, "1")
            .output()
            .unwrap();
        let (stdout, stderr) =
            (String::from_utf8_lossy(&outcome.stdout), String::from_utf8_lossy(&outcome.stderr));
        assert!(outcome.status.success() && stdout.contains("1 passed"), "{stdout}\n{stderr}");
        return;
    }
    for driver in drivers() {
        for (sessions_max, send_ring, receive_buffer) in
            [(100, 256 * 1024, 256 * 1024), (200, 1024 * 1024, 256 * 1024), (50, 256 * 1024, 2 * 1024 * 1024)]
        {
            let config = config(|c| {
                (c.sessions_max, c.send_ring, c.receive_buffer) = (sessions_max, send_ring, receive_buffer);
                c.driver = driver;
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
            assert_eq!(bill.total(), exactly + bill.tables);
            drop(server);
            assert!(mapped() < before + grown / 2, "it is given back");
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
        "256 KiB  tables",
        "82305 KiB  in all",
        "0 KiB  of it pinned, 82305 KiB not",
    ] {
        assert!(text.contains(line), "{line:?} in\n{text}");
    }
}

#[test]
fn there_is_no_bill_for_what_can_not_work() {
    let error = config(|c| c.send_ring = 5000).memory().expect_err("no power of two");
    assert_eq!(error.setting, "send_ring");
}
