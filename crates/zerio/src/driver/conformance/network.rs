//! The networks that drivers are on, as the tests' other side uses them: the system's own over loopback, by the
//! standard library, and the simulated one.
#![forbid(unsafe_code)]

use std::fmt::Debug;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};

use super::rig::{DEADLINE, WAIT, options};
use crate::driver::poll::Poll;
use crate::driver::rio::Rio;
use crate::driver::rio::table::Table;
use crate::driver::sim::{Far, Faults, Net, Sim, Socket as SimSocket, Wire, address_of};
#[cfg(target_os = "linux")]
use crate::driver::uring::Uring;
use crate::driver::{Direct, Driver, socket};

/// A driver, and the network that it is on.
pub(super) trait Site: Driver<Socket = <Self::On as Network>::Socket> {
    type On: Network;

    /// Whether its sockets take plain calls. Those that are made for Registered I/O may refuse them.
    const PLAIN: bool = true;

    /// A connected pair: the peer's side and a session's of this driver.
    fn pair() -> (Peer<Self>, Self::Socket) {
        Self::On::pair()
    }

    /// A pair with so little room that a send soon meets a full socket.
    fn narrow_pair() -> (Peer<Self>, Self::Socket) {
        Self::On::narrow_pair()
    }
}

pub(super) type Peer<D> = <<D as Site>::On as Network>::Peer;

impl Site for Poll {
    type On = Loopback;
}

#[cfg(target_os = "linux")]
impl Site for Uring {
    type On = Loopback;
}

impl<T: Table> Site for Rio<T> {
    type On = Loopback;

    const PLAIN: bool = false;

    fn pair() -> (TcpStream, Socket) {
        Loopback::pair_by(accepted_by::<T>)
    }

    fn narrow_pair() -> (TcpStream, Socket) {
        Loopback::narrow_pair_by(accepted_by::<T>)
    }
}

