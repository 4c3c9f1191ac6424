//! After start nothing is allocated: not per message, not per batch, not when peers come and go, are refused,
//! for whatever reason, or read too slowly.
//!
//! The allocator of this test binary counts every allocation of every thread while it is armed: the
//! library's threads, a thread that sends, and the test's own, on which polled engines run. There is no
//! exemption, so what the test itself does while armed allocates nothing either: its peers are bare
//! sockets with arrays for buffers, and it waits by looking at atomics. It runs alone in its
//! process and without the test harness, which allocates on a thread of its own.
#![deny(unsafe_op_in_unsafe_fn)]

#[path = "common/missing.rs"]
mod missing;
#[path = "common/skip.rs"]
mod skip;

use std::alloc::{GlobalAlloc, Layout, System};
use std::backtrace::Backtrace;
use std::cell::Cell;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use missing::is_here;
use socket2::{Domain, Socket, Type};
use zerio::tls::{TlsClient, TlsServer};
use zerio::{
    Arrival, Client, Config, Context, Disconnection, DriverKind, Error, Handler, Peer, PolledClient,
    PolledServer, Reason, Refusal, Rejection, Rejections, SendError, Sender, Server,
};

const PATIENCE: Duration = Duration::from_secs(60);

/// The system's allocator, and a count.
struct Counting;

static ARMED: AtomicBool = AtomicBool::new(false);
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
/// Where the first one was.
static FIRST: Mutex<Option<String>> = Mutex::new(None);

thread_local! {
    /// This thread is just counting one: what that allocates is not counted.
    static COUNTING: Cell<bool> = const { Cell::new(false) };
}

impl Counting {
    fn count(&self) {
        if !ARMED.load(SeqCst) || COUNTING.replace(true) {
            return;
        }
        if ALLOCATIONS.fetch_add(1, SeqCst) == 0 {
            let thread = std::thread::current();
            let name = thread.name().unwrap_or("a thread without a name");
            *FIRST.lock().unwrap() = Some(format!("on {name}:\n{}", Backtrace::force_capture()));
        }
        COUNTING.set(false);
    }
}

// SAFETY: every call is passed on to the system's allocator as it is; counting does not touch the memory.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.count();
        // SAFETY: the caller keeps `alloc`'s contract, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        self.count();
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        self.count();
        // SAFETY: as above; every block here comes from the system's allocator.
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What the handlers have heard.
#[derive(Default)]
struct Heard {
    connected: AtomicU64,
    messages: AtomicU64,
    disconnected: AtomicU64,
    slow: AtomicU64,
    rejected: AtomicU64,
    /// Of those, what a log was told.
    told: AtomicU64,
}

/// Answers in every way that a handler has.
struct Answers {
    heard: Arc<Heard>,
    server: bool,
}

impl Handler for Answers {
    fn admit(&mut self, arrival: &Arrival<'_>) -> Result<(), Refusal> {
        match arrival.id() {
            "barred" => Err("not you".into()),
            _ => Ok(()),
        }
    }

    fn on_rejections(&mut self, some: &Rejections) {
        self.heard.told.fetch_add(1 + some.others, SeqCst);
    }

    fn on_connected(&mut self, _: &mut Context<'_>) {
        self.heard.connected.fetch_add(1, SeqCst);
    }

    fn on_message(&mut self, peer: &mut Context<'_>, message: &[u8]) {
        self.heard.messages.fetch_add(1, SeqCst);
        if !self.server {
            return;
        }
        match message {
            b"flood" => while peer.send(&[7; 1000]).is_ok() {},
            b"claim" => loop {
                if let Ok(mut claim) = peer.claim(5) {
                    claim.copy_from_slice(b"claim");
                    break claim.commit().expect("open");
                }
            },
            b"others" => {
                assert_eq!(peer.send_to("nobody", b"x"), Err(SendError::UnknownPeer));
                insist(|| peer.send_to("client", b"to"));
                insist(|| peer.send(b"others"));
            }
            b"leave" => peer.disconnect(),
            message => insist(|| peer.send(message)),
        }
    }

    fn on_disconnected(&mut self, _: &mut Context<'_>, why: &Disconnection) {
        self.heard.slow.fetch_add(u64::from(why.reason == Reason::SlowPeer), SeqCst);
        self.heard.disconnected.fetch_add(1, SeqCst);
    }

