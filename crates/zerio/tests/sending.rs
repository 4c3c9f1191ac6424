//! Every way to send, from every place, and what each answers; every message whole and in its sender's
//! order, through the tightest rings, buffers and sockets.
#![forbid(unsafe_code)]

mod common;

use std::sync::mpsc::{channel, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::pattern::{self, Checker};
use common::raw::Raw;
use common::{Log, PATIENCE, Recorder, drivers, matrix, texts};
use zerio::{Client, Peer, Reason, SendError, Sender, Server};

/// A send that would wait for an hour if it waited.
const HOUR: Duration = Duration::from_secs(3600);

/// Fills a session's ring, whose peer does not read, until it stays full.
fn fill(peer: &Peer) -> u64 {
    let mut accepted = 0;
    while peer.send_timeout(&[7; 1000], Duration::from_secs(1)).is_ok() {
        accepted += 1;
    }
    accepted
}

matrix! {
    fn every_way_to_send_brings_its_message(case) {
        let (at_server, at_client) = (Log::new(), Log::new());
        let server = case.server(case.config(), Recorder::new(&at_server));
        let client = case.client(&server, "a", Recorder::new(&at_client));
        at_server.wait_connected("a");
        let second = Duration::from_secs(1);
        let by_peer = |peer: &Peer| {
            peer.try_send(b"try_send").unwrap();
            peer.send(b"send").unwrap();
            peer.send_timeout(b"send_timeout", second).unwrap();
            let mut claim = peer.claim(5).unwrap();
            claim.copy_from_slice(b"claim");
            claim.commit().unwrap();
            let mut claim = peer.claim(7).unwrap();
            claim.copy_from_slice(b"dropped");
            drop(claim);
            let mut claim = peer.try_claim(9).unwrap();
            claim.copy_from_slice(b"try_claim");
            claim.commit().unwrap();
            peer.send(b"").unwrap();
        };
        let expected = ["try_send", "send", "send_timeout", "claim", "try_claim", ""];
        by_peer(&client.peer());
        at_server.wait_messages("a", expected.len());
        assert_eq!(texts(&at_server.events()), expected);

        let sender = server.sender();
        by_peer(&sender.peer("a").unwrap());
        sender.try_send("a", b"try_send").unwrap();
        sender.send("a", b"send").unwrap();
        sender.send_timeout("a", b"send_timeout", second).unwrap();
        let mut claim = sender.claim("a", 5).unwrap();
        claim.copy_from_slice(b"claim");
        claim.commit().unwrap();
        drop(sender.claim("a", 7).unwrap());
        let mut claim = sender.try_claim("a", 9).unwrap();
        claim.copy_from_slice(b"try_claim");
        claim.commit().unwrap();
        sender.send("a", b"").unwrap();
        at_client.wait_messages("a", 2 * expected.len());
        assert_eq!(texts(&at_client.events()), [expected, expected].concat());
    }

    fn a_handler_answers_by_its_context(case) {
        let (at_a, at_b, outcomes) = (Log::new(), Log::new(), Arc::new(Mutex::new(Vec::new())));
        let heard = outcomes.clone();
        let recorder = Recorder::deaf().on_connected(|peer| peer.send(b"welcome").unwrap()).on_message(
            move |peer, message| {
                peer.send(message).unwrap();
                let mut claim = peer.claim(5).unwrap();
                claim.copy_from_slice(b"claim");
                claim.commit().unwrap();
                drop(peer.claim(7).unwrap());
                let mut heard = heard.lock().unwrap();
                heard.push(peer.send_to("b", b"to b"));
                heard.push(peer.send_to("nobody", b"to nobody"));
                peer.peer().send(b"by handle").unwrap();
                let sender = peer.sender().unwrap();
                sender.send("b", b"by sender").unwrap();
            },
        );
        let server = case.server(case.config(), recorder);
        let _b = case.client(&server, "b", Recorder::new(&at_b));
        let (tell, told) = channel();
        let at_client = Recorder::new(&at_a).on_message(move |peer, _| {
            let elsewhere = (peer.send_to("b", b"from a client"), peer.sender().is_none());
            tell.send(elsewhere).unwrap();
        });
        let a = case.client(&server, "a", at_client);
        a.peer().send(b"echo").unwrap();
        at_a.wait_messages("a", 4);
        assert_eq!(texts(&at_a.events()), ["welcome", "echo", "claim", "by handle"]);
        at_b.wait_messages("b", 3);
        assert_eq!(texts(&at_b.events()), ["welcome", "to b", "by sender"]);
        assert_eq!(*outcomes.lock().unwrap(), [Ok(()), Err(SendError::UnknownPeer)]);
        assert_eq!(told.recv_timeout(PATIENCE).unwrap(), (Err(SendError::UnknownPeer), true));
    }

    fn inside_a_handler_nothing_waits_for_room(case) {
        let mut config = case.tight();
        config.send_timeout = HOUR;
        let (tell, told) = sync_channel(1);
        let slow: Arc<Mutex<Option<(Peer, Sender)>>> = Arc::default();
        let for_handler = slow.clone();
        let recorder = Recorder::deaf().on_message(move |peer, _| {
            let slow = for_handler.lock().unwrap();
            let Some((handle, sender)) = &*slow else { return };
            tell.send([
                handle.send(&[7; 1000]),
                handle.send_timeout(&[7; 1000], HOUR),
                handle.claim(1000).map(drop),
                sender.send("slow", &[7; 1000]),
                sender.send_timeout("slow", &[7; 1000], HOUR),
                sender.claim("slow", 1000).map(drop),
                peer.send_to("slow", &[7; 1000]),
            ])
            .unwrap();
        });
        let server = case.server(config, recorder);
        let unread = Raw::connect_small(server.address(), "slow");
        let mut other = Raw::connect(server.address(), "other");
        let sender = server.sender();
        let handle = sender.peer("slow").unwrap();
        fill(&handle);
        *slow.lock().unwrap() = Some((handle, sender));
        other.send(b"go");
        assert_eq!(told.recv_timeout(PATIENCE).unwrap(), [Err(SendError::Full); 7]);
        drop((unread, other));
    }

    fn who_is_not_there_is_unknown_and_who_has_left_is_closed(case) {
        let log = Log::new();
        let server = case.server(case.config(), Recorder::new(&log));
        let sender = server.sender();
        let all = |outcome| {
            assert_eq!(sender.send("a", b"x"), outcome);
            assert_eq!(sender.try_send("a", b"x"), outcome);
            assert_eq!(sender.send_timeout("a", b"x", HOUR), outcome);
            assert_eq!(sender.claim("a", 1).map(drop), outcome);
            assert_eq!(sender.try_claim("a", 1).map(drop), outcome);
            assert_eq!(sender.peer("a").map(drop), outcome);
        };
        all(Err(SendError::UnknownPeer));
        assert_eq!(sender.disconnect("a"), Err(SendError::UnknownPeer));
        let first = case.client(&server, "a", Recorder::deaf());
        log.wait_connected("a");
        let old = sender.peer("a").unwrap();
        all(Ok(()));
        first.stop();
        log.wait_disconnected("a");
        all(Err(SendError::UnknownPeer));
        let by_old_handle = || {
            assert_eq!(old.send(b"x"), Err(SendError::Closed));
            assert_eq!(old.try_send(b"x"), Err(SendError::Closed));
            assert_eq!(old.send_timeout(b"x", HOUR), Err(SendError::Closed));
            assert_eq!(old.claim(1).map(drop), Err(SendError::Closed));
            assert_eq!(old.try_claim(1).map(drop), Err(SendError::Closed));
            assert_eq!(old.pause(), Err(SendError::Closed));
            assert_eq!(old.resume(), Err(SendError::Closed));
            assert_eq!(old.disconnect(), Err(SendError::Closed));
        };
        by_old_handle();
        // The same peer comes again, in the same slot: the old handle does not reach it.
        let at_second = Log::new();
        let second = case.client(&server, "a", Recorder::new(&at_second));
        second.peer().send(b"I am back").unwrap();
        log.wait_messages("a", 1);
        by_old_handle();
        sender.send("a", b"for the second").unwrap();
        at_second.wait_messages("a", 1);
        assert_eq!(texts(&at_second.events()), ["for the second"]);
    }

    fn a_departed_clients_own_handle_is_closed(case) {
        let at_client = Log::new();
        let server = case.server(case.config(), Recorder::deaf());
        let client = case.client(&server, "a", Recorder::new(&at_client));
        let peer = client.peer();
        server.stop();
        at_client.wait_disconnected("a");
        assert_eq!(peer.send(b"x"), Err(SendError::Closed));
        assert_eq!(peer.try_claim(1).map(drop), Err(SendError::Closed));
    }

    fn the_peers_are_those_who_are_connected(case) {
        let log = Log::new();
        let server = case.server(case.config(), Recorder::new(&log));
        let sender = server.sender();
        let ids = || {
            let mut ids: Vec<String> = sender.peers().iter().map(|peer| peer.id().to_owned()).collect();
            ids.sort();
            ids
        };
        assert!(ids().is_empty());
        let raw = Raw::connect(server.address(), "a");
        let _b = case.client(&server, "b", Recorder::deaf());
        log.wait_connected("b");
        assert_eq!(ids(), ["a", "b"]);
        let a = sender.peers().into_iter().find(|peer| peer.id() == "a").unwrap();
        assert_eq!(a.address(), raw.address());
        drop(raw);
        log.wait_disconnected("a");
        assert_eq!(ids(), ["b"]);
    }

    fn a_disconnected_peer_still_gets_all_that_was_accepted(case) {
        let (at_server, at_client) = (Log::new(), Log::new());
        let server = case.server(case.config(), Recorder::new(&at_server));
        let _client = case.client(&server, "a", Recorder::new(&at_client).without_messages().on_message({
            let mut next = 0u32;
            move |_, message| {
                assert_eq!(message, next.to_le_bytes());
                next += 1;
            }
        }));
        at_server.wait_connected("a");
        let sender = server.sender();
        (0..10_000u32).for_each(|number| sender.send("a", &number.to_le_bytes()).unwrap());
        sender.disconnect("a").unwrap();
        at_client.wait_disconnected("a");
        let why = at_server.wait_disconnected("a");
        assert_eq!((why.reason, why.undelivered.messages), (Reason::Disconnected, 0));
        assert_eq!(server.counters().sessions.sent.messages_accepted, 10_000);
        assert_eq!(_client.counters().sessions.received.messages_received, 10_000);
    }

    fn a_message_of_message_max_fits_and_one_byte_more_is_too_large(case) {
        // The tightest ring that a configuration may have: twice the frame is 15/16 of it.
        let mut config = case.tight();
        config.message_max = 1916;
        let at_server = Log::new();
        let server = case.server(config.clone(), Recorder::new(&at_server).without_messages().on_message(
            |_, message| assert_eq!(message, [9; 1916]),
        ));
        let client = case.try_client(&server, "a", config, Recorder::deaf()).unwrap();
        let peer = client.peer();
        let too_large = SendError::TooLarge { len: 1917, max: 1916 };
        for _ in 0..1000 {
            peer.send(&[9; 1916]).unwrap();
            assert_eq!(peer.send(&[9; 1917]), Err(too_large));
        }
        let mut claim = peer.claim(1916).unwrap();
        claim.fill(9);
        claim.commit().unwrap();
        assert_eq!(peer.claim(1917).map(drop), Err(too_large));
        assert_eq!(peer.try_claim(1917).map(drop), Err(too_large));
        assert_eq!(peer.try_send(&[9; 1917]), Err(too_large));
        let report = client.stop();
        assert_eq!((report.delivered, report.undelivered.messages), (1001, 0));
        at_server.wait_disconnected("a");
        assert_eq!(server.counters().sessions.received.messages_received, 1001);
    }

    fn four_threads_at_each_end_send_at_once_and_each_keeps_its_order(case) {
        const EACH: u64 = 5_000;
        const MAX: usize = 2048;
        let mut config = case.config();
        (config.message_max, config.send_ring, config.receive_buffer) = (MAX, 16 * 1024, 16 * 1024);
        let checking = |log: &Log, checker: &Arc<Mutex<Checker>>| {
            let checker = checker.clone();
            Recorder::new(log).without_messages().on_message(move |_, message| {
                checker.lock().unwrap().check(message, MAX);
            })
        };
        let (at_server, at_client) = (Log::new(), Log::new());
        let checkers = [Arc::default(), Arc::default()];
        let server = case.server(config.clone(), checking(&at_server, &checkers[0]));
        let client = case.try_client(&server, "a", config, checking(&at_client, &checkers[1])).unwrap();
        at_server.wait_connected("a");
        let (up, down) = (client.peer(), server.sender().peer("a").unwrap());
        std::thread::scope(|scope| {
            for (peer, thread) in [&up, &down].into_iter().flat_map(|peer| (0..4u8).map(move |n| (peer, n))) {
                scope.spawn(move || {
                    for number in 0..EACH {
                        let len = pattern::len(thread, number, MAX);
                        let message = pattern::message(thread, number, len);
                        if number % 3 == 0 {
                            let mut claim = peer.claim(len).unwrap();
                            claim.copy_from_slice(&message);
                            claim.commit().unwrap();
                        } else {
                            peer.send(&message).unwrap();
                        }
                    }
                });
            }
        });
        for checker in &checkers {
            common::eventually("all have come", || checker.lock().unwrap().count() == 4 * EACH);
        }
        client.stop();
        server.stop();
        assert!(checkers.iter().all(|checker| checker.lock().unwrap().count() == 4 * EACH));
    }

    fn order_holds_through_the_tightest_rings_buffers_and_sockets(case) {
        const COUNT: u64 = 20_000;
        let config = case.tight();
        let max = config.message_max;
        let (log, checker) = (Log::new(), Arc::new(Mutex::new(Checker::default())));
        let checking = checker.clone();
        let recorder = Recorder::new(&log).without_messages().on_message(move |_, message| {
            checking.lock().unwrap().check(message, max);
        });
        let server = case.server(config.clone(), recorder);
        let client = case.try_client(&server, "a", config, Recorder::deaf()).unwrap();
        let peer = client.peer();
        for number in 0..COUNT {
            peer.send(&pattern::message(1, number, pattern::len(1, number, max))).unwrap();
        }
        let sent = peer.counters().unwrap().sent;
        assert!(sent.full_rings > 0, "{sent:?}");
        assert_eq!(client.stop().delivered, COUNT);
        log.wait_disconnected("a");
        assert_eq!(checker.lock().unwrap().count(), COUNT);
    }

    fn order_holds_where_the_kernel_takes_frames_in_pieces(case) {
        const COUNT: u64 = 1000;
        let mut config = case.config();
        config.socket_send_buffer = Some(4096);
        config.socket_receive_buffer = Some(4096);
        config.receive_buffer = config.message_max + 4;
        let max = config.message_max;
        let (log, checker) = (Log::new(), Arc::new(Mutex::new(Checker::default())));
        let checking = checker.clone();
        let recorder = Recorder::new(&log).without_messages().on_message(move |_, message| {
            checking.lock().unwrap().check(message, max);
        });
        let server = case.server(config.clone(), recorder);
        let client = case.try_client(&server, "a", config, Recorder::deaf()).unwrap();
        let peer = client.peer();
        for number in 0..COUNT {
            peer.send(&pattern::message(1, number, pattern::len(1, number, max))).unwrap();
        }
        let sent = peer.counters().unwrap().sent;
        // Registered I/O takes each request as a whole, in its own time, unless chance wants it otherwise.
        assert!(sent.short_sends > 0 || case.takes_sends_whole(), "{sent:?}");
        assert_eq!(client.stop().delivered, COUNT);
        log.wait_disconnected("a");
        assert_eq!(checker.lock().unwrap().count(), COUNT);
    }

    fn a_claim_held_while_its_session_ends_is_closed_and_nobody_gets_its_place(case) {
        let log = Log::new();
        let mut config = case.config();
        config.sessions_max = 1;
        let server = case.server(config, Recorder::new(&log));
        let sender = server.sender();
        // Every slot that there is, the spare ones included, has a session that leaves a claim behind.
        let slots = 9;
        for number in 0..slots {
            let id = format!("gone-{number}");
            let client = case.client(&server, &id, Recorder::deaf());
            log.wait_connected(&id);
            let handle = sender.peer(&id).unwrap();
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let mut claim = handle.claim(100).unwrap();
                    client.stop();
                    log.wait_disconnected(&id);
                    claim.fill(b'x');
                    // One more comes meanwhile: it has another slot, and its bytes are its own.
                    let other = case.client(&server, "other", Recorder::echo());
                    common::eventually("it is in", || sender.peer("other").is_ok());
                    let before = texts(&log.of("other")).len();
                    (0..5).for_each(|_| sender.send("other", &[b'o'; 100]).unwrap());
                    claim.fill(b'x');
                    log.wait_messages("other", before + 5);
                    other.stop();
                    common::eventually("it is out", || sender.peers().is_empty());
                    assert_eq!(claim.commit(), Err(SendError::Closed));
                });
            });
        }
        assert!(texts(&log.of("other")).iter().all(|text| text.bytes().all(|byte| byte == b'o')));
        assert_eq!(texts(&log.of("other")).len(), 5 * slots);
        let accepted = server.counters().sessions.sent.messages_accepted;
        assert_eq!(accepted, 5 * slots as u64, "what was not committed was not accepted");
    }

    fn as_long_as_claims_are_held_their_slots_are_taken(case) {
        let log = Log::new();
        let mut config = case.config();
        config.sessions_max = 1;
        let server = case.server(config, Recorder::new(&log));
        let sender = server.sender();
        let leave_a_claim_behind = |number: usize| {
            let id = format!("gone-{number}");
            let raw = Raw::connect(server.address(), &id);
            let claim = sender.claim(&id, 8).unwrap();
            drop(raw);
            log.wait_disconnected(&id);
            claim
        };
        let mut claims: Vec<_> = (0..9).map(leave_a_claim_behind).collect();
        let late = case.try_client(&server, "late", case.config(), Recorder::deaf()).map(drop);
        assert!(late.is_err(), "no slot is free");
        drop(claims.pop());
        let client = case.client(&server, "late", Recorder::deaf());
        client.peer().send(b"in").unwrap();
        log.wait_messages("late", 1);
        drop(claims);
    }
}

