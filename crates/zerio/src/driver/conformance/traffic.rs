//! Receiving and sending, one session and many.
#![forbid(unsafe_code)]

use std::io::{ErrorKind, Read, Write};
use std::time::Duration;

use super::network::{Network, Site};
use super::rig::*;

// Receiving.

pub(super) fn a_receive_brings_bytes_then_the_peers_end<D: Site>() {
    for pace in PACES {
        let mut rig = Rig::<D>::paced(1, pace);
        let id = id(0, 3);
        let mut peer = rig.session(id);
        peer.write_all(b"before the end").unwrap();
        drop(peer);
        assert_eq!(rig.receive(id, 64), b"before the end");
        assert_eq!(rig.receive(id, 64), b"");
        // It is still there for who asks again.
        assert_eq!(rig.receive(id, 64), b"");
        rig.driver.close(id);
        rig.closed(id);
    }
}

pub(super) fn a_receive_brings_no_more_than_its_span_holds<D: Site>() {
    for pace in PACES {
        let mut rig = Rig::<D>::paced(1, pace);
        let id = id(0, 3);
        let mut peer = rig.session(id);
        let mut bytes = [0; 1000];
        fill(&mut bytes, 0);
        peer.write_all(&bytes).unwrap();
        let mut received = 0;
        while received < bytes.len() {
            let part = rig.receive(id, 77);
            assert!(!part.is_empty() && is_pattern(&part, received));
            received += part.len();
        }
        assert_eq!(received, bytes.len());
    }
}

pub(super) fn a_receive_that_stops_at_an_urgent_byte_leaves_nothing_behind<D: Site>() {
    for pace in PACES {
        for early in [false, true] {
            let mut rig = Rig::<D>::paced(1, pace);
            let id = id(0, 3);
            let mut peer = rig.session(id);
            if !early {
                rig.nothing_comes(1);
            }
            peer.write_all(b"before").unwrap();
            if !D::On::send_urgently(&peer, b"!") {
                return;
            }
            peer.write_all(b"after").unwrap();
            // The urgent one is in the row or left out, as the system has it.
            let mut received = Vec::new();
            while !received.ends_with(b"after") {
                received.extend(rig.receive(id, 64));
            }
            assert!(received.starts_with(b"before"));
        }
    }
}

pub(super) fn a_receive_fails_on_a_reset<D: Site>() {
    if !has_resets() {
        return;
    }
    for pace in PACES {
        for early in [false, true] {
            let mut rig = Rig::<D>::paced(1, pace);
            let id = id(0, 3);
            let mut peer = Some(rig.session(id));
            let span = rig.span(64);
            if early {
                peer.take().into_iter().for_each(D::On::reset);
            }
            rig.driver.receive(id, span);
            rig.step();
            rig.step();
            peer.into_iter().for_each(D::On::reset);
            let (span, outcome) = rig.received(id);
            assert_eq!((span.len(), outcome.unwrap_err().kind()), (64, ErrorKind::ConnectionReset));
            rig.driver.close(id);
            rig.closed(id);
        }
    }
}

pub(super) fn a_receive_asked_for_before_or_after_the_bytes_came_brings_them<D: Site>() {
    receives_before_and_after::<D>(1);
}

pub(super) fn many_receives_asked_for_before_or_after_the_bytes_came_bring_them<D: Site>() {
    receives_before_and_after::<D>(10);
}

pub(super) fn receives_before_and_after<D: Site>(sessions: u32) {
    for pace in PACES {
        let mut rig = Rig::<D>::paced(sessions as usize, pace);
        let mut peers: Vec<_> = (0..sessions).map(|index| rig.session(id(index, 9))).collect();
        for round in 0..6u8 {
            for early in [false, true] {
                let message = |index: usize| [round, index as u8, u8::from(early)];
                if early {
                    for (index, peer) in peers.iter_mut().enumerate() {
                        peer.write_all(&message(index)).unwrap();
                    }
                }
                for index in 0..sessions {
                    let span = rig.span(16);
                    rig.driver.receive(id(index, 9), span);
                }
                if !early {
                    rig.step();
                    rig.step();
                    assert!(rig.done.is_empty(), "{}: {:?}", D::NAME, rig.done);
                    for (index, peer) in peers.iter_mut().enumerate() {
                        peer.write_all(&message(index)).unwrap();
                    }
                }
                for index in 0..sessions {
                    let (span, outcome) = rig.received(id(index, 9));
                    assert_eq!(outcome.unwrap(), 3);
                    assert_eq!(rig.region.bytes(&span)[..3], message(index as usize));
                }
            }
        }
    }
}