    fn on_rejected(&mut self, _: SocketAddr, _: &Rejection) {
        self.heard.rejected.fetch_add(1, SeqCst);
    }
}

/// Sends again as long as the answer is `Full`: there is room, but the other thread that sends on the session
/// may just hold its ring.
fn insist(mut send: impl FnMut() -> Result<(), SendError>) {
    while let Err(error) = send() {
        assert_eq!(error, SendError::Full);
        std::thread::yield_now();
    }
}

/// A server and its client, however they are driven.
trait World {
    /// Lets the engines get on, where the test drives them.
    fn turn(&mut self);
    fn up(&mut self, message: &[u8]) -> Result<(), SendError>;
    fn up_in_place(&mut self) -> Result<(), SendError>;
    fn down(&mut self, id: &str, message: &[u8]) -> Result<(), SendError>;
    fn try_down(&mut self, id: &str, message: &[u8]) -> Result<(), SendError>;
    fn down_in_place(&mut self, id: &str) -> Result<(), SendError>;
    fn handles(&mut self) -> (Peer, Sender);
}

struct OnThreads(Server, Client);

impl World for OnThreads {
    fn turn(&mut self) {
        std::thread::yield_now();
    }

    fn up(&mut self, message: &[u8]) -> Result<(), SendError> {
        self.1.send(message)?;
        self.1.try_send(message)
    }

    fn up_in_place(&mut self) -> Result<(), SendError> {
        drop(self.1.claim(100)?);
        let mut claim = self.1.try_claim(5)?;
        claim.copy_from_slice(b"claim");
        claim.commit()?;
        let mut claim = self.1.claim(5)?;
        claim.copy_from_slice(b"claim");
        claim.commit()
    }

    fn down(&mut self, id: &str, message: &[u8]) -> Result<(), SendError> {
        self.0.send(id, message)
    }

    fn try_down(&mut self, id: &str, message: &[u8]) -> Result<(), SendError> {
        self.0.try_send(id, message)
    }

    fn down_in_place(&mut self, id: &str) -> Result<(), SendError> {
        let mut claim = self.0.claim(id, 5)?;
        claim.copy_from_slice(b"claim");
        claim.commit()
    }

    fn handles(&mut self) -> (Peer, Sender) {
        (self.1.peer(), self.0.sender())
    }
}

struct InPolls(PolledServer<Answers>, PolledClient<Answers>);

impl World for InPolls {
    fn turn(&mut self) {
        self.0.poll().expect("the server runs");
        self.1.poll().expect("the client runs");
    }

    fn up(&mut self, message: &[u8]) -> Result<(), SendError> {
        self.1.try_send(message)?;
        self.1.try_send(message)
    }

    fn up_in_place(&mut self) -> Result<(), SendError> {
        drop(self.1.try_claim(100)?);
        for _ in 0..2 {
            let mut claim = self.1.try_claim(5)?;
            claim.copy_from_slice(b"claim");
            claim.commit()?;
        }
        Ok(())
    }

    fn down(&mut self, id: &str, message: &[u8]) -> Result<(), SendError> {
        self.0.try_send(id, message)
    }

    fn try_down(&mut self, id: &str, message: &[u8]) -> Result<(), SendError> {
        self.0.try_send(id, message)
    }

    fn down_in_place(&mut self, id: &str) -> Result<(), SendError> {
        let mut claim = self.0.try_claim(id, 5)?;
        claim.copy_from_slice(b"claim");
        claim.commit()
    }

    fn handles(&mut self) -> (Peer, Sender) {
        (self.1.peer().expect("it is connected"), self.0.sender())
    }
}

/// Everything that a test needs to see.
struct Scene<'a> {
    world: &'a mut dyn World,
    address: SocketAddr,
    server: &'a Heard,
    client: &'a Heard,
    /// What was allocated while nobody came.
    steady: u64,
    /// Sessions speak TLS. Whoever comes then may allocate, for the handshake, so nobody does.
    tls: bool,
}

