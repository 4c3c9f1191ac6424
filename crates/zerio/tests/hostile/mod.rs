//! For the tests of bad input: a server that echoes and notes what it hears, a good client that must not
//! notice anything, and a peer that speaks to the server in bytes.
#![forbid(unsafe_code)]
// Each test binary uses its own part of this.
#![allow(dead_code)]

use std::fmt::Debug;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use zerio::{
    Client, Config, Context, Disconnection, DriverKind, Handler, Reason, RefusalCode, Rejection, Server,
};

#[path = "../common/missing.rs"]
mod missing;
#[path = "../common/skip.rs"]
pub mod skip;
#[path = "../common/wine.rs"]
mod wine;

#[allow(unused_imports)]
pub use wine::{closes_for_the_killed, has_resets};

/// How long a test waits for what must come. Nothing takes so long: it is there to end a test that fails.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A default configuration with changes.
pub fn config(change: impl FnOnce(&mut Config)) -> Config {
    let mut config = Config::default();
    // On a machine that is busy, five seconds are not long.
    config.handshake_timeout = PATIENCE;
    change(&mut config);
    config
}

/// The drivers that this machine has, one after the other. When all of them have been tried, none may have broken a rule of
/// Registered I/O.
pub struct Drivers(std::vec::IntoIter<DriverKind>);

pub fn drivers() -> Drivers {
    let mut all = vec![DriverKind::Poll, DriverKind::Uring, DriverKind::Rio, DriverKind::RioModel];
    all.retain(|driver| missing::is_here(*driver));
    Drivers(all.into_iter())
}

impl Iterator for Drivers {
    type Item = DriverKind;

    fn next(&mut self) -> Option<DriverKind> {
        self.0.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl ExactSizeIterator for Drivers {}

impl Drop for Drivers {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert_eq!(zerio::rio_model::violations(), Vec::<String>::new());
        }
    }
}

/// Waits until `look` finds something; `what` is what it looks for.
#[track_caller]
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "in vain for {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// What a server's handler heard.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    Connected(String),
    Disconnected(String, Disconnection),
    Rejected(SocketAddr, Rejection),
}

/// All that a server's handler heard, for another thread to wait for.
#[derive(Clone, Debug, Default)]
pub struct Events(Arc<(Mutex<Vec<Event>>, Condvar)>);

impl Events {
    fn note(&self, event: Event) {
        self.0.0.lock().unwrap().push(event);
        self.0.1.notify_all();
    }

    /// What was heard so far.
    pub fn all(&self) -> Vec<Event> {
        self.0.0.lock().unwrap().clone()
    }

    /// Waits for the first event in which `look` finds something.
    #[track_caller]
    pub fn wait<T>(&self, what: impl Debug, look: impl Fn(&Event) -> Option<T>) -> T {
        let begun = Instant::now();
        let mut events = self.0.0.lock().unwrap();
        loop {
            if let Some(found) = events.iter().find_map(&look) {
                return found;
            }
            let left = PATIENCE.saturating_sub(begun.elapsed());
            if left.is_zero() {
                let events = events.clone();
                panic!("in vain for {PATIENCE:?}: {what:?} among {events:#?}");
            }
            events = self.0.1.wait_timeout(events, left).unwrap().0;
        }
    }

    /// How the session of `peer` ended, when it has.
    #[track_caller]
    pub fn end_of(&self, peer: &str) -> Disconnection {
        self.wait(("the end of", peer), |event| match event {
            Event::Disconnected(id, why) if id == peer => Some(*why),
            _ => None,
        })
    }

    /// Why the connection from `address` did not become a session, when it has ended.
    #[track_caller]
    pub fn rejection_of(&self, address: SocketAddr) -> Rejection {
        self.wait(("the rejection of", address), |event| match event {
            Event::Rejected(from, why) if *from == address => Some(*why),
            _ => None,
        })
    }
}

/// Sends each message back, and notes who comes and goes. The message `panic!` makes it panic.
#[derive(Clone, Debug, Default)]
pub struct Echo(pub Events);

impl Handler for Echo {
    fn on_connected(&mut self, peer: &mut Context<'_>) {
        self.0.note(Event::Connected(peer.id().to_owned()));
    }

    fn on_message(&mut self, peer: &mut Context<'_>, message: &[u8]) {
        assert_ne!(message, b"panic!", "as the message says");
        // A peer that does not read its echoes loses them: that is for the test to notice.
        let _ = peer.send(message);
    }

    fn on_disconnected(&mut self, peer: &mut Context<'_>, why: &Disconnection) {
        self.0.note(Event::Disconnected(peer.id().to_owned(), *why));
    }

    fn on_rejected(&mut self, address: SocketAddr, why: &Rejection) {
        self.0.note(Event::Rejected(address, *why));
    }
}

/// A server that echoes, with a good client on it.
pub struct Scene {
    pub server: Server,
    pub events: Events,
    pub address: SocketAddr,
    pub good: GoodClient,
    pub driver: DriverKind,
}

/// Plays a scene over each driver that this machine has: starts a server with this configuration and a
/// good client, then `play`, and then checks that the good client has noticed nothing.
#[track_caller]
pub fn undisturbed(change: impl Fn(&mut Config), play: impl Fn(&Scene)) {
    for driver in drivers() {
        let config = config(|c| {
            change(c);
            c.driver = driver;
        });
        let events = Events::default();
        let server = Server::bind("127.0.0.1:0").unwrap();
        let server = server.config(config).handler(Echo(events.clone())).start().unwrap();
        let address = server.local_addr();
        let good = GoodClient::start(address, driver);
        let scene = Scene { server, events, address, good, driver };
        scene.good.goes_on();
        play(&scene);
        scene.good.goes_on();
        let Scene { server, events, good, .. } = scene;
        good.finish();
        let report = server.stop();
        assert_eq!(report.failure, None);
        let end = events.end_of(GoodClient::ID);
        assert_eq!(end.reason, Reason::PeerClosed, "the good client left by itself");
        assert!(end.undelivered.is_empty(), "{end}");
    }
}

