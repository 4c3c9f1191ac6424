//! Stopping: what was accepted is handed to the kernel, up to the deadline, and what was not is told; however a
//! server or client ends, everybody hears of it and nobody hangs.
#![forbid(unsafe_code)]

mod common;

use std::io::ErrorKind;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::raw::{Raw, frame};
use common::{Log, PATIENCE, Recorder, drivers, eventually, matrix, texts};
use zerio::{Client, Error, Peer, Reason, Report, SendError, Server};

const SHORT: Duration = Duration::from_millis(300);

fn numbered(number: u64) -> Vec<u8> {
    let mut message = vec![number as u8; 8 + (number as usize * 31) % 500];
    message[..8].copy_from_slice(&number.to_le_bytes());
    message
}

/// Sends numbered messages until the ring stays full: how many messages and bytes were accepted.
fn fill(peer: &Peer) -> (u64, u64) {
    let (mut messages, mut bytes) = (0, 0);
    loop {
        let message = numbered(messages);
        match peer.send_timeout(&message, Duration::from_secs(1)) {
            Ok(()) => (messages, bytes) = (messages + 1, bytes + frame(&message).len() as u64),
            Err(error) => {
                assert_eq!(error, SendError::TimedOut);
                return (messages, bytes);
            }
        }
    }
}