/// A receive that a waiting turn has handed to the kernel completes in one that does not wait, and the other
/// way round; sessions come and go meanwhile, past the number that is few.
pub(super) fn turns_that_wait_and_turns_that_do_not_take_turns<D: Site>() {
    let mut rig = Rig::<D>::new(8);
    let mut peers = Vec::new();
    for index in 0..8 {
        peers.push(rig.session(id(index, 1)));
        for (round, (first, second)) in
            [(true, false), (false, true), (true, true), (false, false)].into_iter().enumerate()
        {
            let len = 4 + round;
            for (of, _) in peers.iter().enumerate() {
                let span = rig.span(16);
                rig.driver.receive(id(of as u32, 1), span);
            }
            rig.turn(if first { Duration::from_millis(1) } else { Duration::ZERO });
            assert!(rig.done.is_empty(), "{}: {:?}", D::NAME, rig.done);
            for peer in &mut peers {
                peer.write_all(&[index as u8; 16][..len]).unwrap();
            }
            rig.pace = if second { Pace::Waiting } else { Pace::Spinning };
            for of in 0..peers.len() {
                let (span, outcome) = rig.received(id(of as u32, 1));
                assert_eq!(outcome.unwrap(), len);
                assert_eq!(rig.region.bytes(&span)[..len], [index as u8; 16][..len]);
            }
        }
    }
}

// Sending.

pub(super) fn a_send_is_whole<D: Site>() {
    for pace in PACES {
        let mut rig = Rig::<D>::paced(1, pace);
        let id = id(0, 3);
        let mut peer = rig.session(id);
        for round in 0..10 {
            let span = rig.filled(round, 1000);
            rig.driver.send(id, span);
            let (span, outcome) = rig.sent(id);
            assert_eq!(outcome.unwrap(), 1000);
            assert!(is_pattern(rig.region.bytes(&span), round));
            let mut bytes = [0; 1000];
            peer.read_exact(&mut bytes).unwrap();
            assert!(is_pattern(&bytes, round));
        }
    }
}

pub(super) fn a_send_that_meets_a_full_socket_goes_on_where_it_stopped<D: Site>() {
    const LEN: usize = 2 << 20;
    for pace in PACES {
        let mut rig = Rig::<D>::paced(1, pace);
        let id = id(0, 3);
        let (mut peer, own) = D::narrow_pair();
        rig.driver.adopt(id, own, &options()).unwrap();
        let direct = rig.driver.direct(id);
        let mut rest = Some(rig.filled(0, LEN));
        rig.driver.send(id, rest.take().unwrap());
        // Until the socket is full and the last send stays.
        let mut sends = 0;
        let reader = std::thread::spawn(move || {
            let mut bytes = vec![0; LEN];
            std::thread::sleep(Duration::from_millis(20));
            peer.read_exact(&mut bytes).unwrap();
            is_pattern(&bytes, 0)
        });
        loop {
            let (mut span, outcome) = rig.sent(id);
            let bytes = outcome.unwrap();
            sends += 1;
            assert!(bytes >= 1 && bytes <= span.len());
            if bytes == span.len() {
                break;
            }
            rig.driver.send(id, span.split_off(bytes));
        }
        assert!(reader.join().unwrap(), "{}: bytes lost or doubled", D::NAME);
        // Where nobody else sends on the socket, the kernel may take all of a span before it says so.
        assert!(sends > 1 || direct.is_none(), "{}: no send was short", D::NAME);
    }
}