/// Sends numbered messages without end, a few at a time, and checks each echo.
pub struct GoodClient {
    stop: Arc<AtomicBool>,
    echoes: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

impl GoodClient {
    pub const ID: &'static str = "good";
    /// So many messages are on their way at once.
    const WINDOW: u64 = 16;

    pub fn start(address: SocketAddr, driver: DriverKind) -> GoodClient {
        let (stop, echoes) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, heard) = (stop.clone(), echoes.clone());
        let client = Client::connect(address, Self::ID)
            .unwrap()
            .config(config(|c| c.driver = driver))
            .on_message(move |_, message| {
                let expected = heard.load(Ordering::Relaxed);
                assert_eq!(message, expected.to_le_bytes(), "the good client's echo {expected}");
                heard.store(expected + 1, Ordering::Release);
            })
            .start()
            .unwrap();
        let heard = echoes.clone();
        let thread = std::thread::Builder::new().name("good client".into());
        let thread = thread.spawn(move || {
            let mut sent = 0u64;
            while !stopped.load(Ordering::Acquire) {
                if sent - heard.load(Ordering::Acquire) < Self::WINDOW {
                    client.send(&sent.to_le_bytes()).expect("the good client sends");
                    sent += 1;
                } else {
                    std::thread::sleep(Duration::from_micros(500));
                }
            }
            until("every echo of the good client", || (heard.load(Ordering::Acquire) == sent).then_some(()));
            assert!(sent > 0, "the good client did something");
            let report = client.stop();
            assert_eq!(report.failure, None);
            assert!(report.undelivered.is_empty(), "{report}");
        });
        GoodClient { stop, echoes, thread: thread.unwrap() }
    }

    /// How many echoes it has had.
    pub fn echoes(&self) -> u64 {
        self.echoes.load(Ordering::Acquire)
    }

    /// Waits until it has had some more: the server works.
    #[track_caller]
    pub fn goes_on(&self) {
        let goal = self.echoes() + 2 * Self::WINDOW;
        until("the good client's echoes", || (self.echoes() >= goal).then_some(()));
    }

    /// Ends it; it has had every echo.
    #[track_caller]
    pub fn finish(self) {
        self.stop.store(true, Ordering::Release);
        self.thread.join().expect("the good client was disturbed");
    }
}

/// A frame: the length, and the bytes.
pub fn frame(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u32).to_le_bytes(), message].concat()
}

/// A connection on which a test says what it likes.
#[derive(Debug)]
pub struct RawPeer {
    pub stream: TcpStream,
}

impl RawPeer {
    #[track_caller]
    pub fn connect(address: SocketAddr) -> RawPeer {
        RawPeer::over(TcpStream::connect_timeout(&address, PATIENCE).unwrap())
    }

    pub fn over(stream: TcpStream) -> RawPeer {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        RawPeer { stream }
    }

    /// A connection whose handshake is done.
    #[track_caller]
    pub fn welcome(address: SocketAddr, id: &str) -> RawPeer {
        let mut peer = RawPeer::connect(address);
        peer.say(&frame(id.as_bytes()));
        assert_eq!(peer.hear(), id.as_bytes(), "the server accepts {id} by saying it back");
        peer
    }

    pub fn local(&self) -> SocketAddr {
        self.stream.local_addr().unwrap()
    }

    #[track_caller]
    pub fn say(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// The next frame's message.
    #[track_caller]
    pub fn hear(&mut self) -> Vec<u8> {
        let mut header = [0; 4];
        self.stream.read_exact(&mut header).expect("a frame header");
        let len = u32::from_le_bytes(header) as usize;
        assert!(len <= 1 << 24, "a frame of {len} bytes");
        let mut message = vec![0; len];
        self.stream.read_exact(&mut message).expect("a whole frame");
        message
    }

    /// The server's first frame is this refusal, byte for byte, and then it closes.
    #[track_caller]
    pub fn hears_refusal(&mut self, code: RefusalCode) {
        let (number, text) = match code {
            RefusalCode::AlreadyConnected => (1, "id already connected"),
            RefusalCode::ServerFull => (2, "server full"),
            RefusalCode::BadPeerId => (4, "bad id: 1 to 255 bytes of UTF-8 without control characters"),
            RefusalCode::TooLate => (5, "no id within the handshake deadline"),
            RefusalCode::BadFrame => (6, "first frame too long"),
            RefusalCode::TooManyFromAddress => (8, "too many connections from this address"),
            RefusalCode::TooManyPerSecond => (9, "too many new connections, try again later"),
            other => panic!("no test of {other}"),
        };
        let expected = [&[0, number], text.as_bytes()].concat();
        let heard = self.hear();
        assert_eq!(String::from_utf8_lossy(&heard), String::from_utf8_lossy(&expected));
        self.hears_the_end();
    }

    /// The server says nothing more and closes.
    #[track_caller]
    pub fn hears_the_end(&mut self) {
        let mut rest = Vec::new();
        match self.stream.read_to_end(&mut rest) {
            Ok(_) => {}
            // Where the server closes with bytes unread, the end is a reset.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            Err(error) => panic!("instead of the end: {error}"),
        }
        assert!(rest.is_empty(), "instead of the end: {rest:?}");
    }

    /// Closes without a word: the other side hears a reset.
    pub fn reset(self) {
        socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).unwrap();
    }
}
