//! Many clients, all in this process: the load for every server that speaks zerio's wire, the same for all.
#![forbid(unsafe_code)]

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};

use crate::failure::{During, Failure};
use crate::job::{Job, Outcome, Said};
use crate::measure::{Counts, GRACE, Window, histogram, latency, nanos};
use crate::role::say;
use crate::script::{self, kind};
use crate::system;
use crate::wire::{self, HEADER};

/// So many shake hands at once.
const AT_ONCE: usize = 256;

/// Connects clients and shakes hands for each.
pub(super) fn join(job: &Job, clients: std::ops::Range<usize>) -> Result<Vec<TcpStream>, Failure> {
    let address = job.address()?;
    let mut streams = Vec::with_capacity(clients.len());
    for first in clients.clone().step_by(AT_ONCE) {
        let some = first..clients.end.min(first + AT_ONCE);
        for client in some.clone() {
            let what = format_args!("client {client} of {} can't connect", clients.len());
            let mut stream = TcpStream::connect(address).during(what)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(GRACE))?;
            stream.write_all(&wire::frame(wire::id(client).as_bytes()))?;
            streams.push(stream);
        }
        for client in some {
            let stream = &mut streams[client - clients.start];
            greeted(stream, &wire::frame(wire::id(client).as_bytes()))
                .during(format_args!("client {client} was not greeted"))?;
        }
    }
    Ok(streams)
}

fn greeted(stream: &mut TcpStream, hello: &[u8]) -> Result<(), Failure> {
    let mut answer = vec![0; hello.len()];
    stream.read_exact(&mut answer)?;
    if answer == hello { Ok(()) } else { Err(script::wrong("the server's greeting")) }
}

/// A client with one message out.
struct Client {
    stream: mio::net::TcpStream,
    due: Instant,
    number: u64,
    /// What has come of the answer.
    got: usize,
    answer: Vec<u8>,
}

pub(super) fn echoed(job: &Job) -> Result<Outcome, Failure> {
    if job.senders > 1 {
        return by_threads(job);
    }
    let streams = join(job, 0..job.clients)?;
    say(&Said::Connected);
    Ok(load(job, streams)?.0)
}

/// As many threads as there are senders, each with its share of the clients.
fn by_threads(job: &Job) -> Result<Outcome, Failure> {
    let mut all = join(job, 0..job.clients)?;
    say(&Said::Connected);
    let share = job.clients.div_ceil(job.senders);
    std::thread::scope(|scope| {
        let mut threads = Vec::new();
        while !all.is_empty() {
            let streams = all.split_off(all.len().saturating_sub(share));
            threads.push(scope.spawn(move || load(job, streams)));
        }
        let mut sum: Option<(Outcome, hdrhistogram::Histogram<u64>)> = None;
        for thread in threads {
            let joined = thread.join().unwrap_or_else(|_| Err(Failure::new("a thread of the load panicked")));
            let (outcome, latencies) = joined?;
            match &mut sum {
                None => sum = Some((outcome, latencies)),
                Some((whole, histogram)) => {
                    whole.messages += outcome.messages;
                    whole.bytes += outcome.bytes;
                    histogram.add(latencies).map_err(Failure::new)?;
                }
            }
        }
        let (outcome, histogram) = sum.ok_or_else(|| Failure::new("there were no clients"))?;
        Ok(Outcome { latency: Some(latency(&histogram)), ..outcome })
    })
}

fn load(job: &Job, streams: Vec<TcpStream>) -> Result<(Outcome, hdrhistogram::Histogram<u64>), Failure> {
    let (mut poll, mut events) = (Poll::new()?, Events::with_capacity(1024));
    let mut frame = wire::frame(&script::message(job.size, kind::ECHO));
    let mut clients = Vec::with_capacity(streams.len());
    for (index, stream) in streams.into_iter().enumerate() {
        stream.set_nonblocking(true)?;
        let mut stream = mio::net::TcpStream::from_std(stream);
        poll.registry().register(&mut stream, Token(index), Interest::READABLE)?;
        // Room for more than can come, so that a read that empties the socket is seen to.
        let answer = vec![0; frame.len() + 1];
        clients.push(Client { stream, due: Instant::now(), number: 0, got: 0, answer });
    }
    let mut latencies = histogram()?;
    let mut window = Window::new(job);
    for client in &mut clients {
        client.send(&mut frame)?;
    }
    loop {
        poll.poll(&mut events, Some(GRACE)).or_else(interrupted)?;
        if events.is_empty() {
            return Err(Failure::new("no answer came for a long time"));
        }
        for event in &events {
            let client = &mut clients[event.token().0];
            if !client.receive()? {
                continue;
            }
            let now = Instant::now();
            script::set_number(&mut frame[HEADER..], client.number);
            if !script::same(&client.answer[HEADER..frame.len()], &frame[HEADER..]) {
                return Err(script::wrong("an answer"));
            }
            match window.look(now)? {
                Counts::Not => {}
                Counts::Yes => latencies.saturating_record(nanos(client.due, now)),
                Counts::Over => {
                    let messages = latencies.len();
                    let bytes = messages * job.size as u64;
                    let closed = window.close()?;
                    let outcome = Outcome { messages, bytes, latency: Some(latency(&latencies)), ..closed };
                    return Ok((outcome, latencies));
                }
            }
            (client.got, client.due) = (0, now);
            client.number += 1;
            client.send(&mut frame)?;
        }
    }
}

