//! Sessions under TLS, over every driver and both ways of driving: messages both ways, ends, and what is told of
//! certificates that are not accepted.
#![forbid(unsafe_code)]

mod common;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use common::certs::{self, Authority, self_signed, shared};
use common::raw::frame;
use common::{Case, Log, PATIENCE, Recorder, TestClient, TestServer, drivers, matrix, texts, tls_peer};
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, HandshakeKind, ServerConnection};
use zerio::tls::{TlsClient, TlsServer};
use zerio::{
    Alert, CertificateFault, Client, Config, Error, Reason, RefusalCode, Rejection, Server, TlsFault,
    Undelivered,
};

fn numbers(count: usize) -> Vec<String> {
    (0..count).map(|number| number.to_string()).collect()
}

/// A server of the shared authority.
fn serve(case: &Case, log: &Log) -> TestServer {
    case.tls_server(case.config(), Recorder::new(log), shared().1.server())
}

/// A server of the shared authority, which requires certificates of it.
fn strict() -> TlsServer {
    let (authority, identity) = shared();
    identity.server().require_client_certificates(authority.certificate.as_bytes()).expect("an authority")
}

fn connect(case: &Case, server: &TestServer, id: &str, tls: TlsClient) -> Result<TestClient, Error> {
    case.try_tls_client(server, id, case.config(), Recorder::deaf(), tls)
}

#[track_caller]
fn fault(outcome: Result<TestClient, Error>) -> TlsFault {
    match outcome.map(drop) {
        Err(Error::Tls { what, .. }) => what,
        other => panic!("no fault of TLS: {other:?}"),
    }
}

/// Shown by the server of a client that trusts the shared authority: what both sides say.
fn of_server(case: &Case, identity: &certs::Identity) -> (TlsFault, Rejection) {
    let log = Log::new();
    let server = case.tls_server(case.config(), Recorder::new(&log), identity.server());
    let at_client = fault(connect(case, &server, "a", shared().0.trusting()));
    (at_client, log.wait_rejected())
}

/// Shown by a client to a server that trusts the shared authority.
fn of_client(case: &Case, identity: Option<&certs::Identity>) -> (TlsFault, Rejection) {
    let log = Log::new();
    let server = case.tls_server(case.config(), Recorder::new(&log), strict());
    let mut tls = shared().0.trusting();
    if let Some(identity) = identity {
        tls = tls.certificate(identity.certificate.as_bytes(), identity.key.as_bytes()).unwrap();
    }
    let at_client = fault(connect(case, &server, "a", tls));
    (at_client, log.wait_rejected())
}

fn rejected(fault: TlsFault) -> Rejection {
    Rejection::Ended(Reason::Tls(fault))
}

fn alerted(alert: u8) -> Rejection {
    rejected(TlsFault::Alert(Alert(alert)))
}

fn certificate(fault: CertificateFault) -> TlsFault {
    TlsFault::Certificate(fault)
}

fn pin(identity: &certs::Identity) -> [u8; 32] {
    let key = ring::digest::digest(&ring::digest::SHA256, &identity.public_key);
    key.as_ref().try_into().unwrap()
}

