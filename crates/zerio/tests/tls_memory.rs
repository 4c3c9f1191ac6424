//! What a peer does without end under TLS leaves memory as it was. In a test of its own, because a process has one memory.
#![cfg(target_os = "linux")]
#![forbid(unsafe_code)]

mod common;

use common::certs::shared;
use common::raw::frame;
use common::tls_peer::Peer;
use common::{Case, Drive, Recorder};
use zerio::DriverKind;

/// Bytes of this process that are in memory.
fn resident() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

#[test]
fn a_million_key_updates_leave_memory_as_it_is() {
    let case = Case { driver: DriverKind::Auto, drive: Drive::Thread };
    let server = case.tls_server(case.config(), Recorder::echo(), shared().1.server());
    let mut peer = Peer::connect(&server, "a");
    let mut early = 0;
    for number in 0..31_250u32 {
        // As many as may come with no message between them.
        for _ in 0..32 {
            peer.tls.refresh_traffic_keys().unwrap();
        }
        peer.send(&number.to_le_bytes());
        assert_eq!(peer.receive(4), frame(&number.to_le_bytes()));
        if number == 3000 {
            early = resident();
        }
    }
    assert!(resident() < early + (1 << 20), "{early} bytes became {}", resident());
}
