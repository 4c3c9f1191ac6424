//! Futures that are dropped: at each point at which they wait, after each number of polls, those that nobody has asked for
//! included. Nothing is lost by it, and nothing happens twice.
#![forbid(unsafe_code)]

use std::cell::Cell;
use std::pin::pin;

use super::*;

/// A future is polled up to so many times before it is dropped.
const POLLS: usize = 4;

/// What a future gives, unless it is dropped after so many polls and one.
struct Given<F> {
    future: Pin<Box<F>>,
    polls: usize,
    /// Whether it is polled again though it did not ask for it, as a `select!` does.
    unasked: bool,
}

impl<F: Future> Future for Given<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Self::Output> {
        match self.future.as_mut().poll(task) {
            Poll::Ready(value) => Poll::Ready(Some(value)),
            Poll::Pending if self.polls == 0 => Poll::Ready(None),
            Poll::Pending => {
                self.polls -= 1;
                if self.unasked {
                    task.waker().wake_by_ref();
                }
                Poll::Pending
            }
        }
    }
}

fn given<F: Future>(polls: usize, future: F) -> Given<F> {
    Given { future: Box::pin(future), polls, unasked: false }
}

/// A future that nothing brings to an end does not come to one, however often it is polled before it is dropped.
async fn in_vain<F: Future>(what: &str, future: impl Fn() -> F) {
    for polls in 0..POLLS {
        let given = Given { unasked: true, ..given(polls, future()) };
        assert!(given.await.is_none(), "{what}, polled {} times", polls + 1);
    }
}

/// What the same future comes to, dropped at first each time that it waits, and then later and later.
async fn dropped_everywhere<T, F: Future<Output = T>>(future: impl Fn() -> F) -> T {
    thread_local! { static TIMES: Cell<usize> = const { Cell::new(0) }; }
    loop {
        let times = TIMES.replace((TIMES.get() + 1) % (2 * POLLS));
        let given = Given { unasked: times >= POLLS, ..given(times % POLLS, future()) };
        if let Some(value) = given.await {
            return value;
        }
        tokio::task::yield_now().await;
    }
}