impl Scene<'_> {
    #[track_caller]
    fn until(&mut self, what: &str, mut is_so: impl FnMut(&mut dyn World) -> bool) {
        let (begun, mut turns) = (Instant::now(), 0);
        while !is_so(self.world) {
            self.world.turn();
            turns += 1;
            if turns > 100 {
                std::thread::sleep(Duration::from_micros(50));
            }
            assert!(begun.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        }
    }

    /// A connection that has said something, which may be an id.
    fn connect(&mut self, first: &[u8]) -> TcpStream {
        let socket = Socket::new(Domain::for_address(self.address), Type::STREAM, None).expect("a socket");
        socket.set_recv_buffer_size(4096).expect("a small buffer");
        socket.connect(&self.address.into()).expect("a connection");
        socket.set_nonblocking(true).expect("no blocking");
        let mut stream = TcpStream::from(socket);
        say(&mut stream, first);
        stream
    }

    /// Reads exactly so many bytes, or to the end where there are fewer; gives how many.
    fn read(&mut self, stream: &mut TcpStream, bytes: &mut [u8]) -> usize {
        let mut at = 0;
        self.until("bytes to read", |_| match stream.read(&mut bytes[at..]) {
            Ok(0) => true,
            Ok(more) => {
                at += more;
                at == bytes.len()
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => false,
            Err(error) => panic!("{error}"),
        });
        at
    }

    fn all_that_may_happen_after_start(&mut self) {
        self.nobody_comes(Scene::messages_both_ways);
        if self.tls {
            let (up, down) = self.world.handles();
            self.nobody_comes(|scene| scene.handles_and_pauses(&up, &down));
            return self.nobody_comes(Scene::messages_both_ways);
        }
        self.peers_come_and_go();
        self.connections_are_refused();
        self.peers_are_slow();
        let (up, down) = self.world.handles();
        self.nobody_comes(|scene| scene.handles_and_pauses(&up, &down));
        // The same again: now handles are about, and polled engines send as if other threads did.
        self.nobody_comes(Scene::messages_both_ways);
        self.peers_come_and_go();
    }

    /// While nobody comes and goes nothing is allocated, whatever the system is.
    fn nobody_comes(&mut self, what_happens: impl FnOnce(&mut Self)) {
        let before = ALLOCATIONS.load(SeqCst);
        what_happens(self);
        self.steady += ALLOCATIONS.load(SeqCst) - before;
    }

    fn messages_both_ways(&mut self) {
        for _ in 0..300 {
            let (server, client) = (self.server.messages.load(SeqCst), self.client.messages.load(SeqCst));
            self.until("room", |world| world.up(b"others").is_ok());
            self.until("room", |world| world.up_in_place().is_ok());
            self.until("room", |world| world.down("client", b"down").is_ok());
            self.until("room", |world| world.try_down("client", b"down").is_ok());
            self.until("room", |world| world.down_in_place("client").is_ok());
            // Two others, each answered twice, two claims answered, and three from the server itself.
            let (at_server, at_client) = (self.server, self.client);
            self.until("all messages", |_| {
                at_server.messages.load(SeqCst) == server + 4 && at_client.messages.load(SeqCst) == client + 9
            });
        }
    }

    fn peers_come_and_go(&mut self) {
        let ids = [b"peer-0", b"peer-1", b"peer-2", b"peer-3"];
        for _ in 0..100 {
            let (gone, told) = (self.server.disconnected.load(SeqCst), self.client.messages.load(SeqCst));
            let mut answer = [0; 10];
            for (id, goodbye) in ids.into_iter().zip([&b""[..], b"leave", b"others", b"claim"]) {
                let mut stream = self.connect(id);
                assert_eq!(self.read(&mut stream, &mut answer), 10);
                assert_eq!(&answer[4..], id);
                say(&mut stream, b"abcdef");
                assert_eq!(self.read(&mut stream, &mut answer), 10);
                assert_eq!(&answer[4..], b"abcdef");
                say(&mut stream, goodbye);
                if goodbye == b"leave" {
                    assert_eq!(self.read(&mut stream, &mut answer), 0);
                } else if goodbye == b"others" {
                    assert_eq!(self.read(&mut stream, &mut answer), 10);
                }
                // The other two have an answer that they have not read: they reset the connection.
            }
            let (server, client) = (self.server, self.client);
            self.until("all have gone", |_| {
                server.disconnected.load(SeqCst) == gone + 4 && client.messages.load(SeqCst) == told + 1
            });
        }
    }

    fn connections_are_refused(&mut self) {
        for _ in 0..50 {
            let heard = self.server;
            let outcomes = || heard.connected.load(SeqCst) + heard.rejected.load(SeqCst);
            let before = outcomes();
            // Taken, not let in, no id at all, too long an id, and one that ends by itself.
            for first in [&b"client"[..], b"barred", b"", &[b'x'; 256]] {
                let mut stream = self.connect(first);
                let mut refusal = [0; 6];
                assert_eq!(self.read(&mut stream, &mut refusal), 6);
                assert_eq!(refusal[4], 0, "refused");
            }
            let mut stream = self.connect(b"never-mind");
            stream.write_all(&[0xff; 4]).expect("sent");
            drop(stream);
            drop(TcpStream::connect(self.address).expect("a connection"));
            // The last but one may have been a session: one that comes later would have somebody's place below.
            self.until("all have been somebody or nobody", |_| outcomes() >= before + 6);
        }
        // One more than there is room for.
        for _ in 0..20 {
            self.all_are_out();
            let rejected = self.server.rejected.load(SeqCst);
            let ids = [b"full-0", b"full-1", b"full-2", b"full-3"];
            let streams = ids.map(|id| {
                let (mut stream, mut answer) = (self.connect(id), [0; 10]);
                assert_eq!(self.read(&mut stream, &mut answer), 10);
                assert_eq!(&answer[4..], id, "let in");
                stream
            });
            let mut refused = self.connect(b"refused");
            let mut refusal = [0; 6];
            assert_eq!(self.read(&mut refused, &mut refusal), 6);
            assert_eq!(refusal[4..], [0, 2], "the server is full");
            drop((refused, streams));
            let heard = self.server;
            // Or one that said nothing before, and is only noticed now.
            self.until("it is out", |_| heard.rejected.load(SeqCst) > rejected);
        }
        self.all_are_out();
    }

    fn all_are_out(&mut self) {
        let heard = self.server;
        self.until("all are out", |_| heard.connected.load(SeqCst) == heard.disconnected.load(SeqCst) + 1);
    }

    fn peers_are_slow(&mut self) {
        for _ in 0..3 {
            let slow = self.server.slow.load(SeqCst);
            let mut stream = self.connect(b"slow-1");
            assert_eq!(self.read(&mut stream, &mut [0; 10]), 10);
            // It never reads on: a handler fills its ring, and so does the test.
            say(&mut stream, b"flood");
            let heard = self.server;
            self.until("it is cut", |world| {
                let _ = world.try_down("slow-1", &[7; 1000]);
                // On threads this one waits, until it is cut.
                let _ = world.down("slow-1", &[7; 1000]);
                heard.slow.load(SeqCst) > slow
            });
        }
    }

    fn handles_and_pauses(&mut self, up: &Peer, down: &Sender) {
        let peer = down.peer("client").expect("it is connected");
        for _ in 0..200 {
            let before = self.client.messages.load(SeqCst);
            up.pause().expect("open");
            self.until("room", |_| peer.try_send(b"by handle").is_ok());
            self.until("room", |_| down.try_send("client", b"by id").is_ok());
            up.resume().expect("open");
            let heard = self.client;
            self.until("both have come", |_| heard.messages.load(SeqCst) == before + 2);
            assert_eq!(down.try_send("nobody", b"x"), Err(SendError::UnknownPeer));
            assert!(matches!(up.try_send(&[0; 5000]), Err(SendError::TooLarge { .. })));
        }
    }
}

fn say(stream: &mut TcpStream, message: &[u8]) {
    let mut frame = [0; 300];
    frame[..4].copy_from_slice(&(message.len() as u32).to_le_bytes());
    frame[4..4 + message.len()].copy_from_slice(message);
    stream.write_all(&frame[..4 + message.len()]).expect("a socket with room");
}

fn config(driver: DriverKind, tls: bool) -> Config {
    static FILES: AtomicU64 = AtomicU64::new(0);
    let mut config = Config::default();
    config.driver = driver;
    // With counters that others can read, which is more than without; a client has a file of its own.
    let file = format!("zerio-allocations-{}-{}", std::process::id(), FILES.fetch_add(1, SeqCst));
    config.counters_file = Some(std::env::temp_dir().join(file));
    (config.message_max, config.send_ring, config.receive_buffer) = (4096, 16 * 1024, 8192);
    (config.sessions_max, config.socket_send_buffer) = (5, Some(4096));
    // A record fits beside a message that is not yet whole; only TLS asks for that.
    config.receive_buffer = if tls { 4100 + 16_645 } else { config.receive_buffer };
    config.slow_peer_timeout = Some(Duration::from_millis(100));
    (config.handshake_timeout, config.drain_timeout, config.send_timeout) = (PATIENCE, PATIENCE, PATIENCE);
    config
}

/// A server's, and a client's that trusts it.
fn certificates() -> (TlsServer, TlsClient) {
    let identity = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
    let (certificate, key) = (identity.cert.pem(), identity.signing_key.serialize_pem());
    let server = TlsServer::from_pem(certificate.as_bytes(), key.as_bytes()).expect("it can be used");
    (server, TlsClient::with_roots(certificate.as_bytes()).expect("it can be used"))
}

/// What may be allocated for each connection: nothing. But mio keeps a state for each socket that it watches
/// on Windows, in two pieces, and a third for each few sockets.
fn per_connection(driver: DriverKind) -> u64 {
    if cfg!(windows) && driver == DriverKind::Poll { 3 } else { 0 }
}

/// Counts what is allocated, and may not be, while everything happens that may.
fn allocations(
    driver: DriverKind,
    address: SocketAddr,
    world: &mut dyn World,
    heard: &[Arc<Heard>; 2],
    tls: bool,
    happens: fn(&mut Scene<'_>),
) -> u64 {
    ALLOCATIONS.store(0, SeqCst);
    let mut scene = Scene { world, address, server: &heard[0], client: &heard[1], steady: 0, tls };
    ARMED.store(true, SeqCst);
    happens(&mut scene);
    ARMED.store(false, SeqCst);
    let connections = heard[0].connected.load(SeqCst) + heard[0].rejected.load(SeqCst);
    let in_all = ALLOCATIONS.load(SeqCst);
    scene.steady.max(in_all.saturating_sub(per_connection(driver) * connections))
}

fn on_threads(driver: DriverKind, engines: usize, tls: bool) -> Result<u64, Error> {
    let heard = [Arc::<Heard>::default(), Arc::default()];
    let answers = |server: bool| Answers { heard: heard[usize::from(!server)].clone(), server };
    let mut with_engines = config(driver, tls);
    with_engines.engines = engines;
    let (of_server, of_client) = certificates();
    let mut server = Server::bind("127.0.0.1:0")?.config(with_engines);
    if tls {
        server = server.tls(of_server);
    }
    let server = server.start_each(|_| answers(true))?;
    let address = server.local_addr();
    let mut client = Client::connect(address, "client")?.config(config(driver, tls)).handler(answers(false));
    if tls {
        client = client.tls(of_client);
    }
    let mut world = OnThreads(server, client.start()?);
    let happens = |scene: &mut Scene<'_>| scene.all_that_may_happen_after_start();
    let count = allocations(driver, address, &mut world, &heard, tls, happens);
    assert_eq!(world.1.stop().undelivered.messages, 0);
    Ok(count)
}

fn in_polls(driver: DriverKind, tls: bool) -> Result<u64, Error> {
    let heard = [Arc::<Heard>::default(), Arc::default()];
    let answers = |server: bool| Answers { heard: heard[usize::from(!server)].clone(), server };
    let config = |driver| {
        let mut config = config(driver, tls);
        // Whichever is dropped first waits for the other, which nobody polls any more.
        config.drain_timeout = Duration::from_millis(50);
        config
    };
    let server = Server::bind("127.0.0.1:0")?.config(config(driver)).handler(answers(true));
    let (of_server, of_client) = certificates();
    let mut server = if tls { server.tls(of_server) } else { server }.start_polled()?;
    let address = server.local_addr();
    let client = Client::connect(address, "client")?.config(config(driver)).handler(answers(false));
    let mut client = if tls { client.tls(of_client) } else { client }.start_polled()?;
    while !client.is_connected() {
        server.poll()?;
        client.poll()?;
    }
    let happens = |scene: &mut Scene<'_>| scene.all_that_may_happen_after_start();
    Ok(allocations(driver, address, &mut InPolls(server, client), &heard, tls, happens))
}

/// What a limit lets in and keeps out, over and over.
type Limit = (&'static str, fn(&mut Config), fn(&mut Scene<'_>));

const LIMITS: [Limit; 3] = [
    ("per address", |c| c.connections_per_address = Some(2), |scene| scene.one_address_has_too_many()),
    (
        "per second",
        |c| (c.connections_per_second, c.connection_burst) = (Some(1), 2),
        |scene| scene.too_many_at_once(),
    ),
    ("silent", |c| c.handshakes_max = Some(2), |scene| scene.silent_ones_make_room()),
];

/// The same under TLS: somebody has begun a handshake, which may allocate, and is all that his address may have.
const LIMIT_UNDER_TLS: Limit = (
    "per address, under TLS",
    |c| (c.tls, c.receive_buffer, c.connections_per_address) = (true, 32 * 1024, Some(1)),
    |scene| scene.one_address_has_too_many_under_tls(),
);

impl Scene<'_> {
    /// A connection that says nothing hears this code.
    fn hears(&mut self, code: u8) -> bool {
        let mut stream = self.silent();
        let mut refusal = [0; 6];
        self.read(&mut stream, &mut refusal) == 6 && refusal[4..] == [0, code]
    }

    fn silent(&mut self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("a connection");
        stream.set_nonblocking(true).expect("no blocking");
        stream
    }

    fn one_address_has_too_many(&mut self) {
        for _ in 0..20 {
            // What comes and goes takes its place, each time.
            let gone = self.server.disconnected.load(SeqCst);
            let ids = [b"peer-0", b"peer-1"];
            let streams = ids.map(|id| {
                let mut stream = self.connect(id);
                assert_eq!(self.read(&mut stream, &mut [0; 10]), 10);
                stream
            });
            (0..5).for_each(|_| assert!(self.hears(8)));
            drop(streams);
            let heard = self.server;
            self.until("both have gone", |_| heard.disconnected.load(SeqCst) == gone + 2);
        }
    }

    fn one_address_has_too_many_under_tls(&mut self) {
        for _ in 0..100 {
            let (mut stream, mut alert) = (self.silent(), [0; 8]);
            assert_eq!(self.read(&mut stream, &mut alert), 7);
            assert_eq!(alert[..7], [21, 3, 3, 0, 2, 2, 49], "access_denied");
        }
    }

    fn too_many_at_once(&mut self) {
        let mut let_in = 0;
        let begun = Instant::now();
        for _ in 0..100 {
            let mut stream = self.connect(b"peer-0");
            let mut answer = [0; 10];
            // What a server says that closes at once may be lost over what the client has said.
            self.until("an answer, or the end", |_| match stream.read(&mut answer) {
                Err(error) => error.kind() != ErrorKind::WouldBlock,
                Ok(_) => true,
            });
            let_in += u64::from(answer[4] != 0);
        }
        assert!(let_in <= 3 + begun.elapsed().as_secs(), "{let_in} were let in");
    }

    fn silent_ones_make_room(&mut self) {
        let mut streams = [self.silent(), self.silent()];
        for round in 0..60 {
            let next = self.silent();
            let mut oldest = std::mem::replace(&mut streams[round % 2], next);
            let mut refusal = [0; 6];
            assert_eq!(self.read(&mut oldest, &mut refusal), 6);
            assert_eq!(refusal[4..], [0, 2]);
        }
    }
}

