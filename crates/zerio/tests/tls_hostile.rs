//! What a peer may do to a server under TLS, record by record: its session ends with a reason, and nobody else notices.
#![forbid(unsafe_code)]

mod common;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use common::certs::shared;
use common::raw::frame;
use common::tls_peer::{Peer, extracting, giving, trusting};
use common::{Case, Event, Log, PATIENCE, Recorder, drivers, texts};
use ring::aead;
use rustls::pki_types::ServerName;
use rustls::{
    AlertDescription, ClientConnection, ConnectionCommon, ConnectionTrafficSecrets, ServerConnection,
};
use zerio::{Error, Reason, RefusalCode, Rejection, TlsFault};

/// What ends a session on which this was done after a message, and the alert that its peer hears, where it hears one.
/// `heard` is what the server's handler hears of it besides.
fn ended_by(
    case: &Case,
    heard: &[&str],
    misbehaves: impl FnOnce(&mut Peer),
) -> (Reason, Option<AlertDescription>) {
    let log = Log::new();
    let server = case.tls_server(case.config(), Recorder::new(&log), shared().1.server());
    let mut other = Peer::connect(&server, "other");
    let mut peer = Peer::connect(&server, "a");
    peer.send(b"before");
    misbehaves(&mut peer);
    let alert = alert_to(&mut peer.tls, &mut peer.socket);
    let reason = log.wait_disconnected("a").reason;
    assert_eq!(texts(&log.of("a")), [&["before"], heard].concat(), "what came before it is heard");
    other.send(b"untouched");
    log.wait_messages("other", 1);
    (reason, alert)
}

/// The alert that a peer is told before its connection ends.
fn alert_to<Side>(tls: &mut ConnectionCommon<Side>, socket: &mut TcpStream) -> Option<AlertDescription> {
    loop {
        match tls.read_tls(socket) {
            Ok(0) | Err(_) => return None,
            Ok(_) => {}
        }
        match tls.process_new_packets() {
            Ok(_) => {}
            Err(rustls::Error::AlertReceived(alert)) => return Some(alert),
            Err(error) => panic!("the other side breaks TLS itself: {error}"),
        }
    }
}

/// The same of a client of ours: what ends its session when its server's record is changed so, and the alert that the
/// server hears.
fn client_ended_by(case: &Case, change: fn(&mut Vec<u8>)) -> (Reason, Option<AlertDescription>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let serving = std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut tls = ServerConnection::new(giving(2)).unwrap();
        let mut stream = rustls::Stream::new(&mut tls, &mut socket);
        let mut heard = [0; 5];
        stream.read_exact(&mut heard).and_then(|()| stream.write_all(&frame(b"a"))).unwrap();
        // It is a session when it says something.
        stream.read_exact(&mut heard).unwrap();
        let mut record = Vec::new();
        tls.writer().write_all(&frame(b"oui")).unwrap();
        tls.write_tls(&mut record).unwrap();
        change(&mut record);
        socket.write_all(&record).unwrap();
        alert_to(&mut tls, &mut socket)
    });
    let log = Log::new();
    let recorder = Recorder::new(&log);
    let client =
        case.try_tls_client_at(address, "a", case.config(), recorder, shared().0.trusting()).unwrap();
    client.peer().send(b"b").unwrap();
    let alert = serving.join().unwrap();
    let reason = log.wait_disconnected("a").reason;
    assert!(texts(&log.of("a")).is_empty(), "nothing of that is heard");
    (reason, alert)
}

/// What ends a session on which these bytes are sent, and nothing more of it is heard.
fn ended_by_bytes(
    case: &Case,
    bytes: impl FnOnce(&mut Peer) -> Vec<u8>,
) -> (Reason, Option<AlertDescription>) {
    ended_by(case, &[], |peer| {
        let bytes = bytes(peer);
        peer.socket.write_all(&bytes).unwrap();
    })
}

/// A session's own keys in a test's hands, for records that rustls does not make.
struct Sealer {
    key: aead::LessSafeKey,
    iv: [u8; aead::NONCE_LEN],
    number: u64,
}

