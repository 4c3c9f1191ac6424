//! Peers that are processes of their own: one is stopped in the middle of a stream and continued, one is
//! killed. The peer is this test binary itself, told by its environment whom to serve.
//!
//! `ZERIO_STOP_SECONDS=60` makes the stop a minute instead of 3 seconds.

mod hostile;

use std::io::{ErrorKind, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
#[cfg(unix)]
use std::time::Instant;

use hostile::{Echo, Event, Events, GoodClient, closes_for_the_killed, config, drivers, until};
use zerio::{Client, Context, Disconnection, DriverKind, Handler, Reason, Rejection, SendError, Server};

/// Where the peer process finds the server's address, and the driver that it is to use.
const SERVER: &str = "ZERIO_TEST_SERVER";
const DRIVER: &str = "ZERIO_TEST_DRIVER";

/// Long enough that a stream of them fills every buffer on the way.
const MESSAGE: usize = 1000;

/// The peer process. In a run of the tests it has nothing to do.
#[test]
fn the_peer_process_answers_each_numbered_message_with_its_number() {
    let Ok(address) = std::env::var(SERVER) else { return };
    let address: SocketAddr = address.parse().unwrap();
    let driver = match std::env::var(DRIVER).unwrap().as_str() {
        "uring" => DriverKind::Uring,
        "rio" => DriverKind::Rio,
        "rio-model" => DriverKind::RioModel,
        "poll" => DriverKind::Poll,
        other => panic!("{other}"),
    };
    let mut expected = 0u64;
    let _client = Client::connect(address, "peer")
        .unwrap()
        .config(config(|c| c.driver = driver))
        .on_message(move |context, message| {
            assert_eq!(message.len(), MESSAGE);
            assert_eq!(message[..8], expected.to_le_bytes(), "message {expected}, once and in its place");
            expected += 1;
            context.send(&message[..8]).expect("there is room for so short an answer");
        })
        .start()
        .unwrap();
    // Until the test closes the pipe, or is gone itself.
    let _ = std::io::stdin().read(&mut [0]);
}

struct PeerProcess(Child);

impl PeerProcess {
    fn start(server: &Server, driver: DriverKind) -> PeerProcess {
        let name = "the_peer_process_answers_each_numbered_message_with_its_number";
        let child = Command::new(std::env::current_exe().unwrap())
            .args([name, "--exact", "--nocapture"])
            .env(SERVER, server.local_addr().to_string())
            .env(DRIVER, driver.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        PeerProcess(child)
    }

    /// Windows stops threads, not processes.
    #[cfg(unix)]
    fn signal(&self, signal: i32) {
        // SAFETY: kill has no requirements of memory. The process has not been waited for, so that its
        // id is still its own.
        let outcome = unsafe { libc::kill(self.0.id() as i32, signal) };
        assert_eq!(outcome, 0, "{}", std::io::Error::last_os_error());
    }

    /// Stops it, and returns when it stands still: one of its threads must run for that, and on a busy machine the others
    /// go on until it does.
    #[cfg(unix)]
    fn stop(&self) {
        self.signal(libc::SIGSTOP);
        let mut status = 0;
        // SAFETY: waitpid writes the status of this process's own child to where it is told. One that stops is not gone by
        // being waited for.
        let outcome = unsafe { libc::waitpid(self.0.id() as i32, &raw mut status, libc::WUNTRACED) };
        assert!(outcome == self.0.id() as i32 && libc::WIFSTOPPED(status), "{outcome}, {status}");
    }
}

impl Drop for PeerProcess {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Echoes to everybody but the peer, whose answers it counts.
struct Counting {
    echo: Echo,
    answers: Arc<AtomicU64>,
}

impl Handler for Counting {
    fn on_connected(&mut self, peer: &mut Context<'_>) {
        self.echo.on_connected(peer);
    }

    fn on_message(&mut self, peer: &mut Context<'_>, message: &[u8]) {
        if peer.id() != "peer" {
            return self.echo.on_message(peer, message);
        }
        let expected = self.answers.load(Ordering::Relaxed);
        assert_eq!(message, expected.to_le_bytes(), "answer {expected}, once and in its place");
        self.answers.store(expected + 1, Ordering::Release);
    }

    fn on_disconnected(&mut self, peer: &mut Context<'_>, why: &Disconnection) {
        self.echo.on_disconnected(peer, why);
    }

    fn on_rejected(&mut self, address: SocketAddr, why: &Rejection) {
        self.echo.on_rejected(address, why);
    }
}

/// A server with a good client and a peer process.
struct Scene {
    server: Server,
    events: Events,
    answers: Arc<AtomicU64>,
    good: GoodClient,
    peer: PeerProcess,
    sent: u64,
}

impl Scene {
    fn new(driver: DriverKind, peer_timeout: Duration) -> Scene {
        let (events, answers) = (Events::default(), Arc::new(AtomicU64::new(0)));
        let counting = Counting { echo: Echo(events.clone()), answers: answers.clone() };
        let server = Server::bind("127.0.0.1:0")
            .unwrap()
            .config(config(|c| (c.driver, c.peer_timeout) = (driver, peer_timeout)))
            .handler(counting)
            .start()
            .unwrap();
        let good = GoodClient::start(server.local_addr(), driver);
        let peer = PeerProcess::start(&server, driver);
        events.wait("the peer", |event| (*event == Event::Connected("peer".into())).then_some(()));
        Scene { server, events, answers, good, peer, sent: 0 }
    }

    fn next(&mut self) -> [u8; MESSAGE] {
        let mut message = [0x5a; MESSAGE];
        message[..8].copy_from_slice(&self.sent.to_le_bytes());
        self.sent += 1;
        message
    }

    fn send(&mut self, messages: usize) {
        for _ in 0..messages {
            let message = self.next();
            self.server.send("peer", &message).unwrap();
        }
    }

    fn answers(&self) -> u64 {
        self.answers.load(Ordering::Acquire)
    }
}

fn ends_of_the_peer(events: &Events) -> Vec<Disconnection> {
    let end = |event| match event {
        Event::Disconnected(id, why) if id == "peer" => Some(why),
        _ => None,
    };
    events.all().into_iter().filter_map(end).collect()
}

#[cfg(unix)]
#[test]
fn a_peer_that_is_stopped_in_the_middle_of_a_stream_and_continued_misses_nothing() {
    let seconds = std::env::var("ZERIO_STOP_SECONDS").map_or(3, |seconds| seconds.parse().unwrap());
    let stop = Duration::from_secs(seconds);
    // Only Linux has the timeout that takes a stopped peer for a dead one, and its drivers what keeps it from that:
    // Registered I/O is never there in earnest.
    for driver in drivers().filter(|driver| *driver != DriverKind::RioModel) {
        // Much shorter than the stop: the peer's system still answers for it, which is a sign of life.
        let mut scene = Scene::new(driver, stop / 3);
        scene.send(1000);
        until("the stream is on its way", || (scene.answers() > 100).then_some(()));

        scene.peer.stop();
        let full = scene.server.counters().sessions.sent.full_rings;
        let stopped = Instant::now();
        // What the systems between them take, and then the ring.
        loop {
            let message = scene.next();
            match scene.server.try_send("peer", &message) {
                Ok(()) => {}
                Err(SendError::Full) => {
                    scene.sent -= 1;
                    if scene.server.counters().sessions.sent.full_rings > full + 20 {
                        break;
                    }
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(error) => panic!("{error}"),
            }
            assert!(scene.sent < 1_000_000, "the ring never fills");
        }
        while stopped.elapsed() < stop {
            assert_eq!(ends_of_the_peer(&scene.events), [], "after {:?}", stopped.elapsed());
            std::thread::sleep(Duration::from_millis(20));
        }
        scene.good.goes_on();
        assert!(scene.answers() < scene.sent, "it is stopped");

        scene.peer.signal(libc::SIGCONT);
        scene.send(1000);
        until("every answer", || (scene.answers() == scene.sent).then_some(()));
        assert_eq!(ends_of_the_peer(&scene.events), []);
        // The pipe closes: it leaves by itself.
        drop(scene.peer.0.stdin.take());
        let end = scene.events.end_of("peer");
        assert_eq!(end.reason, Reason::PeerClosed);
        assert!(end.undelivered.is_empty(), "{end}");
        scene.good.finish();
        assert_eq!(scene.server.stop().failure, None);
    }
}

#[test]
fn a_peer_that_is_killed_in_the_middle_of_a_stream_has_one_end_with_its_true_reason() {
    if !closes_for_the_killed() {
        return eprintln!("SKIPPED: Wine may keep a killed process's connections");
    }
    for driver in drivers() {
        let mut scene = Scene::new(driver, Duration::from_secs(10));
        scene.send(1000);
        until("the stream is on its way", || (scene.answers() > 100).then_some(()));
        scene.peer.0.kill().unwrap();
        let handle = scene.server.peer("peer").ok();
        // The stream goes on until the server has noticed.
        let error = until("the end of the stream", || {
            let message = scene.next();
            scene.server.try_send("peer", &message).err().filter(|error| *error != SendError::Full)
        });
        assert!(matches!(error, SendError::UnknownPeer | SendError::Closed), "{error}");
        let end = scene.events.end_of("peer");
        // Its system closes for it: in order where it had read everything, with a reset where it had not.
        // Whether the first to notice is a receive or a send is chance.
        let broken = |kind| matches!(kind, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe);
        assert!(
            match end.reason {
                Reason::PeerClosed | Reason::Truncated { .. } => true,
                Reason::Connection(kind) => broken(kind),
                _ => false,
            },
            "{end}"
        );
        scene.good.goes_on();
        if let Some(handle) = handle {
            assert_eq!(handle.send(b"x"), Err(SendError::Closed));
        }
        scene.good.finish();
        let counters = scene.server.counters().engine;
        assert_eq!(counters.bytes_undelivered, end.undelivered.bytes);
        assert_eq!(counters.messages_undelivered, end.undelivered.messages);
        assert_eq!(scene.server.stop().failure, None);
        assert_eq!(ends_of_the_peer(&scene.events).len(), 1, "exactly one end");
    }
}