pub(super) fn interrupted(error: std::io::Error) -> Result<(), std::io::Error> {
    if error.kind() == ErrorKind::Interrupted { Ok(()) } else { Err(error) }
}

impl Client {
    /// With one message out there is always room for it in the kernel.
    fn send(&mut self, frame: &mut [u8]) -> Result<(), Failure> {
        script::set_number(&mut frame[HEADER..], self.number);
        match self.stream.write(frame)? {
            all if all == frame.len() => Ok(()),
            _ => Err(Failure::new("the kernel has no room for one message")),
        }
    }

    /// Whether its answer is whole.
    fn receive(&mut self) -> Result<bool, Failure> {
        let whole = self.answer.len() - 1;
        match self.stream.read(&mut self.answer[self.got..]) {
            Ok(0) => Err(script::ended()),
            Ok(bytes) => {
                self.got += bytes;
                if self.got > whole { Err(script::wrong("an answer")) } else { Ok(self.got == whole) }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// Connects, shakes hands, sends one message and closes, one client after the other.
pub(super) fn connect(job: &Job) -> Result<Outcome, Failure> {
    let (address, message) = (job.address()?, wire::frame(&script::message(job.size, kind::COUNTED)));
    say(&Said::Connected);
    let mut latencies = histogram()?;
    let mut window = Window::new(job);
    let mut connected = 0;
    let mut due = Instant::now();
    loop {
        visit(at(address, connected), &message, connected)?;
        connected += 1;
        let now = Instant::now();
        match window.look(now)? {
            Counts::Not => {}
            Counts::Yes => latencies.saturating_record(nanos(due, now)),
            Counts::Over => break,
        }
        due = now;
    }
    let messages = latencies.len();
    let outcome = Outcome { messages, latency: Some(latency(&latencies)), ..window.close()? };
    all_arrived(address, job, connected)?;
    Ok(outcome)
}

/// The server's address by one of several names: a port of this side is not given again to the same name for a
/// minute after it was closed, and there are only 28,000.
pub(crate) fn at(address: SocketAddr, client: u64) -> SocketAddr {
    let mut address = address;
    address.set_ip(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 1 + (client % 8) as u8)));
    address
}

fn visit(address: SocketAddr, message: &[u8], client: u64) -> Result<(), Failure> {
    let mut stream = TcpStream::connect(address).during(format_args!("client {client} can't connect"))?;
    stream.set_nodelay(true)?;
    let hello = wire::frame(wire::id(client as usize).as_bytes());
    stream.write_all(&hello)?;
    greeted(&mut stream, &hello).during(format_args!("client {client} was not greeted"))?;
    stream.write_all(message)?;
    Ok(())
}

/// Asks the server until it has counted all messages: one that was sent just now may still be on its way.
pub(crate) fn all_arrived(address: SocketAddr, job: &Job, sent: u64) -> Result<(), Failure> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(GRACE))?;
    let hello = wire::frame(b"the one who asks");
    stream.write_all(&hello)?;
    greeted(&mut stream, &hello)?;
    let end = wire::frame(&script::message(job.size, kind::END));
    let begun = Instant::now();
    loop {
        stream.write_all(&end)?;
        let mut answer = [0; HEADER + size_of::<script::Answer>()];
        stream.read_exact(&mut answer)?;
        let counted = script::counted(&answer[HEADER..])?;
        if counted == sent {
            return Ok(());
        }
        if counted > sent || begun.elapsed() > GRACE {
            return Err(Failure::new(format_args!("{sent} messages were sent, and {counted} arrived")));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Connects all clients, and lets them be.
pub(super) fn hold(job: &Job) -> Result<Outcome, Failure> {
    let process = job.listening()?.process;
    let before = system::resident_of(process)?;
    let streams = join(job, 0..job.clients)?;
    say(&Said::Connected);
    // What connecting has left to do is done by then.
    std::thread::sleep(job.warm_up.max(Duration::from_millis(50)));
    let after = system::resident_of(process)?;
    let (begun, cpu) = (Instant::now(), system::cpu_of(process)?);
    std::thread::sleep(job.run);
    let server_cpu = Some(system::cpu_of(process)?.saturating_sub(cpu));
    let seconds = begun.elapsed().as_secs_f64();
    drop(streams);
    Ok(Outcome { seconds, server_cpu, resident: Some((before, after)), ..Outcome::default() })
}
