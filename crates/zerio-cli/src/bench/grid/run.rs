//! One test of a grid. Each client sends by its own clock: a burst is stamped with the time that it was due, not with the
//! one that it was sent at, so what had to wait for a slow answer counts as slow. The servers send back what comes.
#![forbid(unsafe_code)]

use std::io::{BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use hdrhistogram::Histogram;
use zerio::{Client, Context, Handler, Server};

use super::{LOOK, Test, Transport, host, interrupted};
use crate::failure::Failure;
use crate::interrupt;

/// So long after the last answer nobody expects another.
const PATIENCE: Duration = Duration::from_secs(5);

/// Before a burst is due a thread that sleeps might be late: then it yields.
const EARLY: Duration = Duration::from_micros(200);

/// What a message carries in front: when it was due, in ns since the start of its test.
pub(super) const STAMP: usize = size_of::<u64>();

/// The longest time that counts as itself, in ns.
const LONGEST: u64 = 60_000_000_000;

/// What a test came to.
pub(super) struct Outcome {
    pub(super) started: SystemTime,
    pub(super) ended: SystemTime,
    /// From the first burst to the last answer.
    took: Duration,
    /// From when a message was due until its answer, in ns.
    pub(super) times: Histogram<u64>,
}

impl Outcome {
    pub(super) fn new(started: SystemTime, took: Duration, times: Histogram<u64>) -> Outcome {
        Outcome { started, ended: started + took, took, times }
    }

    /// How many answers came in a second.
    pub(super) fn per_second(&self) -> f64 {
        self.times.len() as f64 / self.took.as_secs_f64().max(1e-9)
    }
}

/// What a client has heard, for whoever waits for the end.
#[derive(Clone)]
struct Heard {
    begun: Instant,
    times: Arc<Mutex<Histogram<u64>>>,
    answers: Arc<AtomicU64>,
    /// When the last one came, in ns since the start.
    last: Arc<AtomicU64>,
}

impl Heard {
    fn new(begun: Instant) -> Result<Heard, Failure> {
        let times = Histogram::new_with_bounds(1, LONGEST, 3).map_err(Failure::new)?;
        Ok(Heard { begun, times: Arc::new(Mutex::new(times)), answers: Arc::default(), last: Arc::default() })
    }

    fn answer(&self, message: &[u8]) {
        let Some(stamp) = message.first_chunk() else { return };
        let now = self.begun.elapsed().as_nanos() as u64;
        let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        times.saturating_record(now.saturating_sub(u64::from_le_bytes(*stamp)));
        drop(times);
        self.last.store(now, Ordering::Relaxed);
        self.answers.fetch_add(1, Ordering::Relaxed);
    }
}

impl Handler for Heard {
    fn on_message(&mut self, _: &mut Context<'_>, message: &[u8]) {
        self.answer(message);
    }
}

/// Runs a test to its last answer, or until none has come for a while; one that is interrupted comes to nothing. Its servers are those of the hosts, each over
/// zerio and over plain TCP, or, where there are none, in this process.
pub(super) fn run(transport: Transport, test: &Test, hosts: &[[SocketAddr; 2]]) -> Result<Outcome, Failure> {
    match transport {
        Transport::Zerio => over_zerio(test, hosts.iter().map(|[zerio, _]| *zerio).collect()),
        Transport::Tcp => over_tcp(test, hosts.iter().map(|[_, tcp]| *tcp).collect()),
    }
}

/// What to look at where hosts did not take what was sent to them.
fn hint(hosts: &[SocketAddr]) -> &'static str {
    if hosts.is_empty() { "" } else { "; has the host the same --servers, and --size as large?" }
}

/// A port of this machine that is free.
const HERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

fn over_zerio(test: &Test, mut addresses: Vec<SocketAddr>) -> Result<Outcome, Failure> {
    let mut config = host::config(test.size);
    config.sessions_max = usize::from(test.clients);
    let (hint, mut here) = (hint(&addresses), Vec::new());
    if addresses.is_empty() {
        here = (0..test.servers).map(|_| host::zerio(HERE, config.clone())).collect::<Result<_, _>>()?;
        addresses = here.iter().map(Server::local_addr).collect();
    }
    let outcome = measure(test, &addresses, |address, number, heard| {
        let client = Client::connect(address, &format!("client-{number}"))?.config(config.clone());
        let client = client.handler(heard).start()?;
        Ok(move |message: &[u8]| {
            client
                .send(message)
                .map_err(|error| Failure::new(format!("a send to {address} failed: {error}{hint}")))
        })
    });
    drop(here);
    outcome
}

fn over_tcp(test: &Test, mut addresses: Vec<SocketAddr>) -> Result<Outcome, Failure> {
    let hint = hint(&addresses);
    if addresses.is_empty() {
        let clients = usize::from(test.clients);
        addresses = (0..test.servers).map(|_| host::tcp(HERE, clients)).collect::<Result<_, _>>()?;
    }
    let size = test.size;
    measure(test, &addresses, |address, _, heard| {
        let connected = TcpStream::connect(address);
        let stream =
            connected.map_err(|error| Failure::new(format!("can't connect to {address}: {error}")))?;
        stream.set_nodelay(true)?;
        let answers = stream.try_clone()?;
        std::thread::spawn(move || {
            let (mut answers, mut message) = (BufReader::with_capacity(64 * 1024, answers), vec![0; size]);
            while answers.read_exact(&mut message).is_ok() {
                heard.answer(&message);
            }
        });
        let mut stream = Sending(stream);
        Ok(move |message: &[u8]| {
            let sent = stream.0.write_all(message);
            sent.map_err(|error| Failure::new(format!("a send over TCP to {address} failed: {error}{hint}")))
        })
    })
}

