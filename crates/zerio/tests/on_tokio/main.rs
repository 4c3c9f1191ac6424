//! Clients and servers on tokio, over runtimes of both kinds, with engines as tasks and on threads of their own: events
//! in order, back-pressure both ways, futures that are dropped at each point at which they wait, and runtimes that lack
//! something or end.
#![forbid(unsafe_code)]

#[path = "../common/mod.rs"]
mod common;

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Mutex;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use common::certs::shared;
use common::{Case, Drive, PATIENCE, is_here};
use futures_util::{Sink, SinkExt, Stream, StreamExt};
use tokio::runtime::{Builder, Runtime};
use zerio::tokio::{Client, Event, Peer, Server};
use zerio::{Config, DriverKind, EngineFailure, Error, Reason, RefusalCode, SendError};

fn on_one_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn on_threads() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn run<T: Future<Output = ()>>(runtime: Runtime, driver: DriverKind, test: impl FnOnce(Case) -> T) {
    if !is_here(driver) {
        return;
    }
    let test = test(Case { driver, drive: Drive::Thread });
    runtime.block_on(async { tokio::time::timeout(PATIENCE, test).await }).expect("it comes to an end");
    assert_eq!(zerio::rio_model::violations(), Vec::<String>::new());
}

/// Makes of each function four tests.
macro_rules! ways {
    ($(fn $name:ident($case:ident) $body:block)*) => {$(
        mod $name {
            use super::*;

            async fn body($case: Case) $body

            #[test]
            fn as_a_task_on_one_thread() {
                run(on_one_thread(), DriverKind::Poll, body);
            }

            #[test]
            fn as_a_task_on_several_threads() {
                run(on_threads(), DriverKind::Poll, body);
            }

            #[test]
            fn with_a_thread_for_uring() {
                run(on_one_thread(), DriverKind::Uring, body);
            }

            #[test]
            fn with_a_thread_for_rio() {
                run(on_threads(), DriverKind::RioModel, body);
            }
        }
    )*};
}

mod dropped;
mod waits;

fn serve(config: Config) -> Server {
    zerio::Server::bind("127.0.0.1:0").unwrap().config(config).start_tokio().unwrap()
}

async fn connect(server: &Server, id: &str, config: Config) -> Result<Client, Error> {
    zerio::Client::connect(server.local_addr(), id).unwrap().config(config).start_tokio().await
}

async fn connected(server: &mut Server) -> Peer {
    match server.next().await {
        Some(Event::Connected(peer)) => peer,
        other => panic!("nobody comes, but {other:?}"),
    }
}

async fn message(server: &mut Server) -> (Peer, Bytes) {
    match server.next().await {
        Some(Event::Message(peer, message)) => (peer, message),
        other => panic!("no message, but {other:?}"),
    }
}

async fn disconnected(server: &mut Server) -> (Peer, Reason) {
    match server.next().await {
        Some(Event::Disconnected(peer, why)) => (peer, why.reason),
        other => panic!("nobody leaves, but {other:?}"),
    }
}

/// The message of this number, of a kilobyte.
fn numbered(number: usize) -> Bytes {
    format!("{number:0>1000}").into()
}

