//! Models of the send path: senders against each other, the pump, and a close. As in `engine/tests/models.rs`.
#![forbid(unsafe_code)]

use loom::thread;

use super::*;

fn model(world: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.max_branches = 100_000;
    builder.preemption_bound.get_or_insert(2);
    builder.check(world);
}

fn path() -> (Arc<SendPath>, Fake) {
    let World { path, driver, .. } = World::new();
    (Arc::new(path), driver)
}

/// Whatever is committed goes to the kernel, as an engine that is awake would have it.
fn drain(path: &SendPath, driver: &mut Fake) {
    while path.pump(ID, driver, false).is_ok() {
        let Some(span) = driver.in_flight.take() else { break };
        takes(path, driver, span, usize::MAX);
    }
}

/// The kernel takes so many bytes of what it has, at the most. Until it says so it may read them.
fn takes(path: &SendPath, driver: &Fake, span: Span, most: usize) {
    assert_eq!(driver.region.bytes(&span), driver.requests.last().unwrap(), "nobody writes there meanwhile");
    let len = span.len().min(most);
    path.sent(span, Ok(len)).unwrap();
}

/// Sends, however often it takes: the ring is short of nothing but its other senders.
fn send(path: &SendPath, message: &[u8], by_claim: bool) {
    let once = || {
        if !by_claim {
            return path.try_send(1, message);
        }
        let mut claim = path.try_claim(1, message.len())?;
        claim.copy_from_slice(message);
        claim.commit()
    };
    while once() == Err(SendError::Full) {
        thread::yield_now();
    }
}

#[test]
fn messages_and_claims_of_two_threads_come_out_whole_once_and_in_order() {
    model(|| {
        let (path, mut driver) = path();
        let other = path.clone();
        let other = thread::spawn(move || send(&other, b"claimed", true));
        send(&path, b"first", false);
        drain(&path, &mut driver);
        send(&path, b"second", false);
        other.join().unwrap();
        drain(&path, &mut driver);
        let all = driver.requests.concat();
        let orders: [&[&[u8]]; 3] = [
            &[b"claimed", b"first", b"second"],
            &[b"first", b"claimed", b"second"],
            &[b"first", b"second", b"claimed"],
        ];
        assert!(orders.iter().any(|order| frames(order) == all), "{all:?}");
    });
}

/// A message, after so many that the kernel has taken, while the path is closed.
fn meets_a_close(path: &Arc<SendPath>, sent: u64, by_claim: bool) {
    let closes = path.clone();
    let closes = thread::spawn(move || {
        closes.close();
        // As the engine counts it, whoever still has a claim.
        closes.left().messages
    });
    let outcome = match by_claim {
        false => path.try_send(1, b"message"),
        true => path.try_claim(1, 7).and_then(Claim::commit),
    };
    let left = closes.join().unwrap();
    assert!(matches!(outcome, Ok(()) | Err(SendError::Closed)), "{outcome:?}");
    assert!(!path.is_taken());
    assert_eq!(left, u64::from(outcome.is_ok()));
    assert_eq!(path.try_send(1, b"late"), Err(SendError::Closed));
    assert_eq!(path.counters().messages_accepted, sent + u64::from(outcome.is_ok()));
}

#[test]
fn a_message_is_committed_before_a_close_and_counted_or_it_is_refused() {
    for by_claim in [false, true] {
        model(move || meets_a_close(&path().0, 0, by_claim));
    }
}

#[test]
fn a_ring_that_was_found_full_as_its_mark_was_taken_was_never_looked_at() {
    model(|| {
        let world = World::new();
        // All of them are marked, and nobody has looked yet.
        world.fill_up();
        let World { path, bell, .. } = world;
        let path = Arc::new(path);
        let other = path.clone();
        let other = thread::spawn(move || other.try_send(1, b"one more"));
        let look = || bell.take(0) != 0 && path.stuck().is_some();
        let seen = look();
        assert_eq!(other.join().unwrap(), Err(SendError::Full));
        assert!(seen || look(), "nobody will look again at a peer that does not read");
    });
}