/// Counts what a server allocates while a limit is reached again and again.
fn at_a_limit(driver: DriverKind, limit: &Limit, polled: bool) -> Result<u64, Error> {
    struct Alone(Option<PolledServer<Answers>>);

    impl World for Alone {
        fn turn(&mut self) {
            match &mut self.0 {
                Some(server) => drop(server.poll().expect("the server runs")),
                None => std::thread::yield_now(),
            }
        }

        fn up(&mut self, _: &[u8]) -> Result<(), SendError> {
            Err(SendError::UnknownPeer)
        }

        fn up_in_place(&mut self) -> Result<(), SendError> {
            Err(SendError::UnknownPeer)
        }

        fn down(&mut self, _: &str, _: &[u8]) -> Result<(), SendError> {
            Err(SendError::UnknownPeer)
        }

        fn try_down(&mut self, _: &str, _: &[u8]) -> Result<(), SendError> {
            Err(SendError::UnknownPeer)
        }

        fn down_in_place(&mut self, _: &str) -> Result<(), SendError> {
            Err(SendError::UnknownPeer)
        }

        fn handles(&mut self) -> (Peer, Sender) {
            unreachable!("nobody asks for them")
        }
    }

    let heard = [Arc::<Heard>::default(), Arc::default()];
    let answers = Answers { heard: heard[0].clone(), server: true };
    let mut config = config(driver, false);
    // Those that were refused have not been read to the end by anybody.
    config.drain_timeout = Duration::from_millis(50);
    (limit.1)(&mut config);
    let tls = config.tls;
    let builder = Server::bind("127.0.0.1:0")?.config(config).handler(answers);
    let builder = if tls { builder.tls(certificates().0) } else { builder };
    let address = builder.local_addr();
    let (mut world, _server) = match polled {
        true => (Alone(Some(builder.start_polled()?)), None),
        false => (Alone(None), Some(builder.start()?)),
    };
    let _first = tls.then(|| begin_handshake(address, &mut world));
    let count = allocations(driver, address, &mut world, &heard, tls, limit.2);
    assert!(heard[0].rejected.load(SeqCst) >= 50 && heard[0].told.load(SeqCst) > 0, "{}", limit.0);
    Ok(count)
}

