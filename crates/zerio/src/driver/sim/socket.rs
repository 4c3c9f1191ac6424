//! Sockets of a simulated network: a driver's, the way to send on one without its driver, and those of a
//! program on the other side that knows nothing of zerio.
#![forbid(unsafe_code)]

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;

use super::net::{End, Net, address_of};

/// A socket; dropping it closes it.
pub(crate) struct Socket {
    net: Net,
    what: What,
}

#[derive(Debug)]
enum What {
    Connection(End),
    Listener(usize),
}

impl Socket {
    pub(crate) fn of(net: &Net, end: End) -> Socket {
        Socket { net: net.clone(), what: What::Connection(end) }
    }

    /// Listens on an address that nobody listens on.
    pub(crate) fn listening(net: &Net, address: SocketAddr, silent: bool) -> Socket {
        Socket { net: net.clone(), what: What::Listener(net.listen(address, silent)) }
    }

    /// For a program that knows nothing of zerio: a connection that waits at this listener.
    pub(crate) fn accept(&self) -> Option<Socket> {
        let (end, _) = self.net.accept(self.listener())?.ok()?;
        Some(Socket::of(&self.net, end))
    }

    pub(crate) fn end(&self) -> End {
        match self.what {
            What::Connection(end) => end,
            What::Listener(_) => unreachable!("a listener is no session's socket"),
        }
    }

    pub(crate) fn listener(&self) -> usize {
        match self.what {
            What::Listener(listener) => listener,
            What::Connection(_) => unreachable!("a connection does not listen"),
        }
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.what.fmt(f)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        match self.what {
            What::Connection(end) => self.net.close(end, false),
            What::Listener(listener) => self.net.stop_listening(listener),
        }
    }
}

/// The way to send on a session's socket without its driver.
#[derive(Clone)]
pub(crate) struct Wire {
    net: Net,
    end: End,
}

impl Wire {
    pub(crate) fn new(net: &Net, end: End) -> Wire {
        Wire { net: net.clone(), end }
    }

    pub(crate) fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        self.net.write(self.end, bytes)
    }

    /// Whether all that was sent was received, and whether the other side has room.
    pub(crate) fn is_settled(&self) -> (bool, bool) {
        self.net.is_settled(self.end)
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.end.fmt(f)
    }
}

/// A connection of a program that knows nothing of zerio. On a network that nobody drives its calls wait.
pub(crate) struct Far(Socket);

impl Far {
    /// Begins to connect.
    pub(crate) fn begin(net: &Net, address: SocketAddr) -> Far {
        Far(Socket::of(net, net.connect(address)))
    }

    /// The other side of a connection that was accepted.
    pub(crate) fn of(socket: Socket) -> Far {
        Far(socket)
    }

    /// Connects, on a network that nobody drives.
    pub(crate) fn connect(net: &Net, address: SocketAddr) -> io::Result<Far> {
        let far = Far::begin(net, address);
        wait(net, || far.0.net.connected(far.end()))?;
        Ok(far)
    }

    pub(crate) fn end(&self) -> End {
        self.0.end()
    }

    pub(crate) fn local_addr(&self) -> SocketAddr {
        address_of(self.end().connection)
    }

    /// Sends nothing more.
    pub(crate) fn shut_down(&self) {
        self.0.net.shut_down(self.end());
    }

    /// Ends it so that what is on its way is lost.
    pub(crate) fn reset(self) {
        self.0.net.close(self.end(), true);
    }

    /// Takes what has arrived, without waiting.
    pub(crate) fn try_read(&self, into: &mut [u8]) -> io::Result<usize> {
        self.0.net.read(self.end(), into)
    }

    /// Sends what there is room for, without waiting.
    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.0.net.write(self.end(), bytes)
    }
}

/// Lets time go on, until `attempt` gives something.
fn wait<T>(net: &Net, mut attempt: impl FnMut() -> Option<T>) -> T {
    loop {
        if let Some(value) = attempt() {
            return value;
        }
        assert!(!net.is_driven(), "who waits on a driven network waits for ever");
        // Where nothing is to come, another thread may have something to do for it.
        net.next();
    }
}

impl Read for Far {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        wait(&self.0.net.clone(), || super::unless_blocked(self.try_read(into)))
    }
}

impl Write for Far {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        wait(&self.0.net.clone(), || match self.try_write(bytes) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            outcome => Some(outcome),
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
