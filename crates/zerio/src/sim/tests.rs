//! Faults of the simulated network, one at a time and certain to come; and what only a clock of one's own shows
//! exactly.
#![forbid(unsafe_code)]

use std::io::ErrorKind;

use super::*;
use crate::driver::sim::{End, Far};
use crate::engine::Context;
use crate::error::{Disconnection, Reason, RefusalCode, Rejection};
use crate::handler::Rejections;

#[cfg(feature = "tls")]
mod secure;

const LONG: Duration = Duration::from_secs(1);

/// Answers what it hears with the same, if it is to, and keeps what it is told.
#[derive(Default)]
struct Told {
    answers: bool,
    heard: Vec<Vec<u8>>,
    ended: Option<Disconnection>,
    rejected: Option<Rejection>,
    told: Vec<Rejections>,
}

impl Handler for Told {
    fn on_message(&mut self, peer: &mut Context<'_>, message: &[u8]) {
        if self.answers {
            peer.send(message).expect("its ring has room");
        }
        self.heard.push(message.to_vec());
    }

    fn on_disconnected(&mut self, _: &mut Context<'_>, why: &Disconnection) {
        self.ended = Some(*why);
    }

    fn on_rejected(&mut self, _: SocketAddr, why: &Rejection) {
        self.rejected = Some(*why);
    }

    fn on_rejections(&mut self, some: &Rejections) {
        self.told.push(*some);
    }
}

fn calm_world() -> (World, Server<Told>) {
    let mut world = World::new(1);
    world.set_faults(Faults::none());
    let server = world.server(Config::default(), Told { answers: true, ..Told::default() }).unwrap();
    (world, server)
}

fn client(world: &mut World, server: &Server<Told>) -> Client<Told> {
    world.client(server.address(), "me", Config::default(), Told::default()).unwrap()
}

#[test]
fn a_sender_in_the_world_that_is_left_waited_for_ever_when_an_earlier_one_was_gone() {
    for earlier_goes_first in [true, false] {
        let mut worlds = [World::new(1), World::new(2)];
        if !earlier_goes_first {
            worlds.reverse();
        }
        let [gone, left] = worlds;
        drop(gone);
        assert!(crate::wait::in_handler(), "nothing waits in a world");
        drop(left);
        assert!(!crate::wait::in_handler(), "and what has nothing to do with one does");
    }
}

#[test]
fn a_direction_that_is_shut_ends_the_session_and_the_other_still_brings_the_answer() {
    let (mut world, server) = calm_world();
    let client = client(&mut world, &server);
    assert!(world.run_until(LONG, || client.is_connected()));
    world.set_faults(Faults { half_closes: 1000, ..Faults::none() });
    client.try_send(b"the last").unwrap();
    world.run_until(LONG, || client.is_finished());
    let left = |told: &Told| told.ended.map(|end| (end.reason, end.undelivered.messages));
    assert_eq!(left(&server.handler()), Some((Reason::PeerClosed, 0)));
    assert_eq!(left(&client.handler()), Some((Reason::PeerClosed, 0)));
    assert_eq!(client.handler().heard, [b"the last"]);
}

/// It has no receive to hear by: its engine asks why, as it does on Linux.
#[cfg(target_os = "linux")]
#[test]
fn a_paused_session_whose_link_was_given_up_had_been_reset() {
    let (mut world, server) = calm_world();
    let config = Config { peer_timeout: Duration::from_millis(200), ..Config::default() };
    let client = world.client(server.address(), "me", config, Told::default()).unwrap();
    assert!(world.run_until(LONG, || client.is_connected()));
    client.peer().unwrap().pause().unwrap();
    world.set_faults(Faults { cuts: 1000, gives_up: Duration::from_millis(10), ..Faults::none() });
    // Not each cut is for good.
    while !client.is_finished() {
        assert!(world.now() < 100 * LONG);
        let _ = server.try_send("me", b"unheard");
        world.run_for(Duration::from_millis(20));
    }
    let ended = client.handler().ended.unwrap();
    assert_eq!(ended.reason, Reason::Connection(ErrorKind::TimedOut));
}

#[test]
fn what_is_sent_in_a_direction_that_is_shut_is_told_to_be_left() {
    let (mut world, server) = calm_world();
    let client = client(&mut world, &server);
    assert!(world.run_until(LONG, || client.is_connected()));
    world.set_faults(Faults { half_closes: 1000, ..Faults::none() });
    client.try_send(b"taken").unwrap();
    world.step();
    let peer = client.peer().unwrap();
    while server.handler().heard.is_empty() {
        world.step();
    }
    peer.try_send(b"too late").unwrap();
    world.run_until(LONG, || client.is_finished());
    let ended = client.handler().ended.unwrap();
    // It is read to its end, and that is the other side's own.
    assert_eq!(ended.reason, Reason::PeerClosed);
    assert_eq!(ended.undelivered.messages, 1);
    assert_eq!(client.handler().heard, [b"taken"]);
}