/// Sends until nothing more fits anywhere: neither the ring, nor the kernel, nor the queue of who does not read.
async fn fill(peer: &Peer) {
    let mut full = 0;
    while full < 50 {
        match peer.try_send(&numbered(0)) {
            Ok(()) => full = 0,
            Err(SendError::Full) => {
                full += 1;
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

ways! {
    fn a_session_is_connected_then_messages_then_disconnected(case) {
        let mut server = serve(case.config());
        let mut client = connect(&server, "a", case.config()).await.unwrap();
        let peer = connected(&mut server).await;
        assert_eq!(peer.id(), "a");
        client.send(b"oui").await.unwrap();
        client.send(b"").await.unwrap();
        SinkExt::send(&mut client, "quoi".into()).await.unwrap();
        for expected in ["oui", "", "quoi"] {
            let (from, message) = message(&mut server).await;
            assert_eq!((from.id(), message), ("a", Bytes::from(expected)));
            from.send(expected.as_bytes()).await.unwrap();
        }
        for expected in ["oui", "", "quoi"] {
            assert_eq!(client.next().await.unwrap(), expected);
        }
        server.send("a", b"by its id").await.unwrap();
        assert_eq!(client.next().await.unwrap(), "by its id");
        assert_eq!(server.send("b", b"").await, Err(SendError::UnknownPeer));
        let report = client.stop().await;
        assert_eq!((report.delivered, report.undelivered.messages, report.finished), (3, 0, true));
        assert_eq!(disconnected(&mut server).await.1, Reason::PeerClosed);
        assert_eq!(peer.try_send(b"late"), Err(SendError::Closed));
        assert_eq!(server.stop().await.delivered, 4);
    }

    fn a_client_hears_why_its_session_has_ended(case) {
        let mut server = serve(case.config());
        let mut client = connect(&server, "a", case.config()).await.unwrap();
        let peer = connected(&mut server).await;
        peer.send(b"last").await.unwrap();
        let report = tokio::spawn(server.stop());
        assert_eq!(client.next().await.unwrap(), "last");
        assert!(client.next().await.is_none());
        assert_eq!(client.ended().unwrap().reason, Reason::PeerClosed);
        assert!(client.next().await.is_none(), "and it stays so");
        assert_eq!(client.send(b"late").await, Err(SendError::Closed));
        assert_eq!(report.await.unwrap().delivered, 1);
    }

    fn who_does_not_read_holds_up_who_sends_and_loses_nothing(case) {
        const COUNT: usize = 2000;
        let mut server = serve(case.tight());
        let client = connect(&server, "a", case.tight()).await.unwrap();
        connected(&mut server).await;
        let peer = client.peer();
        let sending = tokio::spawn(async move {
            for number in 0..COUNT {
                peer.send(&numbered(number)).await.unwrap();
            }
        });
        // Two megabytes do not fit what lies between.
        while client.session_counters().sent.full_rings == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!(!sending.is_finished());
        for number in 0..COUNT {
            assert_eq!(message(&mut server).await.1, numbered(number));
        }
        sending.await.unwrap();
        // The same the other way, by a sink.
        let mut peer = server.peer("a").unwrap();
        let sending = tokio::spawn(async move {
            for number in 0..COUNT {
                peer.feed(numbered(number)).await.unwrap();
            }
            peer.flush().await.unwrap();
            peer
        });
        let mut client = client;
        for number in 0..COUNT {
            assert_eq!(client.next().await.unwrap(), numbered(number));
        }
        let mut peer = sending.await.unwrap();
        peer.close().await.unwrap();
        assert!(client.next().await.is_none());
        assert_eq!(disconnected(&mut server).await.1, Reason::Disconnected);
    }

    fn while_nobody_reads_nobody_is_let_in(case) {
        let mut server = serve(case.tight());
        let client = connect(&server, "a", case.tight()).await.unwrap();
        let peer = client.peer();
        let sending = tokio::spawn(async move { while peer.send(&numbered(0)).await.is_ok() {} });
        loop {
            match connect(&server, "b", case.tight()).await {
                // What the client sends has not come yet; or the one before has not left.
                Ok(_) | Err(Error::Refused { code: RefusalCode::AlreadyConnected, .. }) => {}
                Err(Error::Refused { code: RefusalCode::NotAllowed, text, .. }) => {
                    break assert!(text.contains("does not keep up"), "{text}");
                }
                Err(error) => panic!("{error}"),
            }
        }
        drop(client);
        sending.await.unwrap();
        // Whoever reads makes room.
        while !matches!(server.next().await, Some(Event::Disconnected(peer, _)) if peer.id() == "a") {}
        connect(&server, "c", case.tight()).await.unwrap();
    }

    fn several_engines_share_one_stream(case) {
        let mut config = case.config();
        config.engines = 2;
        let mut server = serve(config);
        let mut clients = Vec::new();
        for number in 0..8 {
            clients.push(connect(&server, &number.to_string(), case.config()).await.unwrap());
        }
        for client in &clients {
            client.send(b"oui").await.unwrap();
        }
        let mut left = clients.len();
        while left > 0 {
            if let Event::Message(peer, message) = server.next().await.unwrap() {
                peer.send(&message).await.unwrap();
                left -= 1;
            }
        }
        for client in &mut clients {
            assert_eq!(client.next().await.unwrap(), "oui");
        }
        assert_eq!(server.sender().peers().len(), 8);
        assert!(server.stop().await.finished);
    }

    fn who_is_not_admitted_hears_why(case) {
        let bound = zerio::Server::bind("127.0.0.1:0").unwrap().config(case.config());
        let server = bound.admit(|arrival| match arrival.id() {
            "a" => Ok(()),
            _ => Err("not on the list".into()),
        });
        let server = server.start_tokio().unwrap();
        connect(&server, "a", case.config()).await.unwrap();
        match connect(&server, "b", case.config()).await {
            Err(Error::Refused { code: RefusalCode::NotAllowed, text, .. }) => assert_eq!(text, "not on the list"),
            other => panic!("{other:?}"),
        }
    }

    fn a_panic_in_admit_ends_the_stream_and_stands_in_the_report(case) {
        let bound = zerio::Server::bind("127.0.0.1:0").unwrap().config(case.config());
        let bound = bound.admit(|arrival| if arrival.id() == "b" { panic!("on purpose") } else { Ok(()) });
        let mut server = bound.start_tokio().unwrap();
        let mut client = connect(&server, "a", case.config()).await.unwrap();
        connected(&mut server).await;
        assert!(connect(&server, "b", case.config()).await.is_err());
        assert!(client.next().await.is_none());
        match server.next().await {
            Some(Event::EngineFailed { peers, .. }) => {
                assert_eq!(peers.iter().map(Peer::id).collect::<Vec<_>>(), ["a"]);
            }
            other => panic!("{other:?}"),
        }
        assert!(server.next().await.is_none());
        match server.stop().await.failure {
            Some(EngineFailure::HandlerPanicked(message)) => assert_eq!(message, "on purpose"),
            other => panic!("{other:?}"),
        }
    }

    fn under_tls_it_is_the_same(case) {
        let (authority, identity) = shared();
        let bound = zerio::Server::bind("127.0.0.1:0").unwrap().config(case.config());
        let mut server = bound.tls(identity.server()).start_tokio().unwrap();
        let client = zerio::Client::connect(server.local_addr(), "a").unwrap().config(case.config());
        let mut client = client.tls(authority.trusting()).start_tokio().await.unwrap();
        let peer = connected(&mut server).await;
        for number in 0..300 {
            client.send(&numbered(number)).await.unwrap();
            peer.send(&message(&mut server).await.1).await.unwrap();
            assert_eq!(client.next().await.unwrap(), numbered(number));
        }
        client.stop().await;
        assert_eq!(disconnected(&mut server).await.1, Reason::PeerClosed);
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_message_comes_to_its_task_on_the_thread_of_its_engine() {
    run(on_one_thread(), DriverKind::Auto, async |case: Case| {
        let here = std::thread::current().id();
        let bound = zerio::Server::bind("127.0.0.1:0").unwrap().config(case.config());
        let server = bound.admit(move |_| match std::thread::current().id() == here {
            true => Ok(()),
            false => Err("on another thread".into()),
        });
        let server = server.start_tokio().unwrap();
        assert_eq!(server.driver().name, "poll");
        connect(&server, "a", case.config()).await.unwrap();
    });
}

#[test]
fn a_runtime_that_ends_ends_its_sessions() {
    let elsewhere = zerio::Server::bind("127.0.0.1:0").unwrap().start().unwrap();
    let runtime = on_threads();
    let client = zerio::Client::connect(elsewhere.local_addr(), "a").unwrap();
    let client = runtime.block_on(client.start_tokio()).unwrap();
    client.try_send(b"oui").unwrap();
    let handle = client.peer().handle();
    drop(runtime);
    if cfg!(target_os = "linux") {
        assert_eq!(handle.try_send(b"late"), Err(SendError::Closed));
    }
    let report = on_one_thread().block_on(client.stop());
    assert_eq!(report.failure.is_some(), cfg!(target_os = "linux"));
    assert_eq!(handle.try_send(b"late"), Err(SendError::Closed));
}

#[test]
fn a_stop_outside_of_any_runtime_panicked_where_the_engine_has_a_thread() {
    let elsewhere = zerio::Server::bind("127.0.0.1:0").unwrap().start().unwrap();
    for driver in [DriverKind::Poll, DriverKind::Uring, DriverKind::RioModel] {
        if !is_here(driver) {
            continue;
        }
        let runtime = on_threads();
        let client = zerio::Client::connect(elsewhere.local_addr(), &format!("on {driver}")).unwrap();
        let mut config = Config::default();
        config.driver = driver;
        let client = runtime.block_on(client.config(config).start_tokio()).unwrap();
        drop(runtime);
        waits::alone(client.stop());
    }
}

#[test]
fn what_a_runtime_lacks_is_said() {
    let bind = || zerio::Server::bind("127.0.0.1:0").unwrap();
    let why = |outcome: Result<Server, Error>| match outcome {
        Err(Error::Runtime { why }) => why,
        other => panic!("{other:?}"),
    };
    assert!(why(bind().start_tokio()).contains("no runtime"));
    if cfg!(target_os = "linux") {
        for bare in [Builder::new_current_thread().enable_io().build(), Builder::new_current_thread().build()]
        {
            let server = bare.unwrap().block_on(async { bind().start_tokio() });
            assert!(why(server).contains("enable_all"));
        }
    }
    let settings: [fn(&mut Config); 2] =
        [|config| config.cores = vec![0], |config| config.priority = Some(1)];
    for set in settings {
        let mut config = Config::default();
        config.driver = DriverKind::Poll;
        set(&mut config);
        let outcome = on_one_thread().block_on(async { bind().config(config).start_tokio() });
        assert_eq!(matches!(outcome, Err(Error::Config(_))), cfg!(target_os = "linux"), "{outcome:?}");
    }
}

/// What a program may do with them: hand them to any task.
#[test]
fn all_of_it_goes_to_any_task() {
    fn goes<T: Send + Sync + 'static>() {}
    goes::<Client>();
    goes::<Server>();
    goes::<Peer>();
    goes::<zerio::tokio::Sender>();
    goes::<Event>();
    fn is_both<T: Stream<Item = Bytes> + Sink<Bytes, Error = SendError>>() {}
    is_both::<Client>();
    fn stops(server: Server) -> impl Future + Send {
        server.stop()
    }
    let _ = stops;
}