matrix! {
    fn messages_go_both_ways_and_the_end_is_in_order(case) {
        let (at_server, at_client) = (Log::new(), Log::new());
        let server = serve(case, &at_server);
        let client = Recorder::new(&at_client);
        let client = case.try_tls_client(&server, "a", case.config(), client, shared().0.trusting()).unwrap();
        at_server.wait_connected("a");
        let (peer, sender) = (client.peer(), server.sender());
        for text in numbers(500) {
            peer.send(text.as_bytes()).unwrap();
            sender.send("a", text.as_bytes()).unwrap();
        }
        at_client.wait_messages("a", 500);
        client.stop();
        let why = at_server.wait_disconnected("a");
        assert_eq!((why.reason, why.undelivered), (Reason::PeerClosed, Undelivered::default()));
        assert_eq!(at_client.wait_disconnected("a").reason, Reason::Stopped);
        assert_eq!(texts(&at_server.events()), numbers(500));
        assert_eq!(texts(&at_client.events()), numbers(500));
    }

    fn messages_of_every_length_come_whole_through_tight_rings_and_buffers(case) {
        let mut config = case.config();
        config.message_max = 20_000;
        config.send_ring = 65_536;
        config.receive_buffer = 20_004 + 16_645;
        config.socket_send_buffer = Some(32_768);
        config.socket_receive_buffer = Some(32_768);
        let log = Log::new();
        let recorder = Recorder::new(&log);
        let server = case.tls_server(config.clone(), recorder, shared().1.server());
        let (peer, tls) = (Recorder::deaf(), shared().0.trusting());
        let client = case.try_tls_client(&server, "a", config, peer, tls).unwrap();
        let lens = [0, 1, 16_379, 16_380, 16_381, 16_384, 20_000, 5, 20_000, 19_999];
        let messages: Vec<Vec<u8>> =
            (0..100).map(|n| (0..lens[n % lens.len()]).map(|at| (at * 7 + n) as u8).collect()).collect();
        let peer = client.peer();
        for message in &messages {
            peer.send(message).unwrap();
        }
        log.wait_messages("a", messages.len());
        let heard = log.wait("all", |events| {
            let bytes = |event: &common::Event| match event {
                common::Event::Message { bytes, .. } => Some(bytes.clone()),
                _ => None,
            };
            Some(events.iter().filter_map(bytes).collect::<Vec<_>>())
        });
        assert!(heard == messages, "some message is not what was sent");
        client.stop();
        assert_eq!(log.wait_disconnected("a").reason, Reason::PeerClosed);
    }

    fn a_server_that_stops_hands_all_out_and_says_so(case) {
        let at_client = Log::new();
        let server = serve(case, &Log::new());
        let client = Recorder::new(&at_client);
        let _client = case.try_tls_client(&server, "a", case.config(), client, shared().0.trusting()).unwrap();
        common::eventually("it is there", || server.sender().peer("a").is_ok());
        for text in numbers(100) {
            server.sender().send("a", text.as_bytes()).unwrap();
        }
        assert!(server.stop().undelivered.is_empty());
        assert_eq!(at_client.wait_disconnected("a").reason, Reason::PeerClosed);
        assert_eq!(texts(&at_client.events()), numbers(100));
    }

    fn a_paused_session_hears_the_rest_and_its_end_when_it_is_resumed(case) {
        let log = Log::new();
        let server = serve(case, &log);
        let client = connect(case, &server, "a", shared().0.trusting()).unwrap();
        log.wait_connected("a");
        let peer = server.sender().peer("a").unwrap();
        peer.pause().unwrap();
        for text in numbers(100) {
            client.peer().send(text.as_bytes()).unwrap();
        }
        std::thread::spawn(move || client.stop());
        peer.resume().unwrap();
        assert_eq!(log.wait_disconnected("a").reason, Reason::PeerClosed);
        assert_eq!(texts(&log.events()), numbers(100));
    }
}

