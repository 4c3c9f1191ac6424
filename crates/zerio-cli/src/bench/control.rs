//! Bare sockets that do a run's work without zerio: what it is measured against. Frames are the same,
//! TCP_NODELAY is set, and there is nothing in between: no ring, no session, no event.
#![forbid(unsafe_code)]

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::SyncSender;

use super::harness::GRACE;

/// Bytes of the length before each message.
pub(super) const HEADER: usize = 4;

/// A stream of framed messages over one socket.
pub(super) struct Framed {
    stream: TcpStream,
    /// Reads and writes are tried again at once instead of waiting in the kernel.
    spins: bool,
    buffer: Vec<u8>,
    /// What is in the buffer and was not taken yet.
    from: usize,
    to: usize,
}

impl Framed {
    /// Accepts one connection, on a port that it tells through `address`.
    pub(super) fn accept(address: &SyncSender<SocketAddr>, room: usize, spins: bool) -> io::Result<Framed> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        // It fails only where the client has ended already; then nobody connects, which `accept` would
        // wait for.
        address.send(listener.local_addr()?).map_err(|_| ErrorKind::ConnectionAborted)?;
        Framed::new(listener.accept()?.0, room, spins)
    }

    pub(super) fn connect(address: SocketAddr, room: usize, spins: bool) -> io::Result<Framed> {
        Framed::new(TcpStream::connect(address)?, room, spins)
    }

    fn new(stream: TcpStream, room: usize, spins: bool) -> io::Result<Framed> {
        stream.set_nodelay(true)?;
        stream.set_nonblocking(spins)?;
        // So that a run whose other side has died ends.
        stream.set_read_timeout(Some(GRACE))?;
        stream.set_write_timeout(Some(GRACE))?;
        Ok(Framed { stream, spins, buffer: vec![0; room], from: 0, to: 0 })
    }

    /// The next frame, header included, by one read where it comes whole; `None` at the end.
    #[inline]
    pub(super) fn read_frame(&mut self) -> io::Result<Option<&[u8]>> {
        loop {
            if let Some(frame) = self.framed() {
                let start = self.from;
                self.from += frame;
                return Ok(Some(&self.buffer[start..start + frame]));
            }
            if self.read_some()? == 0 {
                return Ok(None);
            }
        }
    }

    /// The length of the first frame in the buffer, if it is whole.
    #[inline]
    fn framed(&self) -> Option<usize> {
        let bytes = &self.buffer[self.from..self.to];
        let header = bytes.first_chunk::<HEADER>()?;
        let frame = HEADER + u32::from_le_bytes(*header) as usize;
        (frame <= bytes.len()).then_some(frame)
    }

    /// Reads once, as much as comes. What is left of a frame moves to the front.
    fn read_some(&mut self) -> io::Result<usize> {
        if self.from > 0 {
            self.buffer.copy_within(self.from..self.to, 0);
            (self.from, self.to) = (0, self.to - self.from);
        }
        loop {
            match self.stream.read(&mut self.buffer[self.to..]) {
                Err(error) if again(self.spins, &error) => {}
                outcome => {
                    let bytes = outcome?;
                    self.to += bytes;
                    return Ok(bytes);
                }
            }
        }
    }

    /// Writes all of it, by one call where the kernel has room.
    #[inline]
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        write(&mut self.stream, self.spins, bytes)
    }

    /// Sends each frame back, until the end.
    pub(super) fn echo(&mut self) -> io::Result<()> {
        while let Some(frame) = self.read_frame()?.map(<[u8]>::len) {
            // It is still where it was: only reading on moves it.
            write(&mut self.stream, self.spins, &self.buffer[self.from - frame..self.from])?;
        }
        Ok(())
    }
}

#[inline]
fn write(stream: &mut TcpStream, spins: bool, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match stream.write(bytes) {
            Err(error) if again(spins, &error) => {}
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            outcome => bytes = &bytes[outcome?..],
        }
    }
    Ok(())
}

fn again(spins: bool, error: &io::Error) -> bool {
    error.kind() == ErrorKind::Interrupted || (spins && error.kind() == ErrorKind::WouldBlock)
}

/// A message with its header.
pub(super) fn frame(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u32).to_le_bytes(), message].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::sync_channel;

    #[test]
    fn frames_come_back_whole_whether_it_spins_or_blocks() {
        for spins in [false, true] {
            let (address, its_address) = sync_channel(1);
            std::thread::scope(|scope| {
                let server = scope.spawn(move || Framed::accept(&address, 64, spins)?.echo());
                let mut client = Framed::connect(its_address.recv().unwrap(), 64, spins).unwrap();
                let frames = [frame(b"one"), frame(b""), frame(&[7; 60])];
                client.write(&frames.concat()).unwrap();
                for expected in &frames {
                    assert_eq!(client.read_frame().unwrap(), Some(&expected[..]));
                }
                drop(client);
                server.join().unwrap().unwrap();
            });
        }
    }
}
