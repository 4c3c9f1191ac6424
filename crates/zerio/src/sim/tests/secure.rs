//! Worlds under TLS.
#![forbid(unsafe_code)]

use super::*;
use crate::error::{Alert, TlsFault};
use crate::tls::keys::Keys;
use crate::tls::record::{Kind, OVERHEAD};
use crate::tls::{Side, TlsClient, TlsServer};
use crate::wire::RefusalFrame;

/// What a world's servers and clients speak TLS with.
fn credentials() -> (TlsServer, TlsClient) {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let certificate = rcgen::CertificateParams::new(["simulated".to_owned()]).unwrap();
    let certificate = certificate.self_signed(&key).unwrap().pem();
    let server = TlsServer::from_pem(certificate.as_bytes(), key.serialize_pem().as_bytes()).unwrap();
    (server, TlsClient::with_roots(certificate.as_bytes()).unwrap().server_name("simulated").unwrap())
}

/// A client that a test leads by hand, record by record.
struct Peer {
    far: Far,
    keys: Keys,
}

impl Peer {
    fn connect(world: &mut World, server: &Server<Told>, tls: &TlsClient) -> Peer {
        let far = Far::begin(&world.net, server.address());
        let mut handshake = Side::Client(tls.clone()).begin(server.address()).unwrap();
        let (mut heard, mut bytes) = (Vec::new(), [0; 4096]);
        loop {
            let mut out = Vec::new();
            let step = handshake.advance(&mut heard, &mut out).unwrap();
            heard.drain(..step.done_with);
            world.run_for(Duration::from_millis(1));
            assert!(out.is_empty() || far.try_write(&out).unwrap() == out.len());
            world.run_for(Duration::from_millis(1));
            if step.done {
                let peer = Peer { far, keys: handshake.finish().unwrap().keys };
                assert!(peer.read() > 0, "tickets");
                return peer;
            }
            if let Ok(read) = far.try_read(&mut bytes) {
                heard.extend_from_slice(&bytes[..read]);
            }
        }
    }

    fn record(&mut self, message: &[u8]) -> Vec<u8> {
        let frame = [&(message.len() as u32).to_le_bytes(), message].concat();
        let mut record = vec![0; frame.len() + OVERHEAD];
        self.keys.seal(Kind::Data, &frame, &mut record);
        record
    }

    /// Takes all that there is; gives how much that was.
    fn read(&self) -> usize {
        let mut bytes = [0; 64 * 1024];
        self.far.try_read(&mut bytes).unwrap_or(0)
    }
}

fn secure_world(seed: u64, config: Config) -> (World, Server<Told>) {
    secure_world_by(seed, config, credentials())
}

fn secure_world_by(
    seed: u64,
    config: Config,
    (server, client): (TlsServer, TlsClient),
) -> (World, Server<Told>) {
    let mut world = World::new(seed);
    world.set_faults(Faults::none());
    world.secure(server, client);
    let server = world.server(config, Told { answers: true, ..Told::default() }).unwrap();
    (world, server)
}

#[test]
fn messages_go_both_ways_and_nobody_on_the_way_can_read_them() {
    let (mut world, server) = secure_world(1, Config::default());
    let client = client(&mut world, &server);
    world.net.read_records(0);
    assert!(world.run_until(LONG, || client.is_connected()));
    client.try_send(b"oui").unwrap();
    assert!(world.run_until(LONG, || !client.handler().heard.is_empty()));
    assert_eq!(client.handler().heard, [b"oui"]);
    client.stop();
    assert!(world.run_until(LONG, || client.is_finished() && server.handler().ended.is_some()));
    assert_eq!(server.handler().ended.unwrap().reason, Reason::PeerClosed);
    for side in [0, 1] {
        let records = world.net.records_sent(End { connection: 0, side }, 0);
        let clear = records.iter().take_while(|record| !record.protected).count();
        assert!(records.len() > clear + 3 && records[clear..].iter().all(|record| record.protected));
    }
}