pub(super) fn a_send_to_a_peer_that_is_gone_fails<D: Site>() {
    for pace in PACES {
        let mut rig = Rig::<D>::paced(1, pace);
        let id = id(0, 3);
        let peer = rig.session(id);
        D::On::reset(peer);
        // The reset is there as soon as the peer's close has returned.
        let span = rig.filled(0, 64);
        rig.driver.send(id, span);
        let (span, outcome) = rig.sent(id);
        assert_eq!(span.len(), 64);
        assert!(matches!(outcome.unwrap_err().kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe));
        rig.driver.close(id);
        rig.closed(id);
    }
}

pub(super) fn direct_and_driver_sends_keep_their_order<D: Site>() {
    let mut rig = Rig::<D>::new(1);
    let id = id(0, 3);
    let mut peer = rig.session(id);
    let Some(direct) = rig.driver.direct(id) else { return };
    let mut at = 0;
    for round in 0..20 {
        let span = rig.filled(at, 50 + round);
        if round % 3 == 1 {
            rig.driver.send(id, span);
            assert_eq!(rig.sent(id).1.unwrap(), 50 + round);
        } else {
            assert_eq!(direct.send(rig.region.bytes(&span)).unwrap(), 50 + round);
        }
        at += 50 + round;
    }
    let mut bytes = vec![0; at];
    peer.read_exact(&mut bytes).unwrap();
    assert!(is_pattern(&bytes, 0));
}

pub(super) fn a_shut_down_gives_the_peer_an_end_and_goes_on_receiving<D: Site>() {
    for pace in PACES {
        let mut rig = Rig::<D>::paced(1, pace);
        let id = id(0, 3);
        let mut peer = rig.session(id);
        let span = rig.span(64);
        rig.driver.receive(id, span);
        rig.step();
        rig.step();
        rig.driver.shut_down(id);
        rig.step();
        assert_eq!(peer.read(&mut [0; 8]).unwrap(), 0);
        peer.write_all(b"and yet it hears").unwrap();
        let (span, outcome) = rig.received(id);
        assert_eq!(rig.region.bytes(&span)[..outcome.unwrap()], *b"and yet it hears");
    }
}

// Both, for many.

pub(super) fn sixty_four_sessions_at_once<D: Site>() {
    const SESSIONS: u32 = 64;
    for pace in PACES {
        let mut rig = Rig::<D>::paced(SESSIONS as usize, pace);
        let address = rig.listen();
        let mut peers: Vec<Option<<D::On as Network>::Peer>> = (0..SESSIONS).map(|_| None).collect();
        for index in 0..SESSIONS {
            rig.driver.accept();
            let peer = D::On::connect(address).unwrap();
            let (socket, from) = rig.accepted().unwrap();
            assert_eq!(from, D::On::address(&peer));
            rig.driver.adopt(id(index, index), socket, &options()).unwrap();
            peers[index as usize] = Some(peer);
        }
        for round in 0..5 {
            for index in 0..SESSIONS {
                let (receive, send) = (rig.span(256), rig.filled(index as usize + round, 128));
                rig.driver.receive(id(index, index), receive);
                rig.driver.send(id(index, index), send);
            }
            for index in 0..SESSIONS {
                assert_eq!(rig.sent(id(index, index)).1.unwrap(), 128);
                let peer = peers[index as usize].as_mut().unwrap();
                let mut bytes = [0; 128];
                peer.read_exact(&mut bytes).unwrap();
                assert!(is_pattern(&bytes, index as usize + round));
                peer.write_all(&bytes).unwrap();
            }
            for index in 0..SESSIONS {
                let (span, outcome) = rig.received(id(index, index));
                assert_eq!(outcome.unwrap(), 128);
                assert!(is_pattern(&rig.region.bytes(&span)[..128], index as usize + round));
            }
        }
        // All end at once, each with a receive in flight.
        for index in 0..SESSIONS {
            let span = rig.span(256);
            rig.driver.receive(id(index, index), span);
        }
        rig.step();
        for index in 0..SESSIONS {
            rig.driver.close(id(index, index));
        }
        for index in 0..SESSIONS {
            assert!(rig.received(id(index, index)).1.is_err());
            rig.closed(id(index, index));
        }
        assert!(rig.done.is_empty());
    }
}