impl Sealer {
    fn new((number, secrets): (u64, ConnectionTrafficSecrets)) -> Sealer {
        let (algorithm, key, iv) = match secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&aead::AES_128_GCM, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&aead::AES_256_GCM, key, iv),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (&aead::CHACHA20_POLY1305, key, iv),
            _ => panic!("another cipher suite"),
        };
        let key = aead::LessSafeKey::new(aead::UnboundKey::new(algorithm, key.as_ref()).unwrap());
        Sealer { key, iv: iv.as_ref().try_into().unwrap(), number }
    }

    /// A record of data (RFC 8446, 5.2).
    fn seal(&mut self, plain: &[u8]) -> Vec<u8> {
        let mut nonce = self.iv;
        nonce[4..].iter_mut().zip(self.number.to_be_bytes()).for_each(|(iv, number)| *iv ^= number);
        self.number += 1;
        let len = (plain.len() + 1 + aead::MAX_TAG_LEN) as u16;
        let header = [&[23, 3, 3][..], &len.to_be_bytes()].concat();
        let mut sealed = [plain, &[23]].concat();
        let nonce = aead::Nonce::assume_unique_for_key(nonce);
        self.key.seal_in_place_append_tag(nonce, aead::Aad::from(&header), &mut sealed).unwrap();
        [header, sealed].concat()
    }
}

/// So many slow handshakes at once.
const SLOW: usize = 1000;

/// And so long they may take, which at a byte in 100 ms is too short.
const DEADLINE: Duration = Duration::from_secs(3);

/// What a client says first.
fn client_hello() -> Vec<u8> {
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let mut tls = ClientConnection::new(trusting(), name).unwrap();
    let mut hello = Vec::new();
    tls.write_tls(&mut hello).unwrap();
    hello
}

/// What a client of ours ends with whose server gives it so many tickets, then a message; `None` where it hears that.
fn tickets_from_a_server(case: &Case, tickets: usize) -> Option<Reason> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let serving = std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let mut tls = ServerConnection::new(giving(tickets)).unwrap();
        let mut stream = rustls::Stream::new(&mut tls, &mut socket);
        let mut hello = [0; 5];
        // Its alert may come with that, and then that is not given out.
        if stream.read_exact(&mut hello).is_err() {
            return;
        }
        let said = [frame(b"a"), frame(b"oui")].concat();
        // It may have left by then.
        let _ = stream.write_all(&said).and_then(|()| stream.flush());
        let _ = stream.read(&mut hello);
    });
    let log = Log::new();
    let recorder = Recorder::new(&log);
    let outcome = case.try_tls_client_at(address, "a", case.config(), recorder, shared().0.trusting());
    let reason = match outcome {
        Ok(client) => {
            log.wait_messages("a", 1);
            drop(client);
            None
        }
        Err(Error::Tls { what, .. }) => Some(Reason::Tls(what)),
        Err(other) => panic!("{other}"),
    };
    serving.join().unwrap();
    reason
}

/// Sees why a session ends, and which alert its peer hears. On a machine that is busy for as long as a failed session has to
/// say so, its end may overtake the alert: then it is tried again.
fn assert_ended(
    expected: (Reason, Option<AlertDescription>),
    attempt: impl Fn() -> (Reason, Option<AlertDescription>),
) {
    let mut ended = attempt();
    for _ in 0..4 {
        if ended.1.is_some() {
            break;
        }
        ended = attempt();
    }
    assert_eq!(ended, expected);
}

