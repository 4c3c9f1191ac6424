//! What a peer may do to a server under TLS, record by record: its session ends with a reason, and nobody else notices.
#![forbid(unsafe_code)]

mod common;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::certs::shared;
use common::raw::frame;
use common::tls_peer::{Peer, trusting};
use common::{Case, Event, Log, PATIENCE, Recorder, drivers, texts};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConnection, ServerConfig, ServerConnection};
use zerio::{Error, Reason, RefusalCode, Rejection, TlsFault};

/// What ends a session on which this was sent after a message.
fn ended_by(case: &Case, bytes: impl FnOnce(&mut Peer) -> Vec<u8>) -> Reason {
    let log = Log::new();
    let server = case.tls_server(case.config(), Recorder::new(&log), shared().1.server());
    let mut other = Peer::connect(&server, "other");
    let mut peer = Peer::connect(&server, "a");
    peer.send(b"before");
    let bytes = bytes(&mut peer);
    peer.socket.write_all(&bytes).unwrap();
    if bytes.is_empty() {
        peer.socket.shutdown(std::net::Shutdown::Write).unwrap();
    }
    let reason = log.wait_disconnected("a").reason;
    assert_eq!(texts(&log.of("a")), ["before"], "what came before it is heard");
    other.send(b"untouched");
    log.wait_messages("other", 1);
    reason
}

/// So many slow handshakes at once.
const SLOW: usize = 1000;

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

/// A server of rustls' that gives so many tickets.
fn giving(tickets: usize) -> Arc<ServerConfig> {
    let identity = &shared().1;
    let certificate = CertificateDer::from_pem_slice(identity.certificate.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = config.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
    config.send_tls13_tickets = tickets;
    Arc::new(config)
}

drivers! {
    fn a_record_that_was_changed_repeated_or_left_out_ends_the_session(case) {
        let flipped = ended_by(case, |peer| {
            let mut record = peer.record(b"oui");
            *record.last_mut().unwrap() ^= 1;
            record
        });
        assert_eq!(flipped, Reason::Tls(TlsFault::BadRecord));
        let left_out = ended_by(case, |peer| {
            peer.record(b"left out");
            peer.record(b"oui")
        });
        assert_eq!(left_out, Reason::Tls(TlsFault::BadRecord));
    }

    fn so_does_one_that_is_too_long_or_in_the_clear_or_of_no_length(case) {
        let too_long = ended_by(case, |_| vec![23, 3, 3, 0x41, 0x01]);
        assert_eq!(too_long, Reason::Tls(TlsFault::RecordTooLong));
        let in_the_clear = ended_by(case, |_| vec![21, 3, 3, 0, 19, 1, 0]);
        assert_eq!(in_the_clear, Reason::Tls(TlsFault::Unexpected));
        assert_eq!(ended_by(case, |_| vec![23, 3, 3, 0, 0]), Reason::Tls(TlsFault::BadRecord));
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
        assert_eq!(ended_by(case, |_| Vec::new()), Reason::Tls(TlsFault::Truncated));
        let in_order = ended_by(case, |peer| {
            peer.tls.send_close_notify();
            let mut record = Vec::new();
            peer.tls.write_tls(&mut record).unwrap();
            record
        });
        assert_eq!(in_order, Reason::PeerClosed);
    }

    fn handshakes_byte_by_byte_end_at_their_deadline_and_nobody_else_notices(case) {
        let (mut config, log) = (case.config(), Log::new());
        (config.sessions_max, config.handshake_timeout) = (SLOW + 1, Duration::from_secs(3));
        // Its peers are the test's, which has to look at a thousand of them.
        (config.message_max, config.send_ring, config.receive_buffer) = (1024, 16_384, 20_480);
        let echo = Recorder::new(&log).on_message(|peer, message| peer.send(message).unwrap());
        let server = case.tls_server(config, echo, shared().1.server());
        let mut good = Peer::connect(&server, "good");
        let mut slow: Vec<TcpStream> = (0..SLOW).map(|_| TcpStream::connect(server.address()).unwrap()).collect();
        let hello = client_hello();
        let begun = Instant::now();
        for byte in hello.iter().take(2) {
            let round = Instant::now();
            for socket in &mut slow {
                socket.write_all(&[*byte]).unwrap();
            }
            while round.elapsed() < Duration::from_millis(500) {
                good.send(b"still here");
                assert_eq!(good.receive(10), frame(b"still here"));
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
