//! A server for many clients on one epoll loop, one thread. Readiness comes as edges, which spares the kernel a
//! second look at each socket; a read that brings less than there was room for has emptied it.
#![forbid(unsafe_code)]

use std::io::{ErrorKind, Read, Write};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

use crate::failure::Failure;
use crate::job::Said;
use crate::role::say;
use crate::system;
use crate::wire;

const LISTENER: Token = Token(usize::MAX - 1);

/// One receive brings so much at the most.
const READ: usize = 64 * 1024;

struct Connection {
    stream: TcpStream,
    /// A frame that has not come whole.
    rest: Vec<u8>,
    /// What the kernel had no room for.
    out: Vec<u8>,
    /// Its first frame has come, and has gone back.
    greeted: bool,
}

/// What all connections share.
struct Scratch {
    read: Vec<u8>,
    write: Vec<u8>,
}

/// Hands each message to `on_message`, with a place for what is to go back: all that one read has brought goes
/// back with one write.
pub(super) fn serve(mut on_message: impl FnMut(&[u8], &mut Vec<u8>)) -> Result<(), Failure> {
    let listener = system::listen()?;
    listener.set_nonblocking(true)?;
    let port = listener.local_addr()?.port();
    let mut listener = TcpListener::from_std(listener);
    let (mut poll, mut events) = (Poll::new()?, Events::with_capacity(1024));
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    say(&Said::Ready { port, driver: None });

    let mut connections: Vec<Option<Connection>> = Vec::new();
    let mut free = Vec::new();
    let mut scratch = Scratch { read: vec![0; READ], write: Vec::with_capacity(READ) };
    loop {
        if let Err(error) = poll.poll(&mut events, None)
            && error.kind() != ErrorKind::Interrupted
        {
            return Err(error.into());
        }
        for event in &events {
            if event.token() == LISTENER {
                accept(&listener, &poll, &mut connections, &mut free)?;
                continue;
            }
            let index = event.token().0;
            let Some(place) = connections.get_mut(index) else { continue };
            let Some(connection) = place else { continue };
            let lives = connection.flush()
                && (!event.is_readable()
                    || connection.receive(event.is_read_closed(), &mut scratch, &mut on_message));
            if !lives {
                *place = None;
                free.push(index);
            }
        }
    }
}

fn accept(
    listener: &TcpListener,
    poll: &Poll,
    connections: &mut Vec<Option<Connection>>,
    free: &mut Vec<usize>,
) -> Result<(), Failure> {
    loop {
        let mut stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            // It had gone before it was accepted.
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
            Err(error) => return Err(error.into()),
        };
        stream.set_nodelay(true)?;
        let index = free.pop().unwrap_or_else(|| {
            connections.push(None);
            connections.len() - 1
        });
        let interest = Interest::READABLE | Interest::WRITABLE;
        poll.registry().register(&mut stream, Token(index), interest)?;
        connections[index] = Some(Connection { stream, rest: Vec::new(), out: Vec::new(), greeted: false });
    }
}

impl Connection {
    /// Reads what has come and answers it; whether the connection lives on. `to_end` says that its end has come too,
    /// which only a read of nothing confirms.
    fn receive(
        &mut self,
        to_end: bool,
        scratch: &mut Scratch,
        on_message: &mut impl FnMut(&[u8], &mut Vec<u8>),
    ) -> bool {
        loop {
            let kept = self.rest.len();
            if scratch.read.len() < kept + READ {
                scratch.read.resize(kept + READ, 0);
            }
            scratch.read[..kept].copy_from_slice(&self.rest);
            let room = scratch.read.len() - kept;
            let bytes = match self.stream.read(&mut scratch.read[kept..]) {
                Ok(0) => return false,
                Ok(bytes) => bytes,
                Err(error) => return error.kind() == ErrorKind::WouldBlock,
            };
            let mut left = &scratch.read[..kept + bytes];
            while let Some((message, rest)) = wire::split(left) {
                if std::mem::replace(&mut self.greeted, true) {
                    on_message(message, &mut scratch.write);
                } else {
                    wire::put(message, &mut scratch.write);
                }
                left = rest;
            }
            self.rest.clear();
            self.rest.extend_from_slice(left);
            if !self.answer(&mut scratch.write) {
                return false;
            }
            if bytes < room && !to_end {
                return true;
            }
        }
    }

    /// Writes it, and keeps what the kernel has no room for.
    fn answer(&mut self, bytes: &mut Vec<u8>) -> bool {
        let mut written = 0;
        while self.out.is_empty() && written < bytes.len() {
            match self.stream.write(&bytes[written..]) {
                Ok(some) => written += some,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => return false,
            }
        }
        self.out.extend_from_slice(&bytes[written..]);
        bytes.clear();
        true
    }

    /// Writes what was kept; whether the connection lives on.
    fn flush(&mut self) -> bool {
        if self.out.is_empty() {
            return true;
        }
        let mut kept = std::mem::take(&mut self.out);
        self.answer(&mut kept)
    }
}
