//! Worlds under TLS.
#![forbid(unsafe_code)]

use super::*;
use crate::error::{Alert, TlsFault};
use crate::tls::{TlsClient, TlsServer};

/// What a world's servers and clients speak TLS with.
fn credentials() -> (TlsServer, TlsClient) {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let certificate = rcgen::CertificateParams::new(["simulated".to_owned()]).unwrap();
    let certificate = certificate.self_signed(&key).unwrap().pem();
    let server = TlsServer::from_pem(certificate.as_bytes(), key.serialize_pem().as_bytes()).unwrap();
    (server, TlsClient::with_roots(certificate.as_bytes()).unwrap().server_name("simulated").unwrap())
}

fn secure_world(seed: u64, config: Config) -> (World, Server<Told>) {
    let mut world = World::new(seed);
    world.set_faults(Faults::none());
    let (server, client) = credentials();
    world.secure(server, client);
    let server = world.server(config, Told { answers: true, ..Told::default() }).unwrap();
    (world, server)
}

#[test]
fn messages_go_both_ways_and_nobody_on_the_way_can_read_them() {
    let (mut world, server) = secure_world(1, Config::default());
    let client = client(&mut world, &server);
    assert!(world.run_until(LONG, || client.is_connected()));
    client.try_send(b"oui").unwrap();
    assert!(world.run_until(LONG, || !client.handler().heard.is_empty()));
    assert_eq!(client.handler().heard, [b"oui"]);
    client.stop();
    assert!(world.run_until(LONG, || client.is_finished() && server.handler().ended.is_some()));
    assert_eq!(server.handler().ended.unwrap().reason, Reason::PeerClosed);
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