drivers! {
    fn a_certificate_that_is_not_accepted_is_told_apart_on_both_sides(case) {
        let authority = &shared().0;
        let named = ["127.0.0.1"];
        let expired = authority.signs_with(&named, certs::expired);
        assert_eq!(of_server(case, &expired), (certificate(CertificateFault::Expired), alerted(45)));
        let not_yet = authority.signs_with(&named, certs::not_yet_valid);
        assert_eq!(of_server(case, &not_yet), (certificate(CertificateFault::NotYetValid), alerted(45)));
        let elsewhere = authority.signs(&["elsewhere.example", "127.0.0.2"]);
        assert_eq!(of_server(case, &elsewhere).0, certificate(CertificateFault::WrongName));
        let stranger = Authority::new("another authority").signs(&named);
        let (at_client, at_server) = of_server(case, &stranger);
        assert_eq!((at_client, at_server), (certificate(CertificateFault::UnknownAuthority), alerted(48)));
        assert_eq!(of_server(case, &self_signed(&named)).0, certificate(CertificateFault::SelfSigned));
    }

    fn so_is_one_that_a_client_shows(case) {
        let authority = &shared().0;
        let named = ["zerio:a"];
        let told = |identity: &certs::Identity| {
            let (at_client, at_server) = of_client(case, Some(identity));
            let Rejection::Ended(Reason::Tls(fault)) = at_server else { panic!("{at_server}") };
            (at_client, fault)
        };
        let expired = told(&authority.signs_with(&named, certs::expired));
        assert_eq!(expired, (TlsFault::Alert(Alert(45)), certificate(CertificateFault::Expired)));
        let not_yet = told(&authority.signs_with(&named, certs::not_yet_valid));
        assert_eq!(not_yet, (TlsFault::Alert(Alert(45)), certificate(CertificateFault::NotYetValid)));
        let stranger = told(&Authority::new("another authority").signs(&named));
        assert_eq!(stranger, (TlsFault::Alert(Alert(48)), certificate(CertificateFault::UnknownAuthority)));
        assert_eq!(told(&self_signed(&named)).1, certificate(CertificateFault::SelfSigned));
        let server = told(&authority.signs_with(&named, certs::for_servers)).1;
        assert_eq!(server, certificate(CertificateFault::WrongPurpose));
        let none = of_client(case, None);
        assert_eq!(none, (TlsFault::Alert(Alert(116)), rejected(TlsFault::NoCertificate)));
    }

    fn a_plain_client_hears_that_the_server_speaks_tls(case) {
        let log = Log::new();
        let server = serve(case, &log);
        let client = case.try_client(&server, "a", case.config(), Recorder::deaf()).map(drop);
        assert!(matches!(client, Err(Error::Refused { code: RefusalCode::TlsRequired, .. })), "{client:?}");
        assert_eq!(log.wait_rejected(), Rejection::Refused(RefusalCode::TlsRequired));
    }

    fn a_plain_client_was_told_that_a_server_which_answers_by_a_tls_alert_is_none_of_ours(case) {
        let (mut config, log) = (case.config(), Log::new());
        config.connections_per_address = Some(1);
        let server = case.tls_server(config, Recorder::new(&log), shared().1.server());
        let _first = connect(case, &server, "a", shared().0.trusting()).unwrap();
        match case.try_client(&server, "b", case.config(), Recorder::deaf()).map(drop) {
            Err(Error::Refused { code, .. }) => assert_eq!(code, RefusalCode::TlsRequired),
            // What a server says that closes at once may be lost over what the client has said.
            Err(Error::NotZerio { what: Reason::PeerClosed | Reason::Connection(_), .. }) => {}
            outcome => panic!("{outcome:?}"),
        }
        assert_eq!(log.wait_rejected(), Rejection::Refused(RefusalCode::TooManyFromAddress));

        for (alert, by_tls) in [([21, 3, 3, 0, 2, 2, 40], true), ([21, 3, 5, 0, 2, 2, 40], false)] {
            let stranger = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = stranger.local_addr().unwrap();
            let answers = std::thread::spawn(move || {
                let (mut stream, _) = stranger.accept().unwrap();
                stream.write_all(&alert).unwrap();
                // Until the client has gone.
                let _ = std::io::copy(&mut stream, &mut std::io::sink());
            });
            let client = Client::connect(address, "a").unwrap().config(case.config()).start().map(drop);
            match client {
                Err(Error::Refused { code: RefusalCode::TlsRequired, .. }) => assert!(by_tls, "{alert:?}"),
                Err(Error::NotZerio { what: Reason::BadAnswer, .. }) => assert!(!by_tls, "{alert:?}"),
                outcome => panic!("{outcome:?}"),
            }
            answers.join().unwrap();
        }
    }

    fn a_client_under_tls_hears_that_the_server_speaks_none(case) {
        let log = Log::new();
        let server = case.server(case.config(), Recorder::new(&log));
        assert_eq!(fault(connect(case, &server, "a", shared().0.trusting())), TlsFault::NotTls);
        assert_eq!(log.wait_rejected(), Rejection::Refused(RefusalCode::NoTls));
    }

    fn a_handshake_that_did_not_fit_into_the_buffer_waited_for_its_deadline(case) {
        let (mut config, log) = (case.config(), Log::new());
        (config.message_max, config.receive_buffer) = (1024, 1024 + 4 + 16_645);
        config.handshake_timeout = PATIENCE;
        let server = case.tls_server(config.clone(), Recorder::new(&log), strict());
        let identity = shared().0.signs(&["zerio:a", "zerio:b", "127.0.0.1"]);
        let chain = |bytes| identity.chain(bytes);
        let client_of = |bytes| {
            shared().0.trusting().certificate(chain(bytes).as_bytes(), identity.key.as_bytes()).unwrap()
        };
        drop(connect(case, &server, "a", client_of(12_000)).unwrap());
        let begun = Instant::now();
        assert!(connect(case, &server, "b", client_of(20_000)).is_err());
        assert_eq!(log.wait_rejected(), rejected(TlsFault::HandshakeTooLong));

        let server_of = |bytes| TlsServer::from_pem(chain(bytes).as_bytes(), identity.key.as_bytes()).unwrap();
        let connect_to = |tls| {
            let server = case.tls_server(case.config(), Recorder::deaf(), tls);
            case.try_tls_client(&server, "a", config.clone(), Recorder::deaf(), shared().0.trusting())
        };
        drop(connect_to(server_of(12_000)).unwrap());
        assert_eq!(fault(connect_to(server_of(20_000))), TlsFault::HandshakeTooLong);
        assert!(begun.elapsed() < PATIENCE, "it waited for the deadline");
    }

    fn an_id_is_what_the_certificate_says_and_no_other(case) {
        let (authority, log) = (&shared().0, Log::new());
        let server = case.tls_server(case.config(), Recorder::new(&log), strict());
        let identity = authority.signs(&["zerio:by-uri", "by.name"]);
        let (certificate, key) = (identity.certificate.as_bytes(), identity.key.as_bytes());
        let tls = || authority.trusting().certificate(certificate, key).unwrap();
        for id in ["by-uri", "by.name"] {
            drop(connect(case, &server, id, tls()).unwrap());
        }
        for id in ["another", "zerio:by-uri", "BY.NAME", "by"] {
            let outcome = connect(case, &server, id, tls()).map(drop);
            let refused = matches!(outcome, Err(Error::Refused { code: RefusalCode::NotInCertificate, .. }));
            assert!(refused, "{id}: {outcome:?}");
        }
        assert_eq!(log.events().iter().filter(|event| event.id() == Some("another")).count(), 0);
    }

    fn the_users_own_rule_stands_in_place_of_that(case) {
        let authority = &shared().0;
        let tls = strict().identify(|certificate, id| {
            certificate.dns_names().iter().any(|name| id.strip_prefix(name.as_str()) == Some("/1"))
        });
        let server = case.tls_server(case.config(), Recorder::deaf(), tls);
        let identity = authority.signs(&["team.example"]);
        let (certificate, key) = (identity.certificate.as_bytes(), identity.key.as_bytes());
        let tls = || authority.trusting().certificate(certificate, key).unwrap();
        drop(connect(case, &server, "team.example/1", tls()).unwrap());
        assert!(connect(case, &server, "team.example", tls()).is_err());
    }

    fn a_rule_for_certificates_let_in_who_showed_none(case) {
        let (authority, identity) = shared();
        let with_rule = |tls: TlsServer| tls.identify(|_, _| true);
        let config = case.config();
        let bound = Server::bind("127.0.0.1:0").unwrap().config(config).tls(with_rule(identity.server()));
        match bound.start_polled().map(drop) {
            Err(Error::Credentials { why, .. }) => assert!(why.contains("require_client_certificates"), "{why}"),
            outcome => panic!("{outcome:?}"),
        }
        // Where a reload brings it, nobody is let in either.
        let tls = identity.server();
        let server = case.tls_server(case.config(), Recorder::deaf(), tls.clone());
        drop(connect(case, &server, "a", authority.trusting()).unwrap());
        tls.reload(with_rule(identity.server()));
        let outcome = connect(case, &server, "a", authority.trusting()).map(drop);
        assert!(matches!(outcome, Err(Error::Refused { code: RefusalCode::NotInCertificate, .. })), "{outcome:?}");
    }

    fn who_admits_sees_the_certificate_and_only_one_that_allows_the_id(case) {
        let authority = &shared().0;
        let identity = authority.signs(&["zerio:a", "zerio:b"]);
        let (certificate, key) = (identity.certificate.as_bytes(), identity.key.as_bytes());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (sees, trusted) = (seen.clone(), identity.fingerprint());
        let server = Server::bind("127.0.0.1:0").unwrap().config(case.config()).tls(strict());
        let server = server
            .admit(move |arrival| {
                let shown = arrival.certificate().expect("one is required");
                assert_eq!(shown.uri_names(), ["zerio:a", "zerio:b"]);
                sees.lock().unwrap().push(arrival.id().to_owned());
                if shown.fingerprint() == trusted && arrival.id() == "a" { Ok(()) } else { Err("not you".into()) }
            })
            .start()
            .unwrap();
        let connect = |id: &str| {
            let tls = authority.trusting().certificate(certificate, key).unwrap();
            Client::connect(server.local_addr(), id).unwrap().config(case.config()).tls(tls).start().map(drop)
        };
        connect("a").unwrap();
        let refused = connect("b");
        let not_you = |text: &str| text == "not you";
        assert!(
            matches!(&refused, Err(Error::Refused { code: RefusalCode::NotAllowed, text, .. }) if not_you(text)),
            "{refused:?}"
        );
        let refused = connect("c");
        assert!(matches!(refused, Err(Error::Refused { code: RefusalCode::NotInCertificate, .. })), "{refused:?}");
        assert_eq!(*seen.lock().unwrap(), ["a", "b"]);
    }

    fn who_is_over_a_limit_is_turned_away_by_an_alert(case) {
        let (mut config, log) = (case.config(), Log::new());
        config.connections_per_address = Some(1);
        let server = case.tls_server(config, Recorder::new(&log), shared().1.server());
        let _first = connect(case, &server, "a", shared().0.trusting()).unwrap();
        match connect(case, &server, "b", shared().0.trusting()).map(drop) {
            Err(Error::Tls { what, .. }) => assert_eq!(what, TlsFault::Alert(Alert(49))),
            // What a server says that closes at once may be lost over what the client has said.
            outcome => assert!(outcome.is_err(), "it was let in"),
        }
        assert_eq!(log.wait_rejected(), Rejection::Refused(RefusalCode::TooManyFromAddress));
    }

    fn who_finds_a_server_full_hears_so_under_tls(case) {
        let (mut config, log) = (case.config(), Log::new());
        config.sessions_max = 1;
        let server = case.tls_server(config, Recorder::new(&log), shared().1.server());
        let _first = connect(case, &server, "a", shared().0.trusting()).unwrap();
        let second = connect(case, &server, "b", shared().0.trusting()).map(drop);
        assert!(matches!(second, Err(Error::Refused { code: RefusalCode::ServerFull, .. })), "{second:?}");
        assert_eq!(log.wait_rejected(), Rejection::Refused(RefusalCode::ServerFull));
    }

    fn a_pinned_key_is_trusted_whoever_signed_it_and_no_other_key(case) {
        let (one, two) = (self_signed(&["one"]), self_signed(&["two"]));
        let server = case.tls_server(case.config(), Recorder::deaf(), one.server());
        let tls = TlsClient::with_pinned_keys(&[pin(&two), pin(&one)]).unwrap();
        drop(connect(case, &server, "a", tls).unwrap());
        let tls = TlsClient::with_pinned_keys(&[pin(&two)]).unwrap();
        assert_eq!(fault(connect(case, &server, "a", tls)), certificate(CertificateFault::NotPinned));
    }

    fn where_there_are_roots_and_pins_both_must_agree(case) {
        let (authority, identity) = shared();
        let (right, wrong) = (pin(identity), pin(&self_signed(&["127.0.0.1"])));
        let server = serve(case, &Log::new());
        let try_with = |roots: TlsClient, key| connect(case, &server, "a", roots.and_pinned_keys(&[key]).unwrap());
        drop(try_with(authority.trusting(), right).unwrap());
        let not_pinned = fault(try_with(authority.trusting(), wrong));
        assert_eq!(not_pinned, certificate(CertificateFault::NotPinned));
        let stranger = fault(try_with(Authority::new("another authority").trusting(), right));
        assert_eq!(stranger, certificate(CertificateFault::UnknownAuthority));
    }

    fn a_ticket_is_worth_nothing_after_a_reload(case) {
        let tls = shared().1.server();
        let server = case.tls_server(case.config(), Recorder::echo(), tls.clone());
        let config = tls_peer::showing(&shared().0.signs(&["zerio:a"]));
        let come = |id: &str| {
            let peer = tls_peer::Peer::connect_with(config.clone(), &server, id);
            peer.tls.handshake_kind()
        };
        assert_eq!(come("a"), Some(HandshakeKind::Full));
        assert_eq!(come("b"), Some(HandshakeKind::Resumed));
        tls.reload(shared().1.server());
        assert_eq!(come("c"), Some(HandshakeKind::Full));
    }

    fn a_certificate_that_was_shown_once_did_for_ever_by_tickets(case) {
        let client = shared().0.signs(&["zerio:a", "zerio:b"]);
        for (tls, resumed) in [(shared().1.server(), true), (strict(), false)] {
            let server = case.tls_server(case.config(), Recorder::echo(), tls);
            let config = tls_peer::showing(&client);
            drop(tls_peer::Peer::connect_with(config.clone(), &server, "a"));
            let again = tls_peer::Peer::connect_with(config, &server, "b");
            assert_eq!(again.tls.handshake_kind() == Some(HandshakeKind::Resumed), resumed);
        }
    }

    fn a_client_comes_again_by_the_ticket_of_a_server_that_is_not_ours(case) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let serving = std::thread::spawn(move || {
            let config = tls_peer::giving(1);
            [(); 2].map(|()| {
                let (mut socket, _) = listener.accept().unwrap();
                socket.set_read_timeout(Some(PATIENCE)).unwrap();
                let mut tls = ServerConnection::new(config.clone()).unwrap();
                let mut stream = rustls::Stream::new(&mut tls, &mut socket);
                stream.read_exact(&mut [0; 5]).unwrap();
                stream.write_all(&[frame(b"a"), frame(b"oui")].concat()).unwrap();
                // Until it has left.
                while stream.read(&mut [0; 64]).is_ok_and(|read| read > 0) {}
                tls.handshake_kind().unwrap()
            })
        });
        let tls = shared().0.trusting();
        for _ in 0..2 {
            let log = Log::new();
            let client =
                case.try_tls_client_at(address, "a", case.config(), Recorder::new(&log), tls.clone()).unwrap();
            // The ticket is before it.
            log.wait_messages("a", 1);
            client.stop();
        }
        assert_eq!(serving.join().unwrap(), [HandshakeKind::Full, HandshakeKind::Resumed]);
    }

    fn who_shook_hands_before_certificates_were_required_was_let_in_without_one(case) {
        let (log, tls) = (Log::new(), shared().1.server());
        let server = case.tls_server(case.config(), Recorder::new(&log), tls.clone());
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let mut shaken = ClientConnection::new(tls_peer::trusting(), name).unwrap();
        let mut socket = TcpStream::connect(server.address()).unwrap();
        while shaken.is_handshaking() {
            shaken.complete_io(&mut socket).unwrap();
        }
        tls.reload(strict());
        rustls::Stream::new(&mut shaken, &mut socket).write_all(&frame(b"a")).unwrap();
        assert_eq!(log.wait_rejected(), Rejection::Refused(RefusalCode::NotInCertificate));
    }

    fn a_server_that_leaves_during_the_handshake_was_waited_for(case) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let leaves = std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            let _ = socket.read(&mut [0; 4096]);
        });
        let begun = Instant::now();
        let outcome = case.try_tls_client_at(address, "a", case.config(), Recorder::deaf(), shared().0.trusting());
        assert!(outcome.is_err());
        leaves.join().unwrap();
        assert!(begun.elapsed() < PATIENCE / 2, "for as long as an end may take");
    }

    fn a_name_has_its_own_certificate_and_a_new_one_is_taken_without_a_restart(case) {
        let (authority, other) = (&shared().0, Authority::new("another authority"));
        let (first, second) = (authority.signs(&["one.example"]), authority.signs(&["two.example"]));
        let tls = first.server();
        let tls = tls.and_for_name("two.example", second.certificate.as_bytes(), second.key.as_bytes()).unwrap();
        let server = case.tls_server(case.config(), Recorder::echo(), tls.clone());
        let asking = |authority: &Authority, name: &str| authority.trusting().server_name(name).unwrap();
        let stays = connect(case, &server, "stays", asking(authority, "one.example")).unwrap();
        drop(connect(case, &server, "a", asking(authority, "two.example")).unwrap());
        let three = asking(authority, "three.example");
        assert_eq!(fault(connect(case, &server, "a", three)), certificate(CertificateFault::WrongName));
        tls.reload(other.signs(&["one.example"]).server());
        drop(connect(case, &server, "b", asking(&other, "one.example")).unwrap());
        let old = fault(connect(case, &server, "b", asking(authority, "one.example")));
        assert_eq!(old, certificate(CertificateFault::UnknownAuthority));
        assert!(stays.is_connected());
        stays.peer().send(b"still here").unwrap();
    }
}