/// A connection that ends for those who read it, too, when it is dropped.
struct Sending(TcpStream);

impl Drop for Sending {
    fn drop(&mut self) {
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

/// Connects all clients, and lets each send by its own clock.
fn measure<S: FnMut(&[u8]) -> Result<(), Failure> + Send>(
    test: &Test,
    servers: &[SocketAddr],
    connect: impl Fn(SocketAddr, usize, Heard) -> Result<S, Failure>,
) -> Result<Outcome, Failure> {
    let epoch = Instant::now();
    let mut clients = Vec::new();
    for &address in servers {
        for number in 0..usize::from(test.clients) {
            let heard = Heard::new(epoch)?;
            clients.push((connect(address, number, heard.clone())?, heard));
        }
    }
    let (started, start) = (SystemTime::now(), epoch.elapsed());
    let sent = std::thread::scope(|scope| {
        let senders: Vec<_> = clients
            .iter_mut()
            .map(|(send, _)| scope.spawn(move || send_all(test, epoch, start, send)))
            .collect();
        senders.into_iter().map(|sender| sender.join().unwrap_or(Err(Failure::new("a sender died")))).sum()
    });
    let sent: Result<u64, Failure> = sent;
    let sent = sent?;
    let heard = || clients.iter().map(|(_, heard)| heard.answers.load(Ordering::Relaxed)).sum::<u64>();
    let (mut known, mut since) = (heard(), Instant::now());
    while known < sent && since.elapsed() < PATIENCE && !interrupt::seen() {
        std::thread::sleep(Duration::from_millis(1));
        if heard() > known {
            (known, since) = (heard(), Instant::now());
        }
    }
    if interrupt::seen() {
        return Err(interrupted());
    }
    let last = clients.iter().map(|(_, heard)| heard.last.load(Ordering::Relaxed)).max().unwrap_or(0);
    let mut times = Histogram::new_with_bounds(1, LONGEST, 3).map_err(Failure::new)?;
    for (_, heard) in &clients {
        times += &*heard.times.lock().unwrap_or_else(PoisonError::into_inner);
    }
    let took = Duration::from_nanos(last).saturating_sub(start);
    Ok(Outcome::new(started, took, times))
}

/// All bursts of a client. Gives how many messages that were.
fn send_all(
    test: &Test,
    epoch: Instant,
    start: Duration,
    send: &mut impl FnMut(&[u8]) -> Result<(), Failure>,
) -> Result<u64, Failure> {
    let mut message: Vec<u8> = (0..test.size).map(|at| at as u8).collect();
    let mut sent = 0;
    for burst in 0..test.bursts() {
        let due = start + Duration::from_nanos(test.delay.as_nanos() as u64 * burst);
        loop {
            if interrupt::seen() {
                return Ok(sent);
            }
            match due.saturating_sub(epoch.elapsed()) {
                Duration::ZERO => break,
                left if left > EARLY => std::thread::sleep((left - EARLY).min(LOOK)),
                _ => std::thread::yield_now(),
            }
        }
        message[..STAMP].copy_from_slice(&(due.as_nanos() as u64).to_le_bytes());
        for _ in 0..test.burst {
            send(&message)?;
        }
        sent += u64::from(test.burst);
    }
    Ok(sent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_of_a_test_is_answered_over_either_transport() {
        let (delay, time) = (Duration::from_millis(5), Duration::from_millis(50));
        let test = Test { size: 100, delay, burst: 3, time, servers: 2, clients: 2 };
        for transport in [Transport::Zerio, Transport::Tcp] {
            let outcome = run(transport, &test, &[]).unwrap();
            assert_eq!(outcome.times.len(), 10 * 3 * 4, "{transport}");
            assert!(outcome.took >= Duration::from_millis(45) && outcome.times.min() > 0, "{transport}");
            assert!(outcome.per_second() > 0.0 && outcome.ended > outcome.started);
        }
    }

    #[test]
    fn a_send_that_failed_was_told_as_a_refused_socket() {
        let host = std::net::TcpListener::bind(HERE).unwrap();
        let address = host.local_addr().unwrap();
        // It takes the connection, and nothing that comes over it.
        let leaves = std::thread::spawn(move || drop(host.accept()));
        let (delay, time) = (Duration::from_millis(1), Duration::from_secs(60));
        let test = Test { size: 100, delay, burst: 1, time, servers: 1, clients: 1 };
        match run(Transport::Tcp, &test, &[[address, address]]).map(|_| ()) {
            Err(Failure::Failed(why)) => {
                assert!(why.starts_with(&format!("a send over TCP to {address} failed: ")), "{why}");
                assert!(why.ends_with("the same --servers, and --size as large?"), "{why}");
            }
            other => panic!("{other:?}"),
        }
        leaves.join().unwrap();
    }

    #[test]
    fn an_answer_that_was_late_counts_from_when_its_message_was_due() {
        let heard = Heard::new(Instant::now() - Duration::from_secs(2)).unwrap();
        heard.answer(&1_000_000_000u64.to_le_bytes());
        heard.answer(b"short");
        let times = heard.times.lock().unwrap();
        assert_eq!((times.len(), times.max() / 100_000_000), (1, 10), "a second, from one to two");
    }
}
