//! Links that are cut, restored and throttled: a server and a client in two network namespaces of their own, with a
//! pair of virtual interfaces between them. It takes root and iproute2; without, each test says that it was
//! skipped, or fails where `ZERIO_REQUIRE` names `links`. What a test makes is gone when it ends, also where it fails.
#![cfg(target_os = "linux")]

mod hostile;

use std::fs::File;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hostile::skip::skipped;
use hostile::{Echo, Events, PATIENCE, RawPeer, config, drivers, until};
use zerio::{Client, Config, DriverKind, Reason, SendError, Server};

const PEER_TIMEOUT: Duration = Duration::from_secs(4);

/// What is promised is in seconds, as the systems count: so much may a machine that is never late be beyond it.
const SLACK: Duration = Duration::from_secs(1);

/// And so much sooner something may be noticed (docs/reliability.md).
const SOONER: Duration = Duration::from_millis(2500);

/// A cut that is to be outlasted, and the timeout that outlasts it, also where a busy machine is seconds late with the repair.
const SHORT_CUT: Duration = Duration::from_secs(1);
const PATIENT: Duration = Duration::from_secs(16);

/// Runs a command of iproute2; its complaint where it fails.
fn ip(command: &str) -> Result<(), String> {
    let mut words = command.split_whitespace();
    let mut process = Command::new(words.next().expect("a program"));
    let output = process.args(words).stdin(Stdio::null()).output();
    match output {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!("{command}: {}", String::from_utf8_lossy(&output.stderr).trim())),
        Err(error) => Err(format!("{command}: {error}")),
    }
}

/// Two namespaces with a link between them.
struct Net {
    near: String,
    far: String,
}

impl Net {
    const NEAR: &'static str = "10.213.7.1";

    /// `None`, with a word to whoever reads, where they can't be had.
    fn new() -> Option<Net> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = |side: &str| format!("zerio-{}-{number}-{side}", std::process::id());
        // Made before anything is: dropping it undoes what has been done by then.
        let net = Net { near: name("near"), far: name("far") };
        let (near, far) = (&net.near, &net.far);
        let steps = [
            format!("ip netns add {near}"),
            format!("ip netns add {far}"),
            format!("ip -n {near} link add link0 type veth peer name link0 netns {far}"),
            format!("ip -n {near} addr add {}/24 dev link0", Net::NEAR),
            format!("ip -n {far} addr add 10.213.7.2/24 dev link0"),
            format!("ip -n {near} link set lo up"),
            format!("ip -n {near} link set link0 up"),
            format!("ip -n {far} link set link0 up"),
        ];
        for step in &steps {
            if let Err(why) = ip(step) {
                skipped("links", format!("no network namespaces here (they take root and iproute2): {why}"));
                return None;
            }
        }
        net.await_link();
        Some(net)
    }

    /// Cuts the link on the far side: the near one is not told, and its interface stays up.
    fn cut(&self) {
        ip(&format!("ip -n {} link set link0 down", self.far)).unwrap();
    }

    fn restore(&self) {
        ip(&format!("ip -n {} link set link0 up", self.far)).unwrap();
        self.await_link();
    }

    /// A link that has just been set up drops packets for a while yet, on a machine that makes many of them longer than a
    /// connection's attempt may take by the peer timeout.
    fn await_link(&self) {
        let nobody: SocketAddr = format!("{}:9", Net::NEAR).parse().unwrap();
        let is_refused = || {
            let attempt = TcpStream::connect_timeout(&nobody, Duration::from_millis(250));
            attempt.is_err_and(|why| why.kind() == ErrorKind::ConnectionRefused).then_some(())
        };
        inside(&self.far, || until("an answer over the link", is_refused));
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        // With a namespace goes its end of the link, and with that the other end.
        for name in [&self.near, &self.far] {
            let _ = ip(&format!("ip netns del {name}"));
        }
    }
}

/// Does something on a thread that is in a namespace; the threads that it starts are there too.
fn inside<T: Send>(netns: &str, work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let there = scope.spawn(move || {
            let file = File::open(format!("/run/netns/{netns}")).unwrap();
            // SAFETY: it takes a descriptor, which is open, and changes nothing but this thread's namespace.
            assert_eq!(unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) }, 0);
            work()
        });
        there.join().unwrap()
    })
}

/// Does something, and tells besides how late this machine was meanwhile: by how much a thread that has next to nothing
/// to do overslept, at the most. Whoever notices something is as late now and then, and more than once on its way: the
/// system's timer, the engine, the test.
fn with_lateness<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    const NAP: Duration = Duration::from_millis(10);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let ticking = scope.spawn(|| {
            let mut latest = Duration::ZERO;
            while !over.load(Ordering::Acquire) {
                let begun = Instant::now();
                std::thread::sleep(NAP);
                latest = latest.max(begun.elapsed() - NAP);
            }
            latest
        });
        let done = work();
        over.store(true, Ordering::Release);
        (done, 3 * ticking.join().unwrap())
    })
}