type PollSink<S> = fn(Pin<&mut S>, &mut Context<'_>) -> Poll<Result<(), SendError>>;

/// One of the three waits of a sink, to be begun again as often as one likes.
async fn wait<S: Unpin>(sink: &Mutex<S>, how: PollSink<S>) -> Result<(), SendError> {
    poll_fn(|task| how(Pin::new(&mut sink.lock().unwrap()), task)).await
}

/// Feeds a sink so many messages and closes it; each wait is dropped everywhere.
async fn feed<S: Sink<Bytes, Error = SendError> + Unpin + Send>(sink: S, count: usize) {
    let sink = Mutex::new(sink);
    for number in 0..count {
        dropped_everywhere(|| wait(&sink, |sink, task| sink.poll_ready(task))).await.unwrap();
        sink.lock().unwrap().start_send_unpin(numbered(number)).unwrap();
        dropped_everywhere(|| wait(&sink, |sink, task| sink.poll_flush(task))).await.unwrap();
    }
    dropped_everywhere(|| wait(&sink, |sink, task| sink.poll_close(task))).await.unwrap();
}

/// Does it with one number after the other, in one go, until the runtime says that others are to have their turn, which all
/// futures here wait for too; what waits then is dropped. Gives how many were done.
async fn in_one_go(first: usize, what: impl AsyncFn(usize)) -> usize {
    let mut done = 0;
    poll_fn(|task| {
        while pin!(what(first + done)).poll(task).is_ready() {
            done += 1;
        }
        Poll::Ready(())
    })
    .await;
    tokio::task::yield_now().await;
    done
}

const COUNT: usize = 500;

ways! {
    fn a_send_that_is_dropped_has_happened_whole_or_not_at_all(case) {
        let mut server = serve(case.tight());
        let client = connect(&server, "a", case.tight()).await.unwrap();
        connected(&mut server).await;
        let sending = tokio::spawn(async move {
            for number in 0..COUNT {
                let message = numbered(number);
                dropped_everywhere(|| client.send(&message)).await.unwrap();
            }
            client
        });
        for number in 0..COUNT {
            assert_eq!(message(&mut server).await.1, numbered(number));
        }
        drop(sending.await.unwrap());
        assert_eq!(disconnected(&mut server).await.1, Reason::PeerClosed);
    }

    fn a_send_by_id_that_is_dropped_has_happened_whole_or_not_at_all(case) {
        let mut server = serve(case.tight());
        let mut client = connect(&server, "a", case.tight()).await.unwrap();
        connected(&mut server).await;
        let sending = tokio::spawn(async move {
            let sender = server.sender();
            for number in 0..COUNT {
                let message = numbered(number);
                match number % 2 {
                    0 => dropped_everywhere(|| server.send("a", &message)).await.unwrap(),
                    _ => dropped_everywhere(|| sender.send("a", &message)).await.unwrap(),
                }
            }
            server
        });
        for number in 0..COUNT {
            assert_eq!(client.next().await.unwrap(), numbered(number));
        }
        let server = sending.await.unwrap();
        assert_eq!(server.stop().await.delivered, COUNT as u64);
        assert!(client.next().await.is_none());
    }

    fn a_send_that_never_had_room_has_not_happened(case) {
        let mut server = serve(case.tight());
        let mut client = connect(&server, "a", case.tight()).await.unwrap();
        let peer = connected(&mut server).await;
        fill(&peer).await;
        let (sender, late) = (server.sender(), numbered(1));
        in_vain("by a peer", || peer.send(&late)).await;
        in_vain("by the server", || server.send("a", &late)).await;
        in_vain("by a sender", || sender.send("a", &late)).await;
        let reading = async {
            loop {
                let message = client.next().await.unwrap();
                if message != numbered(0) {
                    break message;
                }
            }
        };
        let (sent, came) = futures_util::future::join(peer.send(b"the next"), reading).await;
        assert_eq!((sent, came), (Ok(()), Bytes::from("the next")));
        let client_to_server = client.peer();
        fill(&client_to_server).await;
        in_vain("by a client", || client.send(&late)).await;
        let reading = async { while message(&mut server).await.1 == numbered(0) {} };
        futures_util::future::join(async { client.send(b"the next").await.unwrap() }, reading).await;
    }

    fn what_a_sink_has_taken_stays_though_its_flush_is_dropped(case) {
        let mut server = serve(case.tight());
        let client = connect(&server, "a", case.tight()).await.unwrap();
        connected(&mut server).await;
        let sending = tokio::spawn(feed(client, COUNT));
        for number in 0..COUNT {
            assert_eq!(message(&mut server).await.1, numbered(number));
        }
        assert_eq!(disconnected(&mut server).await.1, Reason::PeerClosed);
        sending.await.unwrap();
        // The same the other way.
        let mut client = connect(&server, "a", case.tight()).await.unwrap();
        let sending = tokio::spawn(feed(connected(&mut server).await, COUNT));
        for number in 0..COUNT {
            assert_eq!(client.next().await.unwrap(), numbered(number));
        }
        assert!(client.next().await.is_none());
        sending.await.unwrap();
    }

    fn what_a_sink_keeps_is_sent_once_however_often_it_is_waited_for(case) {
        let mut server = serve(case.tight());
        let mut client = connect(&server, "a", case.tight()).await.unwrap();
        let peer = connected(&mut server).await;
        fill(&peer).await;
        let sink = Mutex::new(peer);
        sink.lock().unwrap().start_send_unpin(numbered(1)).unwrap();
        let waits: [(&str, PollSink<Peer>); 3] = [
            ("ready", |sink, task| sink.poll_ready(task)),
            ("flush", |sink, task| sink.poll_flush(task)),
            ("close", |sink, task| sink.poll_close(task)),
        ];
        for (what, how) in waits {
            in_vain(what, || wait(&sink, how)).await;
        }
        let mut kept = 0;
        let reading = async {
            while let Some(message) = client.next().await {
                kept += usize::from(message == numbered(1));
                // Nothing comes behind it.
                assert_eq!(kept == 1, message != numbered(0));
            }
        };
        let closing = wait(&sink, |sink, task| sink.poll_close(task));
        assert_eq!(futures_util::future::join(closing, reading).await.0, Ok(()));
        assert_eq!(kept, 1);
        assert_eq!(disconnected(&mut server).await.1, Reason::Disconnected);
    }

    fn what_a_dropped_look_at_the_stream_has_not_given_is_given_next(case) {
        let mut server = serve(case.tight());
        let client = connect(&server, "a", case.tight()).await.unwrap();
        let peer = connected(&mut server).await;
        let client = Mutex::new(client);
        let next = || poll_fn(|task| client.lock().unwrap().poll_next_unpin(task));
        in_vain("nothing has come", next).await;
        let sending = tokio::spawn(async move {
            for number in 0..COUNT {
                peer.send(&numbered(number)).await.unwrap();
            }
        });
        for number in 0..COUNT {
            assert_eq!(dropped_everywhere(next).await.unwrap(), numbered(number));
        }
        sending.await.unwrap();
        // The same the other way, from who comes to who leaves.
        let client = client.into_inner().unwrap();
        let server = Mutex::new(server);
        let next = || poll_fn(|task| server.lock().unwrap().poll_next_unpin(task));
        in_vain("nothing has come", next).await;
        let sending = tokio::spawn(async move {
            for number in 0..COUNT {
                client.send(&numbered(number)).await.unwrap();
            }
        });
        for number in 0..COUNT {
            match dropped_everywhere(next).await {
                Some(Event::Message(_, message)) => assert_eq!(message, numbered(number)),
                other => panic!("no message, but {other:?}"),
            }
        }
        sending.await.unwrap();
        assert!(matches!(dropped_everywhere(next).await, Some(Event::Disconnected(..))));
        in_vain("nobody is there", next).await;
    }

    fn what_waits_for_its_turn_only_has_not_happened(case) {
        let mut server = serve(case.config());
        let client = connect(&server, "a", case.config()).await.unwrap();
        let peer = connected(&mut server).await;
        let (sender, text) = (server.sender(), |number: usize| number.to_string());
        let mut sent = 0;
        while sent < COUNT {
            sent += in_one_go(sent, async |it| peer.send(text(it).as_bytes()).await.unwrap()).await;
            sent += in_one_go(sent, async |it| server.send("a", text(it).as_bytes()).await.unwrap()).await;
            sent += in_one_go(sent, async |it| sender.send("a", text(it).as_bytes()).await.unwrap()).await;
        }
        // When all is there, who waits does so for his turn.
        while client.counters().sessions.received.messages_received < sent as u64 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let (client, mut given) = (Mutex::new(client), 0);
        let next = || poll_fn(|task| client.lock().unwrap().poll_next_unpin(task));
        while given < sent {
            let done = in_one_go(given, async |it| {
                if it < sent {
                    assert_eq!(next().await.unwrap(), text(it));
                } else {
                    std::future::pending().await
                }
            });
            given += done.await;
        }
    }

    fn a_start_that_is_dropped_leaves_no_session_behind(case) {
        let mut server = serve(case.config());
        for waits in 0..6 {
            let client = given(waits, connect(&server, "a", case.config())).await;
            drop(client);
        }
        // Whoever came leaves, so that there is room for one of the same name.
        let client = loop {
            match connect(&server, "a", case.config()).await {
                Ok(client) => break client,
                Err(Error::Refused { code: RefusalCode::AlreadyConnected, .. }) => {}
                Err(error) => panic!("{error}"),
            }
        };
        client.send(b"here").await.unwrap();
        let (mut came, mut left) = (0, 0);
        loop {
            match server.next().await.unwrap() {
                Event::Connected(_) => came += 1,
                Event::Disconnected(..) => left += 1,
                Event::Message(_, message) => break assert_eq!(message, "here"),
                _ => {}
            }
        }
        assert_eq!(came, left + 1);
    }

    fn a_start_that_is_refused_is_dropped_anywhere_and_nobody_else_notices(case) {
        let mut server = serve(case.config());
        let here = connect(&server, "a", case.config()).await.unwrap();
        connected(&mut server).await;
        let mut refused = 0;
        for waits in 0..8 {
            match given(waits, connect(&server, "a", case.config())).await {
                Some(Err(Error::Refused { code: RefusalCode::AlreadyConnected, .. })) => refused += 1,
                Some(outcome) => panic!("{outcome:?}"),
                None => {}
            }
        }
        assert!(refused > 0, "not even the last one came to its end");
        here.send(b"here").await.unwrap();
        assert_eq!(message(&mut server).await.1, "here");
    }

    fn a_stop_that_is_dropped_goes_on(case) {
        for waits in 0..3 {
            let mut server = serve(case.config());
            let client = connect(&server, "a", case.config()).await.unwrap();
            connected(&mut server).await;
            for number in 0..100 {
                client.send(&numbered(number)).await.unwrap();
            }
            drop(given(waits, client.stop()).await);
            for number in 0..100 {
                assert_eq!(message(&mut server).await.1, numbered(number));
            }
            assert_eq!(disconnected(&mut server).await.1, Reason::PeerClosed);
            drop(given(waits, server.stop()).await);
        }
    }
}
