//! Servers that are none: what they do to a client of ours gets a typed reason, within the deadline.
#![forbid(unsafe_code)]

use std::io::{ErrorKind, Write};
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::sync::mpsc::channel;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use zerio::{Client, Config, DriverKind, Error, FrameError, Reason, SendError};

use super::addresses::errors;
use crate::hostile::{Echo, Event, Events, PATIENCE, RawPeer, config, drivers, frame, has_resets, until};

const MAX: u32 = 1000;

/// A listener that does this to as many clients as come, one after the other.
fn serving(clients: usize, play: impl Fn(RawPeer) + Send + 'static) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let serving = std::thread::spawn(move || {
        for _ in 0..clients {
            play(RawPeer::over(listener.accept().unwrap().0));
        }
    });
    (address, serving)
}

/// Lets a client of each driver come, started and polled, whose first frame was read, and gives the error of each.
#[track_caller]
fn in_the_handshake(within: Duration, play: impl Fn(RawPeer) + Send + 'static) -> Vec<Error> {
    let (address, serving) = serving(2 * drivers().len(), move |mut peer| {
        assert_eq!(peer.hear(), b"client");
        play(peer);
    });
    let errors = errors(address, within);
    serving.join().expect("the server saw what it was to see");
    errors
}

/// The same to clients that were let in, and have sent an echo of a first message: each ends for this reason.
#[track_caller]
fn in_the_session(reason: impl Fn(Reason) -> bool, play: impl Fn(RawPeer) + Send + 'static) {
    let (address, serving) = serving(2 * drivers().len(), move |mut peer| {
        assert_eq!(peer.hear(), b"client");
        peer.say(&[frame(b"client"), frame(b"before")].concat());
        assert_eq!(peer.hear(), b"before");
        play(peer);
    });
    for driver in drivers() {
        let ends = [started(address, driver), polled(address, driver)];
        assert!(ends.iter().all(|end| reason(*end)), "{driver}: {ends:?}");
    }
    serving.join().expect("the server saw what it was to see");
}

fn limited(driver: DriverKind) -> Config {
    config(|c| (c.driver, c.message_max) = (driver, MAX as usize))
}

/// Why the session of a client ended, which had an engine of its own.
fn started(address: SocketAddr, driver: DriverKind) -> Reason {
    let events = Events::default();
    let client = Client::connect(address, "client").unwrap().config(limited(driver));
    let client = client.handler(Echo(events.clone())).start().unwrap();
    let end = events.end_of("client");
    until("the end of its engine", || (!client.is_connected()).then_some(()));
    assert_eq!(client.send(b"late"), Err(SendError::Closed));
    assert_eq!(client.stop().failure, None);
    end.reason
}

/// The same of one that was polled.
fn polled(address: SocketAddr, driver: DriverKind) -> Reason {
    let events = Events::default();
    let client = Client::connect(address, "client").unwrap().config(limited(driver));
    let mut client = client.handler(Echo(events.clone())).start_polled().unwrap();
    let end = until("the end of its session", || {
        client.poll().unwrap();
        events.all().into_iter().find_map(|event| match event {
            Event::Disconnected(_, end) => Some(end),
            _ => None,
        })
    });
    assert_eq!(client.try_send(b"late"), Err(SendError::Closed));
    assert_eq!(client.stop().failure, None);
    end.reason
}

/// A reset, or where the system can't reset, an end.
fn is_lost(reason: Reason) -> bool {
    matches!(reason, Reason::Connection(ErrorKind::ConnectionReset)) || !has_resets()
}

#[test]
fn a_server_that_announces_too_much_has_said_a_bad_frame_and_just_inside_a_message() {
    let too_long = |len| FrameError::TooLong { len, max: MAX };
    for (len, error) in [
        (MAX + 1, too_long(MAX + 1)),
        (0x7fff_ffff, too_long(0x7fff_ffff)),
        (0x8000_0000, FrameError::Reserved { len: 0x8000_0000 }),
        (0xffff_ffff, FrameError::Reserved { len: 0xffff_ffff }),
    ] {
        in_the_session(
            move |reason| reason == Reason::BadFrame(error),
            move |mut peer| {
                let longest = vec![7; MAX as usize];
                peer.say(&frame(&longest));
                assert_eq!(peer.hear(), longest);
                // It is not listened to any more, though it goes on.
                peer.say(&[&len.to_le_bytes()[..], &frame(b"after")].concat());
                peer.hears_the_end();
            },
        );
    }
}