#[test]
fn a_direction_that_is_shut_is_told_as_cut_off() {
    let (mut world, server) = secure_world(1, Config::default());
    let client = client(&mut world, &server);
    assert!(world.run_until(LONG, || client.is_connected()));
    world.set_faults(Faults { half_closes: 1000, ..Faults::none() });
    client.try_send(b"the last").unwrap();
    world.run_until(LONG, || client.is_finished());
    assert_eq!(server.handler().heard, [b"the last"]);
    assert_eq!(server.handler().ended.unwrap().reason, Reason::Tls(TlsFault::Truncated));
}

#[test]
fn who_is_over_a_limit_hears_an_alert_and_nothing_else() {
    let limit = Config { connections_per_second: Some(1), connection_burst: 1, ..Config::default() };
    let (mut world, server) = secure_world(1, limit);
    assert!(comes_in(&mut world, &server, "a"));
    let second = client(&mut world, &server);
    assert!(world.run_until(LONG, || second.is_finished()));
    let told = second.engine.borrow_mut().core().take_outcome();
    let failure = told.and_then(|(_, outcome)| outcome.err());
    let denied = Reason::Tls(TlsFault::Alert(Alert(49)));
    assert!(
        matches!(failure, Some(crate::engine::Failure::Ended(reason)) if reason == denied),
        "{failure:?}"
    );
}

#[test]
fn what_was_committed_while_a_record_waited_for_room_was_forgotten() {
    for seed in 0..50 {
        let (mut world, server) = secure_world(seed, Config::default());
        let client = client(&mut world, &server);
        assert!(world.run_until(LONG, || client.is_connected()));
        world.set_faults(Faults { short_sends: 500, ..Faults::none() });
        for message in 1..=4 {
            world.run_for(Duration::from_millis(1));
            // Both in one sleep of the engine: the second finds what is left of the first one's record.
            client.try_send(b"the first").unwrap();
            client.try_send(b"the second").unwrap();
            let all_came = || client.handler().heard.len() == 2 * message;
            assert!(world.run_until(LONG, all_came), "seed {seed}, after {message}");
        }
    }
}

#[test]
fn an_alert_behind_what_waited_for_room_was_forgotten() {
    for seed in 0..10 {
        let (tls, client) = credentials();
        let (mut world, server) = secure_world_by(seed, Config::default(), (tls, client.clone()));
        world.set_faults(Faults { room: 4096, ..Faults::none() });
        let mut peer = Peer::connect(&mut world, &server, &client);
        for message in [&b"me"[..], &[7; 3000], &[7; 3000]] {
            let record = peer.record(message);
            assert_eq!(peer.far.try_write(&record).unwrap(), record.len());
            world.run_for(Duration::from_millis(1));
        }
        // The second echo has no room, and waits.
        let mut record = peer.record(b"changed");
        record[9] ^= 1;
        peer.far.try_write(&record).unwrap();
        world.run_for(Duration::from_millis(1));
        world.set_faults(Faults { short_sends: 500, ..Faults::none() });
        let mut read = 0;
        for _ in 0..100 {
            read += peer.read();
            world.run_for(Duration::from_millis(1));
        }
        let [greeting, echo, alert] = [4 + 2, 4 + 3000, 2].map(|plain| plain + OVERHEAD);
        assert_eq!(read, greeting + 2 * echo + alert, "seed {seed}");
    }
}

