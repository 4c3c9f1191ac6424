//! Addresses that are not simply those of a server.
#![forbid(unsafe_code)]

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

/// The addresses of one server, as a name may have them.
#[derive(Clone, Debug)]
pub struct Several(pub Vec<SocketAddr>);

impl ToSocketAddrs for Several {
    type Iter = std::vec::IntoIter<SocketAddr>;

    fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
        Ok(self.0.clone().into_iter())
    }
}

/// A name whose resolver hangs, as one does whose servers do not answer: for as long as somebody has the other end.
#[derive(Debug)]
pub struct Unresolved(pub std::sync::mpsc::Receiver<()>);

impl ToSocketAddrs for Unresolved {
    type Iter = std::vec::IntoIter<SocketAddr>;

    fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
        let _ = self.0.recv();
        Ok(vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 1))].into_iter())
    }
}

/// An address that does not answer, as long as this is kept: a listener whose queue is full, which is the nearest to a
/// black hole that loopback has.
pub struct Hole {
    pub address: SocketAddr,
    _listener: Socket,
    _queue: Vec<TcpStream>,
}

impl Hole {
    pub fn new() -> Hole {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        listener.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        let mut queue = Vec::new();
        while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(300)) {
            queue.push(stream);
            assert!(queue.len() < 100, "a queue that never fills");
        }
        Hole { address, _listener: listener, _queue: queue }
    }
}
