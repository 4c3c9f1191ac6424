//! Sockets of a simulated network: a driver's, the way to send on one without its driver, and those of a
//! program on the other side that knows nothing of zerio.
#![forbid(unsafe_code)]

use std::fmt;
use std::io;
use std::net::SocketAddr;

use super::net::{End, Net};

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
    #[cfg(test)]
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

    /// Whether all that was sent was received, and whether the other side has room; `None` after a reset.
    #[cfg_attr(
        not(target_os = "linux"),
        allow(dead_code, reason = "only Linux is asked how a peer takes what is sent")
    )]
    pub(crate) fn is_settled(&self) -> Option<(bool, bool)> {
        self.net.is_settled(self.end)
    }
}

#[cfg(target_os = "linux")]
impl Wire {
    /// Why the connection is no more.
    pub(crate) fn error(&self) -> Option<io::Error> {
        self.net.error(self.end)
    }

    /// What is to become of a connection whose peer has no room for long.
    pub(crate) fn be_patient(&self, patient: bool) {
        self.net.be_patient(self.end, patient);
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.end.fmt(f)
    }
}

/// A connection of a program that knows nothing of zerio.
pub(crate) struct Far(Socket);

impl Far {
    /// Begins to connect.
    pub(crate) fn begin(net: &Net, address: SocketAddr) -> Far {
        Far(Socket::of(net, net.connect(address)))
    }

    /// The other side of a connection that was accepted.
    #[cfg(test)]
    pub(crate) fn of(socket: Socket) -> Far {
        Far(socket)
    }

    pub(crate) fn end(&self) -> End {
        self.0.end()
    }

    /// Whether its wish to connect was granted.
    pub(crate) fn is_connected(&self) -> bool {
        matches!(self.0.net.connected(self.end()), Some(Ok(())))
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