/// A server on the near side that notes what it hears and echoes.
struct Near {
    server: Server,
    /// Its, and that of its clients.
    peer_timeout: Duration,
    events: Events,
}

/// A client on the far side that counts messages, each of which must have the number that is next.
struct Far {
    client: Client,
    next: Arc<AtomicU64>,
}

fn settings(driver: DriverKind, peer_timeout: Duration) -> Config {
    config(|c| {
        (c.driver, c.peer_timeout) = (driver, peer_timeout);
        (c.handshake_timeout, c.send_timeout, c.drain_timeout) = (PATIENCE, PATIENCE, PATIENCE);
    })
}

impl Near {
    fn start(net: &Net, driver: DriverKind, peer_timeout: Duration) -> Near {
        inside(&net.near, || {
            let events = Events::default();
            let server = Server::bind("0.0.0.0:0").unwrap().config(settings(driver, peer_timeout));
            let server = server.handler(Echo(events.clone())).start().unwrap();
            Near { server, peer_timeout, events }
        })
    }

    /// A client in this namespace comes by its loopback, one in the other by the link.
    fn client(&self, netns: &str, address: &str, id: &str, driver: DriverKind) -> Far {
        let next = Arc::new(AtomicU64::new(0));
        let counted = next.clone();
        let address = format!("{address}:{}", self.server.local_addr().port());
        let client = inside(netns, || {
            let client = Client::connect(address, id).unwrap().config(settings(driver, self.peer_timeout));
            let client = client.on_message(move |_, message| {
                let expected = counted.load(Ordering::Relaxed);
                assert_eq!(message[..8], expected.to_le_bytes(), "message {expected}, once and in its place");
                counted.store(expected + 1, Ordering::Release);
            });
            client.start().unwrap()
        });
        Far { client, next }
    }
}

impl Far {
    fn heard(&self) -> u64 {
        self.next.load(Ordering::Acquire)
    }

    fn waits_for(&self, count: u64) {
        until(&format!("message {count}"), || (self.heard() >= count).then_some(()));
    }
}

fn message(number: u64) -> [u8; 1000] {
    let mut message = [number as u8; 1000];
    message[..8].copy_from_slice(&number.to_le_bytes());
    message
}

#[test]
fn a_link_that_is_cut_for_less_than_the_peer_timeout_costs_no_message() {
    let Some(net) = Net::new() else { return };
    for driver in drivers() {
        let near = Near::start(&net, driver, PATIENT);
        let far = near.client(&net.far, Net::NEAR, "far", driver);
        let peer = near.server.peer("far").unwrap();
        let mut sent = 0;
        let mut send = |count| {
            for _ in 0..count {
                peer.send(&message(sent)).unwrap();
                sent += 1;
            }
            sent
        };
        far.waits_for(send(100));
        net.cut();
        let total = send(100);
        std::thread::sleep(SHORT_CUT);
        assert!(far.heard() < total, "nothing goes through a link that is cut");
        net.restore();
        far.waits_for(send(100));
        assert!(far.client.stop().undelivered.is_empty());
        assert_eq!(near.events.end_of("far").reason, Reason::PeerClosed);
    }
}

#[test]
fn a_link_that_is_cut_is_noticed_within_the_peer_timeout_with_messages_on_their_way_and_without() {
    let Some(net) = Net::new() else { return };
    for driver in drivers() {
        for streams in [true, false] {
            let near = Near::start(&net, driver, PEER_TIMEOUT);
            let far = near.client(&net.far, Net::NEAR, "far", driver);
            let peer = near.server.peer("far").unwrap();
            let spoke = Instant::now();
            peer.send(&message(0)).unwrap();
            far.waits_for(1);
            net.cut();
            let ((end, begun, noticed, there), late) = with_lateness(|| {
                let begun = Instant::now();
                if streams {
                    peer.send(&message(1)).unwrap();
                }
                // The far side, whose own interface is down, is to notice too.
                std::thread::scope(|scope| {
                    let far_ended = || (!far.client.is_connected()).then(|| begun.elapsed());
                    let there = scope.spawn(move || until("the client's end", far_ended));
                    (near.events.end_of("far"), begun, begun.elapsed(), there.join().unwrap())
                })
            });
            println!(
                "{driver}, streams {streams}: noticed after {noticed:.1?}, {end}; there after {there:.1?}; \
                 the machine was up to {late:.1?} late"
            );
            assert!(matches!(end.reason, Reason::Connection(_)), "{end}");
            let latest = PEER_TIMEOUT + SLACK + late;
            assert!(
                noticed.max(there) <= latest,
                "{noticed:?}, there {there:?}, and {latest:?} would be right"
            );
            // The last word on that link was before the cut.
            let soonest = (PEER_TIMEOUT - SOONER).saturating_sub(begun - spoke);
            assert!(
                noticed.min(there) >= soonest,
                "{noticed:?}, there {there:?}, and {soonest:?} would be right"
            );
            assert_eq!(peer.try_send(b"too late"), Err(SendError::Closed));
            net.restore();
            let again = near.client(&net.far, Net::NEAR, "again", driver);
            near.server.send("again", &message(0)).unwrap();
            again.waits_for(1);
        }
    }
}