#[cfg(unix)]
#[test]
fn whoever_has_the_pump_flag_has_the_socket_alone() {
    use std::io::Read as _;
    model(|| {
        let World { path, bell, mut driver, .. } = World::new();
        let (ours, mut theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        theirs.set_nonblocking(true).unwrap();
        path.connect(Some(Direct::new(&ours)), 1);
        let path = Arc::new(path);
        // The engine sleeps, so both threads send by themselves, and wakes up meanwhile.
        assert!(bell.fall_asleep());
        let other = path.clone();
        let other = thread::spawn(move || send(&other, b"one", false));
        send(&path, b"two", false);
        bell.wake_up();
        path.pump(ID, &mut driver, false).unwrap();
        other.join().unwrap();
        path.pump(ID, &mut driver, false).unwrap();
        let mut all = Vec::new();
        let _ = theirs.read_to_end(&mut all);
        assert!(all == frames(&[b"one", b"two"]) || all == frames(&[b"two", b"one"]), "{all:?}");
    });
}

/// A path whose ring is this thread's own, and what it sent for that.
fn own_path() -> (Arc<SendPath>, Fake, Vec<&'static [u8]>) {
    let (path, mut driver) = path();
    // Only the rings of streams are given away.
    path.watch(true);
    let sent: Vec<&[u8]> = vec![b"1", b"2"];
    sent.iter().for_each(|message| path.try_send(1, message).unwrap());
    assert!(path.ring.word().is_own());
    drain(&path, &mut driver);
    (path, driver, sent)
}

#[test]
fn what_a_rings_owner_and_who_takes_it_from_him_send_comes_out_whole_once_and_in_order() {
    for by_claim in [false, true] {
        model(move || {
            let (path, mut driver, mut sent) = own_path();
            let other = path.clone();
            let other = thread::spawn(move || send(&other, b"another's", by_claim));
            send(&path, b"3", false);
            other.join().unwrap();
            drain(&path, &mut driver);
            let all = driver.requests.concat();
            sent.push(b"another's");
            let before = frames(&[&sent[..], &[b"3"]].concat());
            sent.insert(2, b"3");
            assert!(all == before || all == frames(&sent), "{all:?}");
        });
    }
}

#[test]
fn a_message_of_a_rings_owner_is_committed_before_a_close_and_counted_or_it_is_refused() {
    for by_claim in [false, true] {
        model(move || {
            let (path, _, sent) = own_path();
            meets_a_close(&path, sent.len() as u64, by_claim);
        });
    }
}

#[test]
fn a_ring_that_was_given_to_a_sender_as_its_stream_ended_stayed_his_own() {
    model(|| {
        let (path, _) = path();
        path.watch(true);
        path.try_send(1, b"1").unwrap();
        let engine = path.clone();
        let engine = thread::spawn(move || {
            engine.watch(false);
            wait::cross_barrier();
            engine.disown();
        });
        // By this one it becomes his own, if there is a stream.
        path.try_send(1, b"2").unwrap();
        engine.join().unwrap();
        assert!(!path.ring.word().is_own());
    });
}

/// A ring of 256 bytes, of which 240 are the kernel's: two of the longest messages.
fn near_the_end() -> (Arc<SendPath>, Fake, Span) {
    let mut world = World::of(256, LONG.len());
    (0..2).for_each(|_| world.send(&LONG).unwrap());
    world.pump().unwrap();
    let span = world.driver.in_flight.take().unwrap();
    assert_eq!(span.len(), 240);
    (Arc::new(world.path), world.driver, span)
}

const LONG: [u8; 116] = [b'l'; 116];

/// With its header it has as many bytes as there are behind the two long ones.
const FITS: &[u8] = b"to the end!!";

/// It has one more, and so stands at the start.
const WRAPS: &[u8] = b"over the end!";

#[test]
fn a_message_at_the_rings_end_as_the_ring_empties_comes_out_whole_once_and_in_order() {
    for (message, by_claim) in [(FITS, false), (FITS, true), (WRAPS, false), (WRAPS, true)] {
        // The kernel takes all, and the ring goes back to its start unless a message comes; or it takes the first.
        for most in [240, 120] {
            model(move || {
                let (path, mut driver, span) = near_the_end();
                let other = path.clone();
                let other = thread::spawn(move || send(&other, message, by_claim));
                takes(&path, &driver, span, most);
                if most < 240 {
                    driver.requests[0].truncate(most);
                }
                drain(&path, &mut driver);
                other.join().unwrap();
                drain(&path, &mut driver);
                assert_eq!(driver.requests.concat(), frames(&[&LONG, &LONG, message]));
                assert!(path.is_drained() && path.left().is_empty());
            });
        }
    }
}

#[test]
fn a_message_that_comes_as_the_ring_goes_back_to_its_start_and_is_closed_is_sent_or_counted_or_refused() {
    for message in [FITS, WRAPS] {
        model(move || {
            let (path, mut driver, span) = near_the_end();
            let other = path.clone();
            let other = thread::spawn(move || other.try_send(1, message));
            takes(&path, &driver, span, 240);
            path.pump(ID, &mut driver, false).unwrap();
            path.close();
            if let Some(span) = driver.in_flight.take() {
                takes(&path, &driver, span, usize::MAX);
            }
            let (sent, left) = (driver.requests.len() as u64 - 1, path.left());
            let outcome = other.join().unwrap();
            let may_be = [Ok(()), Err(SendError::Closed), Err(SendError::Full)].contains(&outcome);
            assert!(may_be, "{outcome:?}");
            assert_eq!(sent + left.messages, u64::from(outcome.is_ok()));
            assert_eq!(left.bytes, left.messages * (HEADER + message.len()) as u64);
        });
    }
}

#[test]
fn room_that_one_sender_saw_and_another_uses_is_nobody_elses_any_more() {
    model(|| {
        let (path, mut driver, span) = near_the_end();
        let (first, second) = (path.clone(), path.clone());
        // For this one there is never enough.
        let first = thread::spawn(move || assert_eq!(first.try_send(1, &LONG), Err(SendError::Full)));
        let second = thread::spawn(move || second.try_send(1, WRAPS).is_ok());
        takes(&path, &driver, span, 120);
        first.join().unwrap();
        let came = second.join().unwrap();
        driver.requests[0].truncate(120);
        drain(&path, &mut driver);
        let all: [&[u8]; 3] = [&LONG, &LONG, WRAPS];
        assert_eq!(driver.requests.concat(), frames(&all[..2 + usize::from(came)]));
    });
}

/// A task's waker, which notes that it was called.
#[cfg(feature = "tokio")]
#[derive(Default)]
struct Woken(loom::sync::Mutex<bool>);

#[cfg(feature = "tokio")]
impl std::task::Wake for Woken {
    fn wake(self: Arc<Self>) {
        *self.0.lock().unwrap() = true;
    }
}

#[cfg(feature = "tokio")]
#[test]
fn a_task_that_waits_for_room_is_told_of_it_or_of_the_end() {
    for ends in [false, true] {
        model(move || {
            let mut world = World::new();
            world.fill();
            world.pump().unwrap();
            let span = world.driver.in_flight.take().unwrap();
            let path = Arc::new(world.path);
            let engine = path.clone();
            let engine = thread::spawn(move || match ends {
                true => engine.close(),
                false => _ = engine.sent(span, Ok(CAPACITY / 16)),
            });
            let woken = Arc::new(Woken::default());
            let waker = woken.clone().into();
            let (mut task, mut ticket) = (task::Context::from_waker(&waker), Ticket::default());
            let outcome = loop {
                if let task::Poll::Ready(claim) = path.poll_claim(1, LEN, &mut ticket, &mut task) {
                    break claim.map(drop);
                }
                while !std::mem::take(&mut *woken.0.lock().unwrap()) {
                    thread::yield_now();
                }
            };
            assert_eq!(outcome, if ends { Err(SendError::Closed) } else { Ok(()) });
            engine.join().unwrap();
        });
    }
}