/// A connection whose handshake the server has answered, and waits for the rest of.
fn begin_handshake(address: SocketAddr, world: &mut dyn World) -> TcpStream {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.expect("versions").with_root_certificates(rustls::RootCertStore::empty());
    let name = "127.0.0.1".try_into().expect("a name");
    let tls = rustls::ClientConnection::new(Arc::new(config.with_no_client_auth()), name);
    let mut stream = TcpStream::connect(address).expect("a connection");
    tls.expect("a client").write_tls(&mut stream).expect("sent");
    stream.set_nonblocking(true).expect("no blocking");
    let begun = Instant::now();
    while !matches!(stream.read(&mut [0; 4096]), Ok(1..)) {
        world.turn();
        assert!(begun.elapsed() < PATIENCE, "no answer");
    }
    stream
}

/// Without the harness: its own thread would still be busy with starting the test when counting begins, now
/// and then, on a loaded machine.
fn main() {
    nothing_is_allocated_after_start();
    println!("nothing was allocated after start, over every driver that is here and both ways of driving");
}

fn nothing_is_allocated_after_start() {
    let drivers = [DriverKind::Poll, DriverKind::Uring, DriverKind::Rio, DriverKind::RioModel];
    for driver in drivers.into_iter().filter(|driver| is_here(*driver)) {
        let on_a_thread: fn(_) -> _ = |driver| on_threads(driver, 1, false);
        let on_two_threads: fn(_) -> _ = |driver| on_threads(driver, 2, false);
        let drives = [
            ("on a thread", on_a_thread),
            ("on two", on_two_threads),
            ("polled", |driver| in_polls(driver, false)),
            ("on a thread, under TLS", |driver| on_threads(driver, 1, true)),
            ("on two, under TLS", |driver| on_threads(driver, 2, true)),
            ("polled, under TLS", |driver| in_polls(driver, true)),
        ];
        for (drive, run) in drives {
            match run(driver) {
                Ok(0) => {}
                Ok(count) => {
                    let first = FIRST.lock().unwrap().take().unwrap_or_default();
                    panic!("{count} allocations with {driver}, {drive}; the first {first}");
                }
                Err(error) => panic!("{error}"),
            }
        }
        for (limit, polled) in
            LIMITS.iter().chain([&LIMIT_UNDER_TLS]).flat_map(|limit| [(limit, false), (limit, true)])
        {
            match at_a_limit(driver, limit, polled) {
                Ok(0) => {}
                Ok(count) => {
                    let first = FIRST.lock().unwrap().take().unwrap_or_default();
                    let (name, drive) = (limit.0, if polled { "polled" } else { "on a thread" });
                    panic!(
                        "{count} allocations with {driver}, {drive}, at the limit {name}; the first {first}"
                    );
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
    assert_eq!(zerio::rio_model::violations(), Vec::<String>::new());
    // The proof that it counts at all, on a thread that is nobody's.
    ARMED.store(true, SeqCst);
    let counted = std::thread::spawn(|| drop(std::hint::black_box(Box::new(1))));
    counted.join().unwrap();
    ARMED.store(false, SeqCst);
    assert!(ALLOCATIONS.load(SeqCst) > 0);
}