#[test]
fn a_client_that_can_t_even_begin_to_connect_is_finished_at_once() {
    let (mut world, server) = calm_world();
    world.set_faults(Faults { connect_errors: 1000, ..Faults::none() });
    let unlucky = client(&mut world, &server);
    assert!(unlucky.is_finished() && unlucky.peer().is_none());
    world.set_faults(Faults::none());
    let next = client(&mut world, &server);
    assert!(world.run_until(LONG, || next.is_connected()));
}

#[test]
fn a_connection_that_the_driver_can_t_take_leaves_its_place_to_the_next() {
    let (mut world, server) = calm_world();
    world.set_faults(Faults { adopt_errors: 1000, ..Faults::none() });
    for _ in 0..2 * Config::default().slots_per_engine() {
        let unlucky = client(&mut world, &server);
        assert!(world.run_until(LONG, || unlucky.is_finished()));
    }
    let rejected = server.handler().rejected;
    assert_eq!(rejected, Some(Rejection::Ended(Reason::Connection(ErrorKind::OutOfMemory))));
    world.set_faults(Faults::none());
    let next = client(&mut world, &server);
    assert!(world.run_until(LONG, || next.is_connected()));
}

#[test]
fn a_server_that_can_t_listen_is_none_and_leaves_the_world_to_the_next() {
    let (mut world, _) = calm_world();
    world.set_faults(Faults { listen_errors: 1000, ..Faults::none() });
    let error = world.server(Config::default(), Told::default()).unwrap_err();
    assert!(matches!(error, Error::System { .. }), "{error}");
    world.set_faults(Faults::none());
    let server = world.server(Config::default(), Told::default()).unwrap();
    let client = client(&mut world, &server);
    assert!(world.run_until(LONG, || client.is_connected()));
}

/// A server that lets in so many in a second, one by one.
fn slow_server(per_second: u32) -> (World, Server<Told>) {
    let mut world = World::new(1);
    world.set_faults(Faults::none());
    let config =
        Config { connections_per_second: Some(per_second), connection_burst: 1, ..Config::default() };
    let server = world.server(config, Told::default()).unwrap();
    (world, server)
}

/// Whether a client of this name comes in, or is refused.
fn comes_in(world: &mut World, server: &Server<Told>, id: &str) -> bool {
    let client = world.client(server.address(), id, Config::default(), Told::default()).unwrap();
    assert!(world.run_until(LONG, || client.is_connected() || client.is_finished()));
    client.is_connected()
}

#[test]
fn a_token_comes_back_after_its_time_and_not_before() {
    let (mut world, server) = slow_server(2);
    assert!(comes_in(&mut world, &server, "a"));
    let taken = world.now();
    assert!(!comes_in(&mut world, &server, "b"));
    world.run_for(Duration::from_millis(490) - (world.now() - taken));
    assert!(!comes_in(&mut world, &server, "c"));
    world.run_for(Duration::from_millis(501) - (world.now() - taken));
    assert!(comes_in(&mut world, &server, "d"));
    assert_eq!(server.counters().engine.refused_per_second, 2);
}

#[test]
fn a_log_is_told_of_what_a_second_left_untold_when_it_is_over() {
    let (mut world, server) = slow_server(1);
    assert!(comes_in(&mut world, &server, "a"));
    for id in ["b", "c", "d", "e"] {
        assert!(!comes_in(&mut world, &server, id));
    }
    let others = || server.handler().told.iter().map(|some| some.others).collect::<Vec<_>>();
    assert_eq!(others(), [0]);
    let why = Rejection::Refused(RefusalCode::TooManyPerSecond);
    assert_eq!(server.handler().told[0].why, why);
    assert_eq!(server.handler().rejected, Some(why), "which is told of each");
    world.run_for(Duration::from_millis(900));
    assert_eq!(others(), [0]);
    world.run_for(Duration::from_millis(101));
    assert_eq!(others(), [0, 2], "nobody else came: the engine has woken up for it");
}

#[test]
fn who_came_behind_a_burst_of_silent_connections_was_told_that_the_server_is_full() {
    for seed in 0..20 {
        let mut world = World::new(seed);
        // Whoever connects first comes first, and a connection may take longer to close than the next to come.
        let faults = Faults { latency: Duration::ZERO, late_completions: 500, ..Faults::none() };
        world.set_faults(faults);
        let config = Config { sessions_max: 2, ..Config::default() };
        let server = world.server(config, Told::default()).unwrap();
        let _silent = [(); 14].map(|()| Far::begin(&world.net, server.address()));
        let config = Config::default();
        let client = |id| world.client(server.address(), id, config.clone(), Told::default()).unwrap();
        let clients = ["a", "b"].map(client);
        assert!(world.run_until(LONG, || clients.iter().all(|client| client.is_connected())), "seed {seed}");
    }
}