#[test]
fn the_settings_show_no_key_and_say_what_is_wrong_with_files() {
    let (authority, identity) = shared();
    let secret = identity.key.lines().nth(1).unwrap();
    let (certificate, key) = (identity.certificate.as_bytes(), identity.key.as_bytes());
    let client = authority.trusting().certificate(certificate, key).unwrap();
    let shown = format!("{:?} {:?} {:?}", identity.server(), strict(), client);
    assert!(!shown.contains(secret) && shown.len() < 400, "{shown}");
    let wrong = TlsServer::from_pem(certificate, b"no key").unwrap_err();
    assert!(matches!(wrong, Error::Credentials { .. }), "{wrong}");
    let other = self_signed(&["a"]);
    assert!(TlsServer::from_pem(certificate, other.key.as_bytes()).is_err(), "they do not belong together");
    let section =
        |label: &str, body: &str| format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n");
    for encrypted in [
        section("ENCRYPTED PRIVATE KEY", secret),
        section("RSA PRIVATE KEY", &format!("Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\n{secret}")),
    ] {
        let told = TlsServer::from_pem(certificate, encrypted.as_bytes()).unwrap_err().to_string();
        assert!(told.contains("encrypted") && told.contains("openssl pkey"), "{told}");
    }
    for (name, is_one) in [("two.example", true), ("*.example", false), ("127.0.0.1", false), ("", false)] {
        let named = identity.server().and_for_name(name, certificate, key).map(drop);
        assert_eq!(named.is_ok(), is_one, "{name:?}: {named:?}");
    }
    let missing = TlsClient::with_roots_file("/nonexistent/ca.pem").unwrap_err().to_string();
    assert!(missing.contains("/nonexistent/ca.pem"), "{missing}");
}

#[test]
fn the_bill_counts_what_tls_takes_and_asks_for_room_for_a_record() {
    let mut config = Config::default();
    let plain = config.memory().unwrap();
    config.tls = true;
    let sealed = config.memory().unwrap();
    assert_eq!((plain.sealed, plain.total() + sealed.sealed), (0, sealed.total()));
    assert!(sealed.sealed >= sealed.slots * 65_536);
    config.receive_buffer = config.message_max + 4 + 16_645;
    config.memory().unwrap();
    config.receive_buffer -= 1;
    assert_eq!(config.memory().unwrap_err().setting, "receive_buffer");
    // A peer's first frame may be longer than its messages.
    (config.message_max, config.receive_buffer) = (1, 1024 + 4 + 16_645);
    config.memory().unwrap();
    config.receive_buffer -= 1;
    assert_eq!(config.memory().unwrap_err().setting, "receive_buffer");
    let without = Client::connect("127.0.0.1:1", "a").unwrap().config({
        let mut config = Config::default();
        config.tls = true;
        config
    });
    assert!(matches!(without.start_polled(), Err(Error::Config(_))), "nobody to trust");
}