/// Whether this kernel lets one bound the pauses between its probes (Linux 6.15).
fn bounds_pauses() -> bool {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let pause: libc::c_int = 1000;
    // SAFETY: the socket is open, and the call reads the four bytes of `pause` and keeps nothing.
    let outcome =
        unsafe { libc::setsockopt(socket.as_raw_fd(), libc::IPPROTO_TCP, 44, (&raw const pause).cast(), 4) };
    outcome == 0
}

#[test]
fn a_link_that_was_cut_to_a_peer_without_room_went_unnoticed_for_minutes() {
    if !bounds_pauses() {
        return eprintln!("SKIPPED: this kernel has no TCP_RTO_MAX_MS, and its probes become rare");
    }
    let Some(net) = Net::new() else { return };
    // Probes are the kernel's matter, whatever the driver.
    let near = Near::start(&net, DriverKind::Poll, PEER_TIMEOUT);
    let address = format!("{}:{}", Net::NEAR, near.server.local_addr().port());
    let _deaf = inside(&net.far, || RawPeer::welcome(address.parse().unwrap(), "deaf"));
    let peer = near.server.peer("deaf").unwrap();
    while peer.send_timeout(&message(0), PEER_TIMEOUT / 8).is_ok() {}
    // By now probes would come every 6 s, and with each that is not answered half as often.
    std::thread::sleep(2 * PEER_TIMEOUT);
    assert_eq!(peer.try_send(&message(0)), Err(SendError::Full), "it lives");
    net.cut();
    let begun = Instant::now();
    let end = near.events.end_of("deaf");
    println!("noticed after {:.1?}, {end}", begun.elapsed());
    assert!(matches!(end.reason, Reason::Connection(_)), "{end}");
}

#[test]
fn a_throttled_link_slows_its_own_peer_loses_nothing_and_slows_nobody_else() {
    const COUNT: u64 = 2000;
    // Behind what waits for the link an echo would take a large part of a second, and there would be four or five.
    const ECHOES: u64 = 10;
    let Some(net) = Net::new() else { return };
    // A megabyte a second, from the server to the far side.
    let throttle = "qdisc add dev link0 root tbf rate 8mbit burst 16kb latency 50ms";
    if let Err(why) = ip(&format!("tc -n {} {throttle}", net.near)) {
        return skipped("links", format!("no throttled link here (it takes tc and sch_tbf): {why}"));
    }
    for driver in drivers() {
        let near = Near::start(&net, driver, PEER_TIMEOUT);
        let far = near.client(&net.far, Net::NEAR, "far", driver);
        let beside = near.client(&net.near, "127.0.0.1", "beside", driver);
        let peer = near.server.peer("far").unwrap();
        let begun = Instant::now();
        let stream = std::thread::spawn(move || {
            for number in 0..COUNT {
                peer.send(&message(number)).unwrap();
            }
        });
        // Meanwhile the other one has its echoes, one by one.
        let mut echoes = 0;
        while far.heard() < COUNT {
            beside.client.send(&message(echoes)).unwrap();
            echoes += 1;
            beside.waits_for(echoes);
            assert!(begun.elapsed() < 2 * PATIENCE, "{} of {COUNT} after {:?}", far.heard(), begun.elapsed());
        }
        let lasted = begun.elapsed();
        stream.join().unwrap();
        println!("{driver}: {COUNT} messages in {lasted:.1?}, {echoes} echoes beside");
        assert!(lasted > Duration::from_secs(1), "the link was not throttled: {lasted:?}");
        assert!(echoes >= ECHOES, "{echoes} echoes beside: they were slowed too");
        assert!(far.client.stop().undelivered.is_empty());
        assert_eq!(near.events.end_of("far").reason, Reason::PeerClosed);
    }
}