drivers! {
    fn a_record_that_was_changed_repeated_left_out_or_exchanged_ends_the_session(case) {
        let does_not_open = (Reason::Tls(TlsFault::BadRecord), Some(AlertDescription::BadRecordMac));
        assert_ended(does_not_open, || ended_by_bytes(case, |peer| {
            let mut record = peer.record(b"oui");
            *record.last_mut().unwrap() ^= 1;
            record
        }));
        assert_ended(does_not_open, || ended_by(case, &["once"], |peer| {
            let record = peer.record(b"once");
            peer.socket.write_all(&record.repeat(2)).unwrap();
        }));
        assert_ended(does_not_open, || ended_by_bytes(case, |peer| {
            peer.record(b"left out");
            peer.record(b"oui")
        }));
        assert_ended(does_not_open, || ended_by_bytes(case, |peer| {
            let (first, second) = (peer.record(b"first"), peer.record(b"second"));
            [second, first].concat()
        }));
    }

    fn so_does_one_that_is_too_long_or_in_the_clear_or_of_no_length(case) {
        for (fault, alert, bytes) in [
            (TlsFault::RecordTooLong, AlertDescription::RecordOverflow, vec![23, 3, 3, 0x41, 0x01]),
            (TlsFault::Unexpected, AlertDescription::UnexpectedMessage, vec![21, 3, 3, 0, 19, 1, 0]),
            (TlsFault::BadRecord, AlertDescription::BadRecordMac, vec![23, 3, 3, 0, 0]),
        ] {
            assert_ended((Reason::Tls(fault), Some(alert)), || ended_by_bytes(case, |_| bytes.clone()));
        }
    }

    fn a_client_tells_its_server_by_an_alert_what_is_wrong_with_a_record(case) {
        let does_not_open = (Reason::Tls(TlsFault::BadRecord), Some(AlertDescription::BadRecordMac));
        assert_ended(does_not_open, || client_ended_by(case, |record| *record.last_mut().unwrap() ^= 1));
        let in_the_clear = (Reason::Tls(TlsFault::Unexpected), Some(AlertDescription::UnexpectedMessage));
        assert_ended(in_the_clear, || client_ended_by(case, |record| record[0] = 20));
        let too_long = (Reason::Tls(TlsFault::RecordTooLong), Some(AlertDescription::RecordOverflow));
        assert_ended(too_long, || client_ended_by(case, |record| *record = vec![23, 3, 3, 0x41, 0x01]));
    }

    fn records_with_nothing_in_them_end_the_session_when_they_are_too_many_in_a_row(case) {
        for (count, is_too_many) in [(32, false), (33, true)] {
            let log = Log::new();
            let server = case.tls_server(case.config(), Recorder::new(&log), shared().1.server());
            let mut other = Peer::connect(&server, "other");
            let Peer { tls, mut socket } = Peer::connect_with(extracting(), &server, "a");
            let mut sealer = Sealer::new(tls.dangerous_extract_secrets().unwrap().tx);
            let mut records: Vec<u8> = (0..count).flat_map(|_| sealer.seal(b"")).collect();
            records.extend(sealer.seal(&frame(b"oui")));
            socket.write_all(&records).unwrap();
            if is_too_many {
                assert_eq!(log.wait_disconnected("a").reason, Reason::Tls(TlsFault::EmptyRecords));
                assert!(texts(&log.of("a")).is_empty());
            } else {
                log.wait_messages("a", 1);
                assert_eq!(texts(&log.of("a")), ["oui"]);
            }
            other.send(b"untouched");
            log.wait_messages("other", 1);
        }
    }

    fn an_empty_record_before_the_handshake_panicked_an_engine_in_builds_with_debug_assertions(case) {
        let log = Log::new();
        let server = case.tls_server(case.config(), Recorder::new(&log), shared().1.server());
        let mut socket = TcpStream::connect(server.address()).unwrap();
        socket.write_all(&[22, 3, 3, 0, 0]).unwrap();
        let rejection = log.wait_rejected();
        assert!(matches!(rejection, Rejection::Ended(Reason::Tls(_))), "{rejection:?}");
        // The engine goes on.
        drop(Peer::connect(&server, "good"));
    }

    fn peers_that_break_their_handshakes_kept_everybody_else_out(case) {
        let (mut config, log) = (case.config(), Log::new());
        config.sessions_max = 4;
        let echo = Recorder::new(&log).on_message(|peer, message| peer.send(message).unwrap());
        let server = case.tls_server(config, echo, shared().1.server());
        let broken: Vec<TcpStream> = (0..40)
            .map(|_| {
                let mut socket = TcpStream::connect(server.address()).unwrap();
                socket.write_all(&[22, 3, 3, 0, 0]).unwrap();
                socket
            })
            .collect();
        for mut socket in &broken {
            // Each is told what is wrong, or has made room.
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            let _ = socket.read(&mut [0; 64]);
        }
        let mut good = Peer::connect(&server, "good");
        good.send(b"let in");
        assert_eq!(good.receive(6), frame(b"let in"));
    }

    fn an_end_without_close_notify_is_told_from_one_with_it(case) {
        let cut_off = (Reason::Tls(TlsFault::Truncated), None);
        let between_two = ended_by(case, &[], |peer| peer.socket.shutdown(Shutdown::Write).unwrap());
        assert_eq!(between_two, cut_off);
        let within_one = ended_by(case, &[], |peer| {
            let record = peer.record(b"cut in half");
            peer.socket.write_all(&record[..record.len() / 2]).unwrap();
            peer.socket.shutdown(Shutdown::Write).unwrap();
        });
        assert_eq!(within_one, cut_off);
        let in_order = ended_by_bytes(case, |peer| {
            peer.tls.send_close_notify();
            let mut record = Vec::new();
            peer.tls.write_tls(&mut record).unwrap();
            record
        });
        assert_eq!(in_order, (Reason::PeerClosed, None));
    }

    fn handshakes_byte_by_byte_end_at_their_deadline_and_nobody_else_notices(case) {
        let (mut config, log) = (case.config(), Log::new());
        (config.sessions_max, config.handshake_timeout) = (SLOW + 2, DEADLINE);
        // Its peers are the test's, which has to look at a thousand of them.
        (config.message_max, config.send_ring, config.receive_buffer) = (1024, 16_384, 20_480);
        let echo = Recorder::new(&log).on_message(|peer, message| peer.send(message).unwrap());
        let server = case.tls_server(config, echo, shared().1.server());
        let mut good = Peer::connect(&server, "good");
        let mut slow: Vec<TcpStream> = (0..SLOW).map(|_| TcpStream::connect(server.address()).unwrap()).collect();
        let hello = client_hello();
        assert!(hello.len() > 100, "it must not be whole before the deadline");
        let begun = Instant::now();
        for (number, byte) in hello.into_iter().enumerate() {
            let round = Instant::now();
            if begun.elapsed() >= DEADLINE {
                break;
            }
            for socket in &mut slow {
                // Those that came first may have been given up by now.
                let _ = socket.write_all(&[byte]);
            }
            // Who comes meanwhile is let in.
            drop(Peer::connect(&server, &format!("newcomer {number}")));
            while round.elapsed() < Duration::from_millis(100) {
                good.send(b"still here");
                assert_eq!(good.receive(10), frame(b"still here"));
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        for mut socket in slow {
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            // Nothing can be said to it before there are keys.
            assert_eq!(socket.read(&mut [0; 64]).unwrap_or(0), 0);
        }
        assert!(begun.elapsed() < PATIENCE);
        let late = |event: &Event| matches!(event, Event::Rejected { why: Rejection::Refused(RefusalCode::TooLate), .. });
        log.wait("all were too late", |events| (events.iter().filter(|event| late(event)).count() == SLOW).then_some(()));
        good.send(b"still here");
        assert_eq!(good.receive(10), frame(b"still here"));
    }

    fn a_server_that_gives_tickets_without_end_is_left(case) {
        let bearable = tickets_from_a_server(case, 32);
        assert_eq!(bearable, None);
        let flood = tickets_from_a_server(case, 33);
        assert_eq!(flood, Some(Reason::Tls(TlsFault::Unexpected)));
    }

    fn keys_are_updated_as_often_as_the_peer_likes_both_ways(case) {
        let log = Log::new();
        let echo = Recorder::new(&log).on_message(|peer, message| peer.send(message).unwrap());
        let server = case.tls_server(case.config(), echo, shared().1.server());
        let mut peer = Peer::connect(&server, "a");
        for number in 0..1000u32 {
            peer.tls.refresh_traffic_keys().unwrap();
            peer.send(&number.to_le_bytes());
            assert_eq!(peer.receive(4), frame(&number.to_le_bytes()));
        }
    }
}