/// Accepts as the driver over this table does.
fn accepted_by<T: Table>(listener: Socket) -> Socket {
    let mut table = T::open(1).unwrap();
    listener.set_nonblocking(true).unwrap();
    table.listen(listener).unwrap();
    loop {
        match table.accept() {
            Ok((socket, _)) => return socket,
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
        table.wait(WAIT).unwrap();
    }
}

impl Site for Sim {
    type On = Simulated;
}

/// What a test needs of a network beside its driver.
pub(super) trait Network {
    /// The drivers' sockets.
    type Socket: Debug + 'static;
    /// The other side of a connection: its calls wait, up to the deadline.
    type Peer: Read + Write + Send + 'static;
    /// Listens for the other side.
    type Listener;

    /// Listens for a driver, on an address like this one; `None` where there is none such.
    fn listener_like(address: &str) -> Option<(Self::Socket, SocketAddr)>;

    /// Listens for a driver.
    fn listener() -> (Self::Socket, SocketAddr) {
        Self::listener_like("127.0.0.1:0").unwrap()
    }

    fn connect(address: SocketAddr) -> io::Result<Self::Peer>;

    fn address(peer: &Self::Peer) -> SocketAddr;

    /// Listens for the other side, on an address like this one; `None` where there is none such.
    fn far_listener_like(address: &str) -> Option<(Self::Listener, SocketAddr)>;

    /// Listens for the other side.
    fn far_listener() -> (Self::Listener, SocketAddr) {
        Self::far_listener_like("127.0.0.1:0").unwrap()
    }

    fn accept(listener: &Self::Listener) -> Self::Peer;

    /// An address at which nobody listens, as long as the guard lives.
    fn nobody() -> (impl Sized, SocketAddr);

    /// An address at which nobody answers, as long as the guard lives.
    fn silence() -> (impl Sized, SocketAddr);

    /// A connected pair: the peer's side and the session's.
    fn pair() -> (Self::Peer, Self::Socket);

    /// A pair with so little room that a send soon meets a full socket.
    fn narrow_pair() -> (Self::Peer, Self::Socket);

    /// Sends a byte out of band; whether this network has such a thing.
    fn send_urgently(peer: &Self::Peer, byte: &[u8; 1]) -> bool;

    /// Ends a connection by a reset.
    fn reset(peer: Self::Peer);

    /// Whether nobody has this address any more.
    fn is_free(address: SocketAddr) -> bool;

    fn never_blocks(socket: &Self::Socket) -> bool;

    /// The way to send on a socket that a driver may not have.
    fn direct(socket: &Self::Socket) -> Direct;
}

/// The system's own network.
pub(super) struct Loopback;

impl Network for Loopback {
    type Socket = Socket;
    type Peer = TcpStream;
    type Listener = TcpListener;

    fn listener_like(address: &str) -> Option<(Socket, SocketAddr)> {
        let socket = socket::bind(address.parse().unwrap()).ok()?;
        socket::listen(&socket, &options()).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        Some((socket, address))
    }

    fn connect(address: SocketAddr) -> io::Result<TcpStream> {
        TcpStream::connect(address).map(patient)
    }

    fn address(peer: &TcpStream) -> SocketAddr {
        peer.local_addr().unwrap()
    }

    fn far_listener_like(address: &str) -> Option<(TcpListener, SocketAddr)> {
        let listener = TcpListener::bind(address).ok()?;
        let address = listener.local_addr().unwrap();
        Some((listener, address))
    }

    fn accept(listener: &TcpListener) -> TcpStream {
        patient(listener.accept().unwrap().0)
    }

    fn nobody() -> (impl Sized, SocketAddr) {
        // Bound and not listening: nobody else gets the port.
        let silent = socket::bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let address = silent.local_addr().unwrap().as_socket().unwrap();
        (silent, address)
    }

    fn silence() -> (impl Sized, SocketAddr) {
        // A listener whose queue is full: who connects to it waits.
        let listener = socket::bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        listener.listen(1).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        let mut waiting = Vec::new();
        for _ in 0..8 {
            let socket = socket::for_connecting(address, &options()).unwrap();
            let _ = socket.connect(&address.into());
            waiting.push(socket);
        }
        ((listener, waiting), address)
    }

    fn pair() -> (TcpStream, Socket) {
        Self::pair_by(plainly_accepted)
    }

    fn narrow_pair() -> (TcpStream, Socket) {
        Self::narrow_pair_by(plainly_accepted)
    }

    fn send_urgently(peer: &TcpStream, byte: &[u8; 1]) -> bool {
        SockRef::from(peer).send_out_of_band(byte).is_ok()
    }

    fn reset(peer: TcpStream) {
        SockRef::from(&peer).set_linger(Some(Duration::ZERO)).unwrap();
    }

    fn is_free(address: SocketAddr) -> bool {
        TcpListener::bind(address).is_ok()
    }

    fn never_blocks(socket: &Socket) -> bool {
        // By what it does: Windows does not tell.
        (&*socket).read(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    }

    fn direct(socket: &Socket) -> Direct {
        Direct::new(socket)
    }
}

impl Loopback {
    fn pair_by(accept: fn(Socket) -> Socket) -> (TcpStream, Socket) {
        // From a listening socket as drivers have it: what it accepts has its properties.
        let (listener, address) = Self::listener();
        let peer = TcpStream::connect(address).unwrap();
        (patient(peer), accept(listener))
    }

    fn narrow_pair_by(accept: fn(Socket) -> Socket) -> (TcpStream, Socket) {
        let (listener, address) = Self::listener();
        listener.set_send_buffer_size(8 * 1024).unwrap();
        let peer = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
        peer.set_recv_buffer_size(8 * 1024).unwrap();
        peer.connect(&address.into()).unwrap();
        (patient(peer.into()), accept(listener))
    }
}

fn patient(peer: TcpStream) -> TcpStream {
    peer.set_read_timeout(Some(DEADLINE)).unwrap();
    peer.set_write_timeout(Some(DEADLINE)).unwrap();
    peer.set_nodelay(true).unwrap();
    peer
}

fn plainly_accepted(listener: Socket) -> Socket {
    listener.set_nonblocking(false).unwrap();
    let own = listener.accept().unwrap().0;
    own.set_nonblocking(true).unwrap();
    own.set_tcp_nodelay(true).unwrap();
    own
}

/// A connection on a simulated network whose calls wait: whoever waits lets time go on.
pub(super) struct Waiting(Net, Far);

impl Waiting {
    fn wait<T>(&self, mut attempt: impl FnMut(&Far) -> io::Result<T>) -> io::Result<T> {
        loop {
            match attempt(&self.1) {
                // Where nothing is to come, another thread may have something to do for it.
                Err(error) if error.kind() == ErrorKind::WouldBlock => drop(self.0.next()),
                outcome => return outcome,
            }
        }
    }
}

impl Read for Waiting {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.wait(|far| far.try_read(into))
    }
}

impl Write for Waiting {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.wait(|far| far.try_write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The simulated network of this thread: nobody drives it, and bytes take no time.
pub(super) struct Simulated;

impl Network for Simulated {
    type Socket = SimSocket;
    type Peer = Waiting;
    type Listener = SimSocket;

    fn listener_like(address: &str) -> Option<(SimSocket, SocketAddr)> {
        let (net, like): (_, SocketAddr) = (Net::here(), address.parse().unwrap());
        let address = net.free_address();
        (like.is_ipv4() == address.is_ipv4()).then(|| (SimSocket::listening(&net, address, false), address))
    }

    fn connect(address: SocketAddr) -> io::Result<Waiting> {
        let net = Net::here();
        let peer = Waiting(net.clone(), Far::begin(&net, address));
        let blocked = || Err(ErrorKind::WouldBlock.into());
        peer.wait(|far| net.connected(far.end()).unwrap_or_else(blocked))?;
        Ok(peer)
    }

    fn address(peer: &Waiting) -> SocketAddr {
        address_of(peer.1.end().connection)
    }

    fn far_listener_like(address: &str) -> Option<(SimSocket, SocketAddr)> {
        Self::listener_like(address)
    }

    fn accept(listener: &SimSocket) -> Waiting {
        Waiting(Net::here(), Far::of(listener.accept().expect("somebody has connected")))
    }

    fn nobody() -> (impl Sized, SocketAddr) {
        ((), Net::here().free_address())
    }

    fn silence() -> (impl Sized, SocketAddr) {
        let (net, address) = (Net::here(), Net::here().free_address());
        (SimSocket::listening(&net, address, true), address)
    }

    fn pair() -> (Waiting, SimSocket) {
        let (listener, address) = Self::listener();
        let peer = Self::connect(address).unwrap();
        (peer, listener.accept().unwrap())
    }

    fn narrow_pair() -> (Waiting, SimSocket) {
        let net = Net::here();
        let usual = net.with_faults(|faults, _| faults.clone());
        net.set_faults(Faults { room: 8 * 1024, ..usual.clone() });
        let pair = Self::pair();
        net.set_faults(usual);
        pair
    }

    fn send_urgently(_: &Waiting, _: &[u8; 1]) -> bool {
        false
    }

    fn reset(peer: Waiting) {
        peer.1.reset();
        // As over loopback, the reset is there at once.
        while Net::here().next().is_some() {}
    }

    fn is_free(address: SocketAddr) -> bool {
        !Net::here().is_listened_on(address)
    }

    fn never_blocks(_: &SimSocket) -> bool {
        true
    }

    fn direct(socket: &SimSocket) -> Direct {
        Direct::Simulated(Wire::new(&Net::here(), socket.end()))
    }
}
