//! The same messages to many clients: a loop over ready buffers, and the clients of every server that does so.
#![forbid(unsafe_code)]

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use mio::{Events, Interest, Poll, Token};

use super::crowd;
use crate::failure::Failure;
use crate::job::{Job, Outcome, Said};
use crate::measure::{Counts, GRACE, Window};
use crate::role::say;
use crate::script::{self, kind};
use crate::system;
use crate::wire::{self, HEADER};

/// A client at the server: what is to be written to it.
struct Reader {
    stream: TcpStream,
    batch: Vec<u8>,
}

/// Adds each message to each client's batch, and writes a batch when it has so many messages as the job says.
pub(super) fn serve(job: &Job) -> Result<(), Failure> {
    let listener = system::listen()?;
    say(&Said::Ready { port: listener.local_addr()?.port(), driver: None });
    let mut readers = Vec::with_capacity(job.clients);
    let room = job.batch * (HEADER + job.size);
    while readers.len() < job.clients {
        let (mut stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        let mut header = [0; HEADER];
        stream.read_exact(&mut header)?;
        let mut hello = vec![0; u32::from_le_bytes(header) as usize];
        stream.read_exact(&mut hello)?;
        stream.write_all(&wire::frame(&hello))?;
        stream.set_nonblocking(true)?;
        readers.push(Reader { stream, batch: Vec::with_capacity(room) });
    }
    let mut message = script::message(job.size, kind::COUNTED);
    for number in 0.. {
        script::set_number(&mut message, number);
        for reader in &mut readers {
            wire::put(&message, &mut reader.batch);
            if reader.batch.len() >= room && !reader.flush() {
                return Ok(());
            }
        }
    }
    Ok(())
}

impl Reader {
    /// Writes the batch, trying again until the kernel has room; whether the client is still there.
    fn flush(&mut self) -> bool {
        let mut written = 0;
        while written < self.batch.len() {
            match self.stream.write(&self.batch[written..]) {
                Ok(bytes) => written += bytes,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => return false,
            }
        }
        self.batch.clear();
        true
    }
}

/// One receive brings so much at the most.
const READ: usize = 64 * 1024;

/// A client at the clients.
struct Client {
    stream: mio::net::TcpStream,
    /// A frame that has not come whole.
    rest: Vec<u8>,
    next: u64,
    counted: u64,
}

/// Receives on all connections, one after the other as they have something, and checks that no message is missing.
pub(super) fn receive(job: &Job) -> Result<Outcome, Failure> {
    let streams = crowd::join(job, 0..job.clients)?;
    say(&Said::Connected);
    let (mut poll, mut events) = (Poll::new()?, Events::with_capacity(1024));
    let mut clients = Vec::with_capacity(streams.len());
    for (index, stream) in streams.into_iter().enumerate() {
        stream.set_nonblocking(true)?;
        let mut stream = mio::net::TcpStream::from_std(stream);
        poll.registry().register(&mut stream, Token(index), Interest::READABLE)?;
        clients.push(Client { stream, rest: Vec::new(), next: 0, counted: 0 });
    }
    let mut buffer = vec![0; 2 * READ];
    let mut expected = script::message(job.size, kind::COUNTED);
    let mut window = Window::new(job);
    loop {
        poll.poll(&mut events, Some(GRACE)).or_else(crowd::interrupted)?;
        if events.is_empty() {
            return Err(Failure::new("no message came for a long time"));
        }
        let counts = window.look(Instant::now())?;
        if counts == Counts::Over {
            break;
        }
        for event in &events {
            let client = &mut clients[event.token().0];
            client.receive(&mut buffer, &mut expected, counts == Counts::Yes)?;
        }
    }
    let outcome = window.close()?;
    let shares: Vec<u64> = clients.iter().map(|client| client.counted).collect();
    let messages = shares.iter().sum();
    Ok(Outcome { messages, bytes: messages * job.size as u64, shares, ..outcome })
}

impl Client {
    /// Reads until the socket is empty, which a short read says.
    fn receive(&mut self, buffer: &mut [u8], expected: &mut [u8], counts: bool) -> Result<(), Failure> {
        loop {
            let kept = self.rest.len();
            buffer[..kept].copy_from_slice(&self.rest);
            let bytes = match self.stream.read(&mut buffer[kept..]) {
                Ok(0) => return Err(script::ended()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                outcome => outcome?,
            };
            let mut left = &buffer[..kept + bytes];
            while let Some((message, rest)) = wire::split(left) {
                script::set_number(expected, self.next);
                if !script::same(message, expected) {
                    return Err(script::wrong("a message"));
                }
                self.next += 1;
                self.counted += u64::from(counts);
                left = rest;
            }
            self.rest.clear();
            self.rest.extend_from_slice(left);
            if kept + bytes < buffer.len() {
                return Ok(());
            }
        }
    }
}
