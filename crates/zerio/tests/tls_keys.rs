//! New keys after the handshake: a peer may change them as often as it likes, but not for nothing, and while it does so the
//! others have their turn.
#![forbid(unsafe_code)]

mod common;

use std::io::Write;
use std::net::Shutdown;

use common::certs::shared;
use common::tls_peer::Peer;
use common::{Case, Log, Recorder, drivers, texts};
use zerio::{Reason, TlsFault};

/// The record that announces another key.
fn update(peer: &mut Peer) -> Vec<u8> {
    let mut record = Vec::new();
    peer.tls.refresh_traffic_keys().unwrap();
    peer.tls.write_tls(&mut record).unwrap();
    record
}

/// What becomes of a session on which so many updates come in a row, then a message, and the end.
fn after(case: &Case, updates: usize) -> (Reason, Vec<String>) {
    let log = Log::new();
    let server = case.tls_server(case.config(), Recorder::new(&log), shared().1.server());
    let mut other = Peer::connect(&server, "other");
    let mut peer = Peer::connect(&server, "a");
    let mut bytes: Vec<u8> = (0..updates).flat_map(|_| update(&mut peer)).collect();
    bytes.extend(peer.record(b"behind them"));
    peer.tls.send_close_notify();
    peer.tls.write_tls(&mut bytes).unwrap();
    // The server may end it before it has read all of that.
    let _ = peer.socket.write_all(&bytes).and_then(|()| peer.socket.shutdown(Shutdown::Write));
    let reason = log.wait_disconnected("a").reason;
    other.send(b"untouched");
    log.wait_messages("other", 1);
    (reason, texts(&log.of("a")))
}

drivers! {
    fn key_updates_without_a_message_between_them_kept_an_engine_at_work_without_end(case) {
        assert_eq!(after(case, 32), (Reason::PeerClosed, vec!["behind them".to_owned()]));
        assert_eq!(after(case, 33), (Reason::Tls(TlsFault::Unexpected), vec![]));
    }

    fn what_came_behind_more_new_keys_than_are_taken_in_one_turn_is_heard(case) {
        const MESSAGES: usize = 500;
        let log = Log::new();
        let server = case.tls_server(case.config(), Recorder::new(&log), shared().1.server());
        let mut peer = Peer::connect(&server, "a");
        let mut bytes = Vec::new();
        for number in 0..MESSAGES {
            bytes.extend(update(&mut peer));
            bytes.extend(peer.record(number.to_string().as_bytes()));
        }
        peer.tls.send_close_notify();
        peer.tls.write_tls(&mut bytes).unwrap();
        // All at once: after it nothing comes that could make the server look again.
        peer.socket.write_all(&bytes).unwrap();
        peer.socket.shutdown(Shutdown::Write).unwrap();
        assert_eq!(log.wait_disconnected("a").reason, Reason::PeerClosed);
        let expected: Vec<String> = (0..MESSAGES).map(|number| number.to_string()).collect();
        assert_eq!(texts(&log.of("a")), expected);
    }
}
