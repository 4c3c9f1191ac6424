//! How sessions and engines end, and who waits for that.
#![forbid(unsafe_code)]

use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::*;

/// A connection comes, in this slot, and says so.
fn comes(engine: &mut Engine<Told, Slow>, index: usize, says: &[u8]) {
    engine.driver.connects();
    engine.turn(clock()).unwrap();
    engine.driver.receives(index, says);
    engine.turn(clock()).unwrap();
}

/// The session in slot 0 sends, and its connection takes nothing more.
fn loses_the_first(engine: &mut Engine<Told, Slow>) {
    engine.core.try_send(0, b"x").unwrap();
    engine.core.shared.bell.ring(0);
    engine.turn(clock()).unwrap();
    assert!(engine.driver.fails_to_send(0, ErrorKind::ConnectionReset));
    engine.turn(clock()).unwrap();
    assert!(engine.core.table.sessions[0].lost.is_some());
}

#[test]
fn who_waited_for_his_older_session_to_end_was_refused_in_favour_of_connections_that_said_nothing() {
    let config = Config { handshakes_max: Some(2), ..Config::default() };
    let mut engine = server_with(config, 1, Waker::new(|| {}));
    loses_the_first(&mut engine);
    comes(&mut engine, 1, &frame(b"a"));
    assert!(engine.core.table.sessions[1].awaiting);
    // Two more in the handshake are as many as may be, and the third takes the place of the first of them.
    for index in 2..5 {
        comes(&mut engine, index, &frame(b"a")[..1]);
    }
    let refused: Vec<_> = (1..5).map(|index| engine.core.table.sessions[index].refusal).collect();
    assert_eq!(refused, [None, Some(RefusalCode::ServerFull), None, None]);
    // The older one ends, and he is welcome.
    engine.driver.fails_to_receive(0, ErrorKind::ConnectionReset);
    for _ in 0..3 {
        engine.turn(clock()).unwrap();
    }
    assert_eq!(engine.core.table.sessions[1].state, State::Open);
    assert!(engine.core.awaiting.is_empty());
}

#[test]
fn who_waits_for_an_older_session_looks_into_the_directory_only_when_somebody_has_left() {
    let mut engine = server();
    loses_the_first(&mut engine);
    comes(&mut engine, 1, &frame(b"a"));
    engine.turn(clock()).unwrap();
    let Role::Server(server) = &engine.core.role else { panic!("it is a server's") };
    let departures = server.directory.departures();
    assert_eq!(engine.core.departures, departures, "it has looked");
    // As if it had left, and nobody had said so.
    let peer = engine.core.table.sessions[0].peer;
    let id = engine.core.table.sessions[0].id;
    server.directory.leave(&peer, 0, id);
    engine.core.departures = departures + 1;
    engine.turn(clock()).unwrap();
    assert_eq!(engine.core.table.sessions[1].state, State::Handshaking);
    engine.core.departures = departures;
    engine.turn(clock()).unwrap();
    assert_eq!(engine.core.table.sessions[1].state, State::Open);
}

#[test]
fn a_session_that_was_asked_to_end_while_it_was_lost_went_on_handing_messages_to_its_handler() {
    for asks in [false, true] {
        let mut engine = server();
        loses_the_first(&mut engine);
        if asks {
            assert!(engine.core.shared.slots[0].requests.change(1, request::DISCONNECT, 0));
            engine.core.shared.bell.ring(0);
            engine.turn(clock()).unwrap();
        }
        engine.driver.receives(0, &frame(b"late"));
        engine.turn(clock()).unwrap();
        assert_eq!(engine.handler.heard.len(), usize::from(!asks));
        if !asks {
            engine.driver.fails_to_receive(0, ErrorKind::ConnectionReset);
            engine.turn(clock()).unwrap();
            engine.turn(clock()).unwrap();
        }
        assert_eq!(engine.handler.ended, [Reason::Connection(ErrorKind::ConnectionReset)]);
    }
}

#[test]
fn a_session_ended_twice_where_a_driver_failed_that_had_told_of_its_end_and_then_a_handler_panicked() {
    let mut engine = server_of(2, Waker::new(|| {}));
    engine.abort(0, Reason::Disconnected);
    // The turn in which the driver fails has brought that it is closed.
    engine.done.extend(engine.driver.completions.drain(..));
    engine.handler.panics = true;
    let ends = catch_unwind(AssertUnwindSafe(|| engine.end_without_driver(ErrorKind::BrokenPipe)));
    assert!(ends.is_err());
    engine.handler.panics = false;
    engine.end_without_handler();
    for _ in 0..3 {
        engine.turn(clock()).unwrap();
    }
    assert!(engine.is_finished());
}

#[cfg(target_os = "linux")]
#[test]
fn a_session_that_began_behind_a_round_of_looks_was_looked_at_by_none() {
    let mut engine = server_of(0, Waker::new(|| {}));
    engine.driver.connects();
    engine.turn(clock()).unwrap();
    // A round is on its way, and has found nobody.
    let slots = engine.core.table.sessions.len();
    (engine.core.look_at, engine.core.look_from) = (clock(), slots - 1);
    engine.driver.receives(0, &frame(b"a"));
    engine.turn(clock()).unwrap();
    assert_eq!((engine.core.table.sessions[0].state, engine.core.look_from), (State::Open, 0));
    assert_ne!(engine.core.look_at, Time::NEVER);
}
