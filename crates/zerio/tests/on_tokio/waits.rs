//! What waits: deadlines that pass while nothing else happens, tasks that give up, and turns that others are to have.
#![forbid(unsafe_code)]

use std::pin::pin;
use std::sync::Arc;
use std::task::Wake;
use std::thread::{self, Thread};

use common::addresses::{Hole, Several};
use common::raw::Raw;

use super::*;

/// Wakes a thread that is parked.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs a future without any runtime.
pub fn alone<F: Future>(future: F) -> F::Output {
    let waker = Arc::new(Unpark(thread::current())).into();
    let (mut future, mut task) = (pin!(future), Context::from_waker(&waker));
    loop {
        match future.as_mut().poll(&mut task) {
            Poll::Ready(value) => return value,
            Poll::Pending => thread::park_timeout(PATIENCE),
        }
    }
}

/// What comes within half of the time for which an engine sleeps if nothing happens.
async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE / 2, future).await.expect("nobody had to wait for a minute")
}

ways! {
    fn a_peer_that_does_not_close_held_up_the_end_of_its_session(case) {
        let mut config = case.config();
        (config.drain_timeout, config.peer_timeout) = (Duration::from_millis(100), Duration::from_secs(3600));
        let mut server = serve(config);
        let address = server.local_addr();
        let raw = tokio::task::spawn_blocking(move || Raw::connect(address, "a"));
        let (peer, raw) = (connected(&mut server).await, raw.await.unwrap());
        peer.disconnect().unwrap();
        assert_eq!(soon(disconnected(&mut server)).await.1, Reason::Disconnected);
        drop(raw);
    }

    fn an_address_that_does_not_answer_took_the_time_of_all_others(case) {
        let server = serve(case.config());
        let hole = tokio::task::spawn_blocking(Hole::new).await.unwrap();
        let mut config = case.config();
        config.handshake_timeout = Duration::from_secs(20);
        let addresses = Several(vec![hole.address, server.local_addr()]);
        let client = zerio::Client::connect(addresses, "a").unwrap();
        let client = client.config(config).start_tokio().await.unwrap();
        assert_eq!(client.address(), server.local_addr());
    }

    fn a_send_that_was_given_up_left_its_waker_behind(case) {
        let mut server = serve(case.tight());
        let client = connect(&server, "a", case.tight()).await.unwrap();
        connected(&mut server).await;
        let mut peer = client.peer();
        fill(&peer).await;
        // Whoever it wakes, what counts is how often it is kept.
        let nobody = Arc::new(Unpark(thread::current()));
        let waker = nobody.clone().into();
        let mut task = Context::from_waker(&waker);
        let mut given_up = 0;
        while given_up < 100 {
            match pin!(client.send(&numbered(0))).poll(&mut task) {
                Poll::Pending => given_up += 1,
                // There was some room after all.
                Poll::Ready(outcome) => {
                    outcome.unwrap();
                    fill(&peer).await;
                }
            }
        }
        assert_eq!(Arc::strong_count(&nobody), 2);
        let mut waited = 0;
        while waited < 2 {
            if waited == 0 {
                peer.start_send_unpin(numbered(1)).unwrap();
            }
            match Pin::new(&mut peer).poll_flush(&mut task) {
                Poll::Pending => {
                    assert_eq!(Arc::strong_count(&nobody), 3, "it stands there once");
                    waited += 1;
                }
                Poll::Ready(outcome) => {
                    outcome.unwrap();
                    fill(&peer).await;
                    waited = 0;
                }
            }
        }
        drop(peer);
        assert_eq!(Arc::strong_count(&nobody), 2);
        // Others that wait are still told.
        let sending = async { client.send(&numbered(2)).await.unwrap() };
        let reading = async { while message(&mut server).await.1 != numbered(2) {} };
        futures_util::future::join(sending, reading).await;
    }

    fn a_stream_that_always_had_something_kept_its_task_for_itself(case) {
        const COUNT: usize = 1000;
        let mut server = serve(case.config());
        let client = connect(&server, "a", case.config()).await.unwrap();
        connected(&mut server).await;
        // By itself, by id, and as a sink: none goes on for ever.
        let mut peer = client.peer();
        let by_id = poll_fn(|task| {
            let unpaused = |_: &usize| pin!(server.send("a", b"x")).poll(task).map(Result::unwrap).is_ready();
            Poll::Ready((0..COUNT).take_while(unpaused).count())
        });
        assert!(by_id.await < COUNT, "a thousand sends by id without a pause");
        let ready = poll_fn(|task| {
            let unpaused = |_: &usize| Pin::new(&mut peer).poll_ready(task).map(Result::unwrap).is_ready();
            Poll::Ready((0..COUNT).take_while(unpaused).count())
        });
        assert!(ready.await < COUNT, "a sink that is ready a thousand times without a pause");
        let sent = poll_fn(|task| {
            let unpaused = |_: &usize| pin!(client.send(b"x")).poll(task).map(Result::unwrap).is_ready();
            Poll::Ready((0..COUNT).take_while(unpaused).count())
        });
        let sent = sent.await;
        assert!(sent < COUNT, "a thousand sends without a pause");
        for _ in sent..COUNT {
            client.send(b"x").await.unwrap();
        }
        while server.counters().sessions.received.messages_received < COUNT as u64 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let given = poll_fn(|task| {
            let mut given = 0;
            while Pin::new(&mut server).poll_next(task).is_ready() {
                given += 1;
            }
            Poll::Ready(given)
        });
        let given = given.await;
        assert!(given < COUNT, "a thousand messages without a pause");
        for _ in given..COUNT {
            message(&mut server).await;
        }
    }

    fn the_end_of_one_of_several_engines_went_unnoticed(case) {
        let mut config = case.config();
        config.engines = 2;
        let bound = zerio::Server::bind("127.0.0.1:0").unwrap().config(config);
        let mut server = bound.admit(|_| panic!("on purpose")).start_tokio().unwrap();
        assert!(connect(&server, "a", case.config()).await.is_err());
        assert!(matches!(server.next().await, Some(Event::EngineFailed { .. })));
        assert!(matches!(server.stop().await.failure, Some(EngineFailure::HandlerPanicked(_))));
    }
}

/// Where the engine has a thread, it is none of the runtime's tasks.
#[test]
#[cfg(target_os = "linux")]
fn a_start_that_was_dropped_as_it_connected_went_on() {
    for runtime in [on_one_thread(), on_threads()] {
        run(runtime, DriverKind::Poll, async |case: Case| {
            let hole = tokio::task::spawn_blocking(Hole::new).await.unwrap();
            let tasks = tokio::runtime::Handle::current().metrics();
            let before = tasks.num_alive_tasks();
            let client = zerio::Client::connect(hole.address, "a").unwrap().config(case.config());
            assert!(tokio::time::timeout(Duration::from_millis(20), client.start_tokio()).await.is_err());
            soon(async {
                while tasks.num_alive_tasks() > before {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            })
            .await;
        });
    }
}
