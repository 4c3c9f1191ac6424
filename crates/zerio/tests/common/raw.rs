//! Peers made of bare sockets: what they read and when is the test's.
#![forbid(unsafe_code)]

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use socket2::{Domain, Socket, Type};

use super::PATIENCE;

/// One side of a session, by hand.
pub struct Raw(pub TcpStream);

impl Raw {
    /// A client that has been let in.
    pub fn connect(address: SocketAddr, id: &str) -> Raw {
        let mut raw = Raw(TcpStream::connect(address).expect("a connection"));
        raw.shake_hands(id);
        raw
    }

    /// The same, whose socket holds little of what it has not read.
    pub fn connect_small(address: SocketAddr, id: &str) -> Raw {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).expect("a socket");
        socket.set_recv_buffer_size(4096).expect("a small buffer");
        socket.connect(&address.into()).expect("a connection");
        let mut raw = Raw(socket.into());
        raw.shake_hands(id);
        raw
    }

    fn shake_hands(&mut self, id: &str) {
        self.0.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        self.0.set_nodelay(true).expect("no delay");
        self.send(id.as_bytes());
        assert_eq!(self.receive().as_deref(), Some(id.as_bytes()), "let in");
    }

    /// A server with one client, which it lets in.
    pub fn accept(listener: &TcpListener) -> Raw {
        let mut raw = Raw(listener.accept().expect("a connection").0);
        raw.0.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let id = raw.receive().expect("an id");
        raw.send(&id);
        raw
    }

    pub fn address(&self) -> SocketAddr {
        self.0.local_addr().expect("an address")
    }

    pub fn send(&mut self, message: &[u8]) {
        self.0.write_all(&frame(message)).expect("sent");
    }

    /// Several messages in one write.
    pub fn send_at_once(&mut self, messages: &[&[u8]]) {
        let frames: Vec<u8> = messages.iter().flat_map(|message| frame(message)).collect();
        self.0.write_all(&frames).expect("sent");
    }

    /// The next message; `None` at the other side's end.
    pub fn receive(&mut self) -> Option<Vec<u8>> {
        let mut header = [0; 4];
        match self.0.read_exact(&mut header) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return None,
            outcome => outcome.expect("a header"),
        }
        let mut message = vec![0; u32::from_le_bytes(header) as usize];
        self.0.read_exact(&mut message).expect("a message");
        Some(message)
    }

    /// Reads to the other side's end: the whole messages, and how many bytes there were in all.
    pub fn rest(&mut self) -> (Vec<Vec<u8>>, usize) {
        let (outcome, rest) = self.rest_and_how();
        outcome.expect("an orderly end");
        rest
    }

    /// The same, and how it ended.
    pub fn rest_and_how(&mut self) -> (io::Result<usize>, (Vec<Vec<u8>>, usize)) {
        let mut bytes = Vec::new();
        let outcome = self.0.read_to_end(&mut bytes);
        let (mut messages, mut rest) = (Vec::new(), &bytes[..]);
        while let Some((header, behind)) = rest.split_first_chunk::<4>() {
            let len = u32::from_le_bytes(*header) as usize;
            if behind.len() < len {
                break;
            }
            messages.push(behind[..len].to_vec());
            rest = &behind[len..];
        }
        (outcome, (messages, bytes.len()))
    }

    /// Tells the other side that nothing more comes.
    pub fn end(&mut self) {
        self.0.shutdown(std::net::Shutdown::Write).expect("shut down");
    }

    /// Goes without a word: the other side hears a reset.
    pub fn reset(self) {
        socket2::SockRef::from(&self.0).set_linger(Some(std::time::Duration::ZERO)).expect("no lingering");
    }
}

/// A message as it stands on the wire.
pub fn frame(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u32).to_le_bytes()[..], message].concat()
}