#[test]
fn an_end_that_came_with_what_a_handler_did_not_want_to_hear_was_told_as_a_frame_that_breaks_off() {
    struct Leaves(Told);
    impl Handler for Leaves {
        fn on_message(&mut self, peer: &mut Context<'_>, message: &[u8]) {
            self.0.on_message(peer, message);
            peer.disconnect();
        }

        fn on_disconnected(&mut self, peer: &mut Context<'_>, why: &Disconnection) {
            self.0.on_disconnected(peer, why);
        }
    }
    let (mut world, _) = secure_world(1, Config::default());
    let server = world.server(Config::default(), Leaves(Told::default())).unwrap();
    let client = world.client(server.address(), "me", Config::default(), Told::default()).unwrap();
    assert!(world.run_until(LONG, || client.is_connected()));
    // So late that it finds all of it at once.
    world.set_faults(Faults { late_wake_ups: 1000, delay: Duration::from_millis(20), ..Faults::none() });
    ["one", "two", "three"].iter().for_each(|text| client.try_send(text.as_bytes()).unwrap());
    client.stop();
    assert!(world.run_until(LONG, || server.handler().0.ended.is_some()));
    assert_eq!(server.handler().0.heard, [b"one"]);
    assert_eq!(server.handler().0.ended.unwrap().reason, Reason::PeerClosed);
}

#[test]
fn who_was_refused_already_was_refused_once_more_when_he_spoke_no_tls() {
    let (mut world, server) = secure_world(1, Config { sessions_max: 1, ..Config::default() });
    assert!(comes_in(&mut world, &server, "a"));
    let plain = Far::begin(&world.net, server.address());
    assert!(world.run_until(LONG, || plain.is_connected()));
    world.run_for(Duration::from_millis(1));
    plain.try_write(b"\x02\0\0\0me").unwrap();
    world.run_for(LONG);
    let mut said = [0; 100];
    let read = plain.try_read(&mut said).unwrap();
    assert_eq!(&said[..read], RefusalFrame::new(RefusalCode::ServerFull).frame());
    drop(plain);
    world.run_for(LONG);
    assert_eq!(server.handler().rejected, Some(Rejection::Refused(RefusalCode::ServerFull)));
    assert_eq!(server.counters().engine.refused, 1);
}

#[test]
fn a_fault_of_tls_on_a_connection_that_was_lost_was_told_as_its_end() {
    let by = credentials();
    let (mut world, server) = secure_world_by(1, Config::default(), by.clone());
    let mut peer = Peer::connect(&mut world, &server, &by.1);
    for message in [&b"me"[..], b"an answer to this one cuts the way back", b"an answer to this one fails"] {
        let record = peer.record(message);
        assert_eq!(peer.far.try_write(&record).unwrap(), record.len());
        let cuts = if message.ends_with(b"back") { 1000 } else { 0 };
        world.set_faults(Faults { half_closes: cuts, ..Faults::none() });
        world.run_for(Duration::from_millis(5));
        world.set_faults(Faults::none());
    }
    assert!(server.handler().ended.is_none(), "it is read on");
    for _ in 0..33 {
        let mut empty = vec![0; OVERHEAD];
        peer.keys.seal(Kind::Data, b"", &mut empty);
        assert_eq!(peer.far.try_write(&empty).unwrap(), empty.len());
    }
    peer.far.shut_down();
    assert!(world.run_until(LONG, || server.handler().ended.is_some()));
    assert_eq!(server.handler().ended.unwrap().reason, Reason::Tls(TlsFault::EmptyRecords));
}

#[test]
fn who_was_refused_stayed_for_another_deadline_by_saying_something_that_is_no_tls() {
    let (handshake, drain) = (Duration::from_millis(100), Duration::from_millis(500));
    let config = Config { handshake_timeout: handshake, drain_timeout: drain, ..Config::default() };
    let (mut world, server) = secure_world(1, config);
    let far = Far::begin(&world.net, server.address());
    world.run_for(handshake + drain - Duration::from_millis(50));
    assert_eq!(server.handler().rejected, None, "it has its time to hear why");
    assert!(far.try_write(b"GET / HTTP/1.1").unwrap() > 0);
    world.run_for(Duration::from_millis(100));
    assert_eq!(server.handler().rejected, Some(Rejection::Refused(RefusalCode::TooLate)));
}