#[test]
fn a_server_that_speaks_nonsense_without_end_is_left_at_its_first_bad_frame() {
    // Until the client is gone, which it does not wait long for; after 4 MB with pauses, which leave the machine to other
    // tests.
    let speaks_on = |mut peer: RawPeer| {
        let mut said = 0;
        while peer.stream.write_all(&[0xe5; 4096]).is_ok() {
            said += 1;
            if said > 1000 {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    };
    in_the_session(|reason| matches!(reason, Reason::BadFrame(_)), speaks_on);
    for error in in_the_handshake(PATIENCE, speaks_on) {
        assert!(matches!(&error, Error::NotZerio { what: Reason::BadAnswer, .. }), "{error:?}");
    }
}

#[test]
fn a_server_that_closes_in_the_middle_of_a_frame_was_truncated_and_between_two_has_closed() {
    let whole = frame(b"a message");
    for received in 0..=whole.len() {
        let reason = match received % whole.len() {
            0 => Reason::PeerClosed,
            received => Reason::Truncated { received },
        };
        let said = whole[..received].to_vec();
        in_the_session(
            move |end| end == reason,
            move |mut peer| {
                peer.say(&said);
                peer.stream.shutdown(Shutdown::Write).unwrap();
                if said.len() == frame(b"a message").len() {
                    assert_eq!(peer.hear(), b"a message", "who ends is still sent what was accepted for him");
                }
                peer.hears_the_end();
            },
        );
    }
}

#[test]
fn a_server_that_resets_a_session_between_frames_or_in_the_middle_of_one_has_lost_it() {
    for said in [0, 2, 7] {
        in_the_session(is_lost, move |mut peer| {
            peer.say(&frame(b"a message")[..said]);
            peer.reset();
        });
    }
}

#[test]
fn a_server_that_resets_instead_of_an_answer_or_in_the_middle_of_it_is_no_zerio_server() {
    for said in [0, 3, 7] {
        let errors = in_the_handshake(PATIENCE, move |mut peer| {
            peer.say(&frame(b"client")[..said]);
            peer.reset();
        });
        for error in errors {
            assert!(matches!(&error, Error::NotZerio { what, .. } if is_lost(*what)), "{said}: {error:?}");
        }
    }
}

#[test]
fn a_server_that_answers_a_byte_now_and_then_is_given_up_at_the_same_deadline_as_one_that_is_silent() {
    let after = Duration::from_millis(500);
    let begun = Instant::now();
    let errors = in_the_handshake(after, |mut peer| {
        // Its refusal would take 100 s, in which it never says nothing for long.
        for byte in frame(&[&[0, 2][..], &[b'x'; 1000]].concat()) {
            if peer.stream.write_all(&[byte]).is_err() {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    });
    assert!(begun.elapsed() >= errors.len() as u32 * after);
    for error in errors {
        assert!(matches!(&error, Error::TimedOut { after: given, .. } if *given == after), "{error:?}");
    }
}

#[test]
fn a_message_before_the_answer_is_no_answer_and_one_that_comes_with_it_is_a_message() {
    let errors = in_the_handshake(PATIENCE, |mut peer| {
        peer.say(&[frame(b"early"), frame(b"client")].concat());
        peer.hears_the_end();
    });
    for error in errors {
        assert!(matches!(&error, Error::NotZerio { what: Reason::BadAnswer, .. }), "{error:?}");
    }
    // In one write with the answer, and with the beginning of another.
    in_the_session(
        |reason| reason == Reason::Truncated { received: 5 },
        |mut peer| {
            peer.say(&[frame(b"another"), frame(b"and more")[..5].to_vec()].concat());
            assert_eq!(peer.hear(), b"another");
            peer.stream.shutdown(Shutdown::Write).unwrap();
            peer.hears_the_end();
        },
    );
}

#[test]
fn an_answer_that_is_longer_than_any_may_be_or_almost_the_right_one_is_no_answer() {
    let long = [&1025u32.to_le_bytes()[..], b"client"].concat();
    let of_another = [&b"client"[..5], &b"client\0"[..], &b"clienT"[..], &b" client"[..]].map(frame);
    for answer in of_another.into_iter().chain([long]) {
        let said = answer.clone();
        let errors = in_the_handshake(PATIENCE, move |mut peer| {
            peer.say(&said);
            peer.hears_the_end();
        });
        for error in errors {
            let foreign = matches!(&error, Error::NotZerio { what: Reason::BadAnswer, .. });
            assert!(foreign, "{answer:?}: {error:?}");
        }
    }
}

#[test]
fn a_server_that_lets_a_client_in_and_is_silent_from_then_on_keeps_no_stop_from_coming_to_an_end() {
    let (silent, kept) = channel();
    let (address, serving) = serving(drivers().len(), move |mut peer| {
        assert_eq!(peer.hear(), b"client");
        peer.say(&frame(b"client"));
        assert_eq!(peer.hear(), b"last words");
        // It does not end before the test does.
        silent.send(peer).unwrap();
    });
    for driver in drivers() {
        let events = Events::default();
        let config = config(|c| (c.driver, c.drain_timeout) = (driver, Duration::from_millis(300)));
        let client = Client::connect(address, "client").unwrap().config(config);
        let client = client.handler(Echo(events.clone())).start().unwrap();
        client.send(b"last words").unwrap();
        let report = client.stop();
        assert_eq!(report.failure, None);
        assert!(report.undelivered.is_empty(), "{report}");
        assert_eq!(events.end_of("client").reason, Reason::Stopped);
    }
    serving.join().expect("the server saw what it was to see");
    drop(kept);
}
