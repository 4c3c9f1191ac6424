//! Models of the engine against threads that send: loom runs each with every order in which the threads can
//! take turns, up to so many turns taken away from a thread. To be run alone, see CONTRIBUTING.md.
//!
//! A wake-up that is lost shows as an engine that sleeps for ever, which loom reports as a deadlock.
#![forbid(unsafe_code)]

use loom::sync::{Condvar, Mutex};
use loom::thread;

use super::*;
use crate::session::peer::Sender;

/// How an engine sleeps in these models, and is woken.
struct Bed {
    woken: Mutex<bool>,
    rings: Condvar,
}

impl Bed {
    fn wake(&self) {
        *self.woken.lock().unwrap() = true;
        self.rings.notify_one();
    }

    fn sleep(&self) {
        let mut woken = self.woken.lock().unwrap();
        while !*woken {
            woken = self.rings.wait(woken).unwrap();
        }
        *woken = false;
    }
}

/// Tries every order in which what `world` sets up and starts can go.
fn model(world: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.max_branches = 100_000;
    builder.preemption_bound.get_or_insert(2);
    builder.check(world);
}

/// An engine with one session, which sleeps until it is woken.
fn sleeper() -> Engine<Told, Slow> {
    let bed = Arc::new(Bed { woken: Mutex::new(false), rings: Condvar::new() });
    let rings = bed.clone();
    let mut engine = server_of(1, Waker::new(move || rings.wake()));
    engine.driver.sleep = Box::new(move || bed.sleep());
    engine
}

/// What a thread of the user's comes to that sends one message on the first session there was in slot 0.
fn user(engine: &Engine<Told, Slow>) -> thread::JoinHandle<Result<(), SendError>> {
    let shared = engine.shared().clone();
    let generation = engine.core.table.sessions[0].id.generation;
    thread::spawn(move || shared.slots[0].send.try_send(generation, b"message"))
}

impl Engine<Told, Slow> {
    /// As an engine's thread does: turns while there is work, and sleeps while there is none.
    fn run_until(&mut self, is_so: impl Fn(&mut Told) -> bool) {
        while !is_so(&mut self.driver) {
            if self.turn(clock()).unwrap() == 0 && !is_so(&mut self.driver) {
                self.park(clock()).unwrap();
            }
        }
    }
}

#[test]
fn an_engine_that_falls_asleep_does_not_miss_the_message_that_comes_just_then() {
    model(|| {
        let mut engine = sleeper();
        let user = user(&engine);
        engine.run_until(|driver| driver.sends[0].is_some());
        user.join().unwrap().unwrap();
    });
}

#[test]
fn an_engine_that_watched_a_stream_and_falls_asleep_does_not_miss_the_message_that_comes_just_then() {
    model(|| {
        let mut engine = sleeper();
        engine.begin_stream_on(0);
        assert_eq!(engine.core.streams.len(), 1);
        let user = user(&engine);
        engine.run_until(|driver| driver.sends[0].is_some());
        user.join().unwrap().unwrap();
    });
}

#[test]
fn a_message_that_comes_as_its_session_ends_is_sent_or_counted_or_refused_and_never_the_next_sessions() {
    model(|| {
        let mut engine = sleeper();
        let user = user(&engine);
        engine.driver.receives(0, b"");
        // It drains at its own time; the kernel takes what it is given.
        let mut sent = 0;
        while engine.core.table.sessions[0].state != State::Free {
            engine.turn(clock()).unwrap();
            sent += engine.driver.sends[0].iter().count();
            engine.driver.takes_all(0);
        }
        engine.driver.connects();
        engine.turn(clock()).unwrap();
        let accepted = user.join().unwrap().is_ok();
        (0..2).for_each(|_| drop(engine.turn(clock())));
        let next = &engine.core.table.sessions[0];
        if next.state == State::Handshaking {
            assert!(engine.driver.sends[0].is_none(), "nobody has sent anything on the next session");
        }
        let counted = engine.shared().counters().engine.messages_undelivered;
        assert_eq!(u64::from(accepted), sent as u64 + counted);
    });
}

#[test]
fn a_message_by_id_that_comes_as_one_session_ends_and_the_next_begins_is_sent_or_counted_or_refused() {
    model(|| {
        let mut engine = sleeper();
        let Role::Server(ServerRole { directory, .. }) = &engine.core.role else { unreachable!("it is one") };
        let sender = Sender::new(directory.clone());
        let user = thread::spawn(move || sender.try_send("a", b"message"));
        engine.driver.receives(0, b"");
        let mut sent = Vec::new();
        while engine.core.table.sessions[0].state != State::Free {
            engine.turn(clock()).unwrap();
            sent.extend(engine.driver.takes(0, |all| all));
        }
        engine.driver.connects();
        engine.turn(clock()).unwrap();
        engine.driver.receives(0, &frame(b"a"));
        while engine.core.table.sessions[0].state != State::Open || !engine.driver.completions.is_empty() {
            engine.turn(clock()).unwrap();
            sent.extend(engine.driver.takes(0, |all| all));
        }
        let outcome = user.join().unwrap();
        for _ in 0..2 {
            engine.turn(clock()).unwrap();
            sent.extend(engine.driver.takes(0, |all| all));
        }
        let counted = engine.shared().counters().engine.messages_undelivered;
        // The next session's greeting goes before what anybody sends on it.
        let (hello, message) = (frame(b"a"), frame(b"message"));
        let orders = [hello.clone(), [&message[..], &hello].concat(), [&hello[..], &message].concat()];
        let order = orders.iter().position(|order| *order == sent);
        let came = u64::from(order.unwrap_or_else(|| panic!("{sent:?}")) > 0);
        match outcome {
            Ok(()) => assert_eq!(came + counted, 1),
            Err(error) => {
                assert!(matches!(error, SendError::Closed | SendError::UnknownPeer), "{error:?}");
                assert_eq!(came + counted, 0);
            }
        }
    });
}

#[test]
fn a_message_that_comes_as_its_engine_is_stopped_is_sent_or_counted_or_refused() {
    model(|| {
        let mut engine = sleeper();
        let user = user(&engine);
        let shared = engine.shared().clone();
        let stop = thread::spawn(move || shared.stop());
        let mut sent = 0;
        while !engine.is_finished() {
            let work = engine.turn(clock()).unwrap();
            sent += engine.driver.sends[0].iter().count();
            engine.driver.takes_all(0);
            if engine.core.table.sessions[0].state == State::Draining && engine.driver.rooms[0].is_some() {
                engine.driver.receives(0, b"");
            }
            if work == 0 && engine.driver.completions.is_empty() && !engine.is_finished() {
                engine.park(clock()).unwrap();
                thread::yield_now();
            }
        }
        stop.join().unwrap();
        let accepted = user.join().unwrap().is_ok();
        let counted = engine.shared().counters().engine.messages_undelivered;
        assert_eq!(u64::from(accepted), sent as u64 + counted);
    });
}
