//! What a peer may do to a server under TLS, record by record: its session ends with a reason, and nobody else notices.
#![forbid(unsafe_code)]

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use common::certs::shared;
use common::raw::frame;
use common::{Case, Log, PATIENCE, Recorder, TestServer, drivers, texts};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use zerio::{Reason, TlsFault};

/// A client made of rustls and a socket, which has been let in.
struct Peer {
    tls: ClientConnection,
    socket: TcpStream,
}

impl Peer {
    fn connect(server: &TestServer, id: &str) -> Peer {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(shared().0.certificate.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config =
            ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = config.with_root_certificates(roots).with_no_client_auth();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let tls = ClientConnection::new(Arc::new(config), name).unwrap();
        let socket = TcpStream::connect(server.address()).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut peer = Peer { tls, socket };
        peer.send(id.as_bytes());
        assert_eq!(peer.receive(id.len()), frame(id.as_bytes()), "let in");
        peer
    }

    fn send(&mut self, message: &[u8]) {
        rustls::Stream::new(&mut self.tls, &mut self.socket).write_all(&frame(message)).unwrap();
    }

    fn receive(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; 4 + len];
        rustls::Stream::new(&mut self.tls, &mut self.socket).read_exact(&mut bytes).unwrap();
        bytes
    }

    /// The record of a message, which is not sent.
    fn record(&mut self, message: &[u8]) -> Vec<u8> {
        self.tls.writer().write_all(&frame(message)).unwrap();
        let mut record = Vec::new();
        self.tls.write_tls(&mut record).unwrap();
        record
    }
}

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