drivers! {
    fn servers_and_clients_send_themselves_on_threads(case) {
        let (at_server, at_client) = (Log::new(), Log::new());
        let server = Server::bind("127.0.0.1:0").unwrap();
        let server = server.config(case.config()).handler(Recorder::new(&at_server)).start().unwrap();
        let client = Client::connect(server.local_addr(), "a").unwrap();
        let client = client.config(case.config()).handler(Recorder::new(&at_client)).start().unwrap();
        at_server.wait_connected("a");
        let second = Duration::from_secs(1);
        client.send(b"send").unwrap();
        client.try_send(b"try_send").unwrap();
        client.send_timeout(b"send_timeout", second).unwrap();
        let mut claim = client.claim(5).unwrap();
        claim.copy_from_slice(b"claim");
        claim.commit().unwrap();
        let mut claim = client.try_claim(9).unwrap();
        claim.copy_from_slice(b"try_claim");
        claim.commit().unwrap();
        server.send("a", b"send").unwrap();
        server.try_send("a", b"try_send").unwrap();
        server.send_timeout("a", b"send_timeout", second).unwrap();
        let mut claim = server.claim("a", 5).unwrap();
        claim.copy_from_slice(b"claim");
        claim.commit().unwrap();
        let mut claim = server.try_claim("a", 9).unwrap();
        claim.copy_from_slice(b"try_claim");
        claim.commit().unwrap();
        let expected = ["send", "try_send", "send_timeout", "claim", "try_claim"];
        at_server.wait_messages("a", 5);
        at_client.wait_messages("a", 5);
        assert_eq!(texts(&at_server.events()), expected);
        assert_eq!(texts(&at_client.events()), expected);
        assert_eq!(server.peers().len(), 1);
        assert_eq!(server.peer("a").unwrap().id(), "a");
        server.disconnect("a").unwrap();
        at_client.wait_disconnected("a");
    }
}