matrix! {
    fn a_client_that_stops_hands_over_all_that_it_accepted(case) {
        let log = Log::new();
        let server = case.server(case.config(), Recorder::new(&log));
        let client = case.client(&server, "a", Recorder::deaf());
        let peer = client.peer();
        (0..1000).for_each(|number| peer.send(&numbered(number)).unwrap());
        let report = client.stop();
        let expected = Report::default();
        assert_eq!((report.delivered, &report.undelivered, &report.left), (1000, &expected.undelivered, &vec![]));
        assert_eq!(report.failure, None);
        assert_eq!(log.wait_disconnected("a").reason, Reason::PeerClosed);
        assert_eq!(texts(&log.events()).len(), 1000);
        assert_eq!(peer.try_send(b"x"), Err(SendError::Closed));
    }

    fn a_server_that_stops_hands_over_all_that_it_accepted(case) {
        let at_server = Log::new();
        let server = case.server(case.config(), Recorder::new(&at_server));
        let logs: Vec<Log> = (0..5).map(|_| Log::new()).collect();
        let client = |(number, log)| case.client(&server, &format!("{number}"), Recorder::new(log));
        let _clients: Vec<_> = logs.iter().enumerate().map(client).collect();
        let sender = server.sender();
        eventually("all are in", || sender.peers().len() == 5);
        for number in 0..500 {
            sender.peers().iter().for_each(|peer| peer.send(&numbered(number)).unwrap());
        }
        let report = server.stop();
        assert_eq!((report.delivered, report.undelivered.messages), (2500, 0));
        for (number, log) in logs.iter().enumerate() {
            let id = number.to_string();
            assert_eq!(log.wait_disconnected(&id).reason, Reason::PeerClosed);
            assert_eq!(texts(&log.events()).len(), 500);
            assert_eq!(at_server.wait_disconnected(&id).reason, Reason::Stopped);
        }
    }

    fn the_report_of_a_stop_is_exact_for_who_reads_and_who_does_not(case) {
        let log = Log::new();
        let mut config = case.tight();
        config.drain_timeout = SHORT;
        let server = case.server(config, Recorder::new(&log));
        let mut deaf = Raw::connect_small(server.address(), "deaf");
        let mut hears = Raw::connect(server.address(), "hears");
        let hears = std::thread::spawn(move || hears.rest());
        let sender = server.sender();
        for number in 0..100 {
            sender.send("hears", &numbered(number)).unwrap();
        }
        let (messages, bytes) = fill(&sender.peer("deaf").unwrap());
        let report = server.stop();
        let why = log.wait_disconnected("deaf");
        assert_eq!(why.reason, Reason::Stopped);
        let (end, (read, read_bytes)) = deaf.rest_and_how();
        let left = why.undelivered;
        assert!(left.messages > 0);
        let told = (read.len() as u64 + left.messages, read_bytes as u64 + left.bytes);
        if case.takes_sends_whole() {
            // How much of a cancelled send was taken nobody tells: all of it counts as left. It is cancelled by a reset,
            // and what was not read before that is lost.
            assert!(end.is_ok() || end.is_err_and(|why| why.kind() == ErrorKind::ConnectionReset));
            assert!(read.len() as u64 <= messages && read_bytes as u64 <= bytes);
            assert_eq!(report.delivered, 100 + messages - left.messages);
        } else {
            end.unwrap();
            assert_eq!(told, (messages, bytes));
            assert_eq!(report.delivered, 100 + read.len() as u64);
        }
        let (heard, _) = hears.join().unwrap();
        assert_eq!(heard.len(), 100);
        assert_eq!(report.undelivered, left);
        let of_whom = |(id, left): &(zerio::PeerId, _)| (id.to_string(), *left);
        assert_eq!(report.left.iter().map(of_whom).collect::<Vec<_>>(), [("deaf".to_owned(), left)]);
        assert!(report.to_string().contains(&format!("deaf: {left}")), "{report}");
    }

    fn a_stop_waits_for_a_peer_that_reads_within_the_deadline(case) {
        // The counterpart of the above: the same peer, but it begins to read while the stop waits.
        let server = case.server(case.tight(), Recorder::deaf());
        let mut raw = Raw::connect_small(server.address(), "late");
        let (messages, _) = fill(&server.sender().peer("late").unwrap());
        let stop = std::thread::spawn(move || server.stop());
        std::thread::sleep(SHORT);
        assert_eq!(raw.rest().0.len() as u64, messages);
        drop(raw);
        let report = stop.join().unwrap();
        assert_eq!((report.delivered, report.undelivered.messages, report.left), (messages, 0, vec![]));
    }

    fn dropping_a_client_ends_it_in_order(case) {
        let log = Log::new();
        let server = case.server(case.config(), Recorder::new(&log));
        let client = case.client(&server, "a", Recorder::deaf());
        let peer = client.peer();
        (0..1000).for_each(|number| peer.send(&numbered(number)).unwrap());
        drop(client);
        assert_eq!(log.wait_disconnected("a").reason, Reason::PeerClosed);
        assert_eq!(texts(&log.events()).len(), 1000);
        assert_eq!(peer.try_send(b"x"), Err(SendError::Closed));
    }

    fn dropping_a_server_ends_it_in_order(case) {
        let (at_server, at_client) = (Log::new(), Log::new());
        let server = case.server(case.config(), Recorder::new(&at_server));
        let client = case.client(&server, "a", Recorder::new(&at_client));
        at_server.wait_connected("a");
        let (sender, address) = (server.sender(), server.address());
        (0..1000).for_each(|number| sender.send("a", &numbered(number)).unwrap());
        drop(server);
        assert_eq!(at_client.wait_disconnected("a").reason, Reason::PeerClosed);
        assert_eq!(texts(&at_client.events()).len(), 1000);
        assert_eq!(sender.try_send("a", b"x"), Err(SendError::Closed));
        eventually("the client knows", || !client.is_connected());
        let again = Client::connect(address, "b").unwrap().config(case.config()).start();
        assert!(matches!(again.map(drop), Err(Error::Connect { .. })), "nobody listens any more");
    }

    fn who_waits_to_send_hears_of_a_stop_at_once(case) {
        let log = Log::new();
        let server = case.server(case.tight(), Recorder::new(&log));
        let raw = Raw::connect_small(server.address(), "deaf");
        let peer = server.sender().peer("deaf").unwrap();
        fill(&peer);
        let (tell, told) = channel();
        for _ in 0..3 {
            let (peer, tell) = (peer.clone(), tell.clone());
            let hour = Duration::from_secs(3600);
            std::thread::spawn(move || tell.send(peer.send_timeout(&[0; 1000], hour)));
        }
        assert!(told.recv_timeout(SHORT).is_err(), "they wait");
        let stop = std::thread::spawn(move || server.stop());
        for _ in 0..3 {
            assert_eq!(told.recv_timeout(PATIENCE / 2).unwrap(), Err(SendError::Closed));
        }
        assert!(!stop.is_finished(), "they did not have to wait until it was drained");
        drop(raw);
        assert!(stop.join().unwrap().undelivered.messages > 0);
    }

    fn a_server_stops_while_its_clients_send(case) {
        let log = Log::new();
        let server = case.server(case.config(), Recorder::new(&log));
        let logs: Vec<Log> = (0..4).map(|_| Log::new()).collect();
        let client = |(number, log)| case.client(&server, &format!("{number}"), Recorder::new(log));
        let clients: Vec<_> = logs.iter().enumerate().map(client).collect();
        let peers: Vec<Peer> = clients.iter().map(|client| client.peer()).collect();
        let accepted: Vec<u64> = std::thread::scope(|scope| {
            let send = |peer: &Peer| {
                let mut number = 0;
                while peer.send(&numbered(number)).is_ok() {
                    number += 1;
                }
                number
            };
            let threads: Vec<_> = peers.iter().map(|peer| scope.spawn(move || send(peer))).collect();
            (0..4).for_each(|number| log.wait_messages(&number.to_string(), 100));
            server.stop();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        for (number, client) in clients.into_iter().enumerate() {
            let id = number.to_string();
            let why = logs[number].wait_disconnected(&id);
            let report = client.stop();
            assert_eq!(report.delivered + report.undelivered.messages, accepted[number]);
            assert_eq!(report.undelivered, why.undelivered);
            assert_eq!(log.wait_disconnected(&id).reason, Reason::Stopped);
            let heard = log.of(&id);
            let heard: Vec<_> = heard.iter().filter_map(|event| match event {
                common::Event::Message { bytes, .. } => Some(bytes),
                _ => None,
            }).collect();
            assert!(heard.len() as u64 <= accepted[number]);
            for (number, message) in heard.iter().enumerate() {
                assert_eq!(**message, numbered(number as u64));
            }
        }
    }

    fn a_stop_finds_clients_in_the_middle_of_their_handshake(case) {
        let log = Log::new();
        let server = case.server(case.config(), Recorder::new(&log));
        // One sends nothing, one half of its id.
        let silent = std::net::TcpStream::connect(server.address()).unwrap();
        let mut half = std::net::TcpStream::connect(server.address()).unwrap();
        std::io::Write::write_all(&mut half, &[9, 0, 0, 0, b'h']).unwrap();
        let _in = Raw::connect(server.address(), "in");
        let stop = std::thread::spawn(move || server.stop());
        for socket in [silent, half] {
            let mut raw = Raw(socket);
            let refusal = raw.receive().unwrap();
            assert_eq!((refusal[0], refusal[1]), (0, 7), "refused, because it is stopping");
            assert_eq!(raw.receive(), None);
        }
        drop(_in);
        assert_eq!(stop.join().unwrap().delivered, 0);
    }

    fn a_port_can_be_listened_on_again_after_a_stop(case) {
        let first = case.server(case.config(), Recorder::deaf());
        let address = first.address();
        let client = case.client(&first, "a", Recorder::deaf());
        first.stop();
        drop(client);
        let second = Server::bind(address).unwrap().config(case.config()).start().unwrap();
        let client = Client::connect(address, "a").unwrap().config(case.config()).start().unwrap();
        client.send(b"x").unwrap();
        assert_eq!(client.stop().delivered, 1);
        second.stop();
    }
}

drivers! {
    fn a_server_can_be_stopped_by_its_own_handler(case) {
        let log = Log::new();
        let held: Arc<Mutex<Option<Server>>> = Arc::default();
        let in_handler = held.clone();
        let recorder = Recorder::new(&log).on_message(move |_, _| {
            let server = in_handler.lock().unwrap().take();
            let report = server.map(Server::stop).expect("stopped once");
            assert_eq!(report.left, [], "it can't wait, and so has nothing to tell");
        });
        let server = Server::bind("127.0.0.1:0").unwrap().config(case.config()).handler(recorder);
        let server = server.start().unwrap();
        let address = server.local_addr();
        *held.lock().unwrap() = Some(server);
        let mut raw = Raw::connect(address, "a");
        raw.send(b"stop");
        assert_eq!(raw.receive(), None);
        drop(raw);
        assert_eq!(log.wait_disconnected("a").reason, Reason::Stopped);
        eventually("nobody listens", || std::net::TcpStream::connect(address).is_err());
    }

    fn a_client_can_be_stopped_or_dropped_by_its_own_handler(case) {
        for stop in [true, false] {
            let (at_server, log) = (Log::new(), Log::new());
            let server = Server::bind("127.0.0.1:0").unwrap().config(case.config());
            let server = server.handler(Recorder::new(&at_server)).start().unwrap();
            let held: Arc<Mutex<Option<Client>>> = Arc::default();
            let in_handler = held.clone();
            let recorder = Recorder::new(&log).on_message(move |peer, _| {
                peer.send(b"farewell").unwrap();
                let client = in_handler.lock().unwrap().take().expect("stopped once");
                if stop {
                    client.stop();
                }
            });
            let client = Client::connect(server.local_addr(), "a").unwrap().config(case.config());
            *held.lock().unwrap() = Some(client.handler(recorder).start().unwrap());
            at_server.wait_connected("a");
            server.send("a", b"stop").unwrap();
            assert_eq!(log.wait_disconnected("a").reason, Reason::Stopped);
            assert_eq!(at_server.wait_disconnected("a").reason, Reason::PeerClosed);
            assert_eq!(texts(&at_server.events()), ["farewell"]);
        }
    }
}
