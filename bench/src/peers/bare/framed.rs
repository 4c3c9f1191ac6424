//! Frames over one socket, which spins or blocks.
#![forbid(unsafe_code)]

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use crate::failure::Failure;
use crate::measure::GRACE;
use crate::wire::{self, HEADER};

/// A socket that takes all that it is given.
pub(super) struct Out {
    stream: TcpStream,
    /// What can't be had at once is tried again at once instead of waited for in the kernel.
    spins: bool,
}

impl Out {
    /// Writes all of it, by one call where the kernel has room.
    #[inline]
    pub(super) fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.stream.write(bytes) {
                Err(error) if again(self.spins, &error) => {}
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                outcome => bytes = &bytes[outcome?..],
            }
        }
        Ok(())
    }
}

/// A socket that gives whole messages.
pub(super) struct In {
    stream: TcpStream,
    spins: bool,
    buffer: Vec<u8>,
    /// What is in the buffer and was not taken yet.
    from: usize,
    to: usize,
}

impl In {
    /// The next message, if there is a whole one in the buffer already.
    #[inline]
    pub(super) fn at_hand(&mut self) -> Option<&[u8]> {
        let length = self.whole()?;
        let start = self.from + HEADER;
        self.from = start + length;
        Some(&self.buffer[start..start + length])
    }

    /// The next message, if there is a whole one in the buffer or one read brings it; `None` says that nothing has
    /// come, and only where it spins.
    #[inline]
    pub(super) fn try_next(&mut self) -> Result<Option<&[u8]>, Failure> {
        if self.whole().is_none() {
            self.read_some()?;
        }
        Ok(self.at_hand())
    }

    /// The next message.
    #[inline]
    pub(super) fn next(&mut self) -> Result<&[u8], Failure> {
        while self.whole().is_none() {
            self.read_some()?;
        }
        let length = self.whole().unwrap_or_default();
        let start = self.from + HEADER;
        self.from = start + length;
        Ok(&self.buffer[start..start + length])
    }

    #[inline]
    fn whole(&self) -> Option<usize> {
        wire::split(&self.buffer[self.from..self.to]).map(|(message, _)| message.len())
    }

    /// Reads once, as much as comes. What is left of a frame moves to the front.
    fn read_some(&mut self) -> Result<(), Failure> {
        if self.from == self.to {
            (self.from, self.to) = (0, 0);
        } else if self.from > 0 {
            self.buffer.copy_within(self.from..self.to, 0);
            (self.from, self.to) = (0, self.to - self.from);
        }
        match self.stream.read(&mut self.buffer[self.to..]) {
            Err(error) if again(self.spins, &error) => Ok(()),
            Ok(0) => Err(crate::script::ended()),
            outcome => {
                self.to += outcome?;
                Ok(())
            }
        }
    }
}

fn again(spins: bool, error: &io::Error) -> bool {
    error.kind() == ErrorKind::Interrupted || (spins && error.kind() == ErrorKind::WouldBlock)
}

/// Accepts one connection, and greets its client.
pub(super) fn accept(listener: &TcpListener, room: usize, spins: bool) -> Result<(In, Out), Failure> {
    let (mut read, mut write) = halves(listener.accept()?.0, room)?;
    let hello = read.next()?.to_vec();
    write.write(&wire::frame(&hello))?;
    spin(read, write, spins)
}

/// Connects, and greets the server.
pub(super) fn connect(address: SocketAddr, room: usize, spins: bool) -> Result<(In, Out), Failure> {
    let id = wire::id(0);
    let (mut read, mut write) = halves(TcpStream::connect(address)?, room)?;
    write.write(&wire::frame(id.as_bytes()))?;
    if read.next()? != id.as_bytes() {
        return Err(crate::script::wrong("the server's greeting"));
    }
    spin(read, write, spins)
}

fn halves(stream: TcpStream, room: usize) -> Result<(In, Out), Failure> {
    stream.set_nodelay(true)?;
    // So that a run whose other side is stuck ends.
    stream.set_read_timeout(Some(GRACE))?;
    stream.set_write_timeout(Some(GRACE))?;
    let out = Out { stream: stream.try_clone()?, spins: false };
    Ok((In { stream, spins: false, buffer: vec![0; room], from: 0, to: 0 }, out))
}

fn spin(mut read: In, mut write: Out, spins: bool) -> Result<(In, Out), Failure> {
    read.stream.set_nonblocking(spins)?;
    (read.spins, write.spins) = (spins, spins);
    Ok((read, write))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_back_whole_whether_it_spins_or_blocks() {
        for spins in [false, true] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let server = std::thread::spawn(move || {
                let (mut read, mut write) = accept(&listener, 128, spins).unwrap();
                while let Ok(message) = read.next() {
                    write.write(&wire::frame(message)).unwrap();
                }
            });
            let (mut read, mut write) = connect(address, 128, spins).unwrap();
            let messages = [&b"one"[..], b"", &[7; 60]];
            let frames: Vec<u8> = messages.iter().flat_map(|message| wire::frame(message)).collect();
            write.write(&frames).unwrap();
            for expected in messages {
                assert_eq!(read.next().unwrap(), expected);
            }
            drop((read, write));
            server.join().unwrap();
        }
    }
}
