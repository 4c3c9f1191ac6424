//! The half of the real table that is plain Winsock: listening, accepting, connecting, the wait and what ends it. It
//! needs no Registered I/O, and so it runs under Wine. One of the files with `unsafe`.
//!
//! Connections are accepted by `AcceptEx` and made by `ConnectEx`, on sockets made beforehand for Registered I/O: nothing
//! is asked of one but options, IOCTLs and closing, and of these two what their pages ask (mswsock/nf-mswsock-acceptex,
//! mswsock/nc-mswsock-lpfn_connectex). Plain `accept` gives such a socket only from a listener that is one, which no other
//! driver could use; and whether one may be made non-blocking, as plain `connect` needs it, is doubtful
//! (`Table::socket`). Each asks for a join of its own (`operation.rs`).
#![allow(unsafe_code)]

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ptr::{null, null_mut};
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};
use windows_sys::Win32::Networking::WinSock::{
    LPFN_ACCEPTEX, LPFN_CONNECTEX, SIO_GET_EXTENSION_FUNCTION_POINTER, SO_UPDATE_ACCEPT_CONTEXT,
    SO_UPDATE_CONNECT_CONTEXT, SOCKET, SOL_SOCKET, WSA_WAIT_EVENT_0, WSA_WAIT_FAILED, WSAEOPNOTSUPP,
    WSAID_ACCEPTEX, WSAID_CONNECTEX, WSAIoctl, WSAWaitForMultipleEvents, setsockopt,
};
use windows_sys::core::GUID;

use super::operation::{ADDRESS, Operation};
use super::raw;
use super::winsock::Event;
use crate::driver::Waker;
use crate::driver::rio::table::Woken;

pub(super) struct Control {
    accept_ex: LPFN_ACCEPTEX,
    connect_ex: LPFN_CONNECTEX,
    listener: Option<Socket>,
    /// What the next connection is accepted into, while that goes on.
    accepting: Option<Socket>,
    accept: Operation,
    /// By slot.
    attempts: Box<[Operation]>,
    /// The completion queue has told.
    completed: Event,
    /// Something was accepted, or an attempt to connect has become something.
    changed: Event,
    /// Somebody has rung.
    bell: Arc<Event>,
}

impl Control {
    /// For so many sockets at a time.
    pub(super) fn new(sockets: usize) -> io::Result<Control> {
        let (completed, changed, bell) = (Event::new()?, Event::new()?, Arc::new(Event::new()?));
        let of = |domain| Socket::new(domain, Type::STREAM, None);
        let probe = of(Domain::IPV4).or_else(|_| of(Domain::IPV6))?;
        let (mut accept_ex, mut connect_ex): (LPFN_ACCEPTEX, LPFN_CONNECTEX) = (None, None);
        // SAFETY: each is the type of a pointer to the function that it is asked for.
        unsafe {
            extension(&probe, &WSAID_ACCEPTEX, &mut accept_ex)?;
            extension(&probe, &WSAID_CONNECTEX, &mut connect_ex)?;
        }
        let accept = Operation::new(&changed);
        let attempts = (0..sockets).map(|_| Operation::new(&changed)).collect();
        let (listener, accepting) = (None, None);
        Ok(Control { accept_ex, connect_ex, listener, accepting, accept, attempts, completed, changed, bell })
    }

    /// What a completion queue is to set.
    pub(super) fn completed(&self) -> &Event {
        &self.completed
    }

    pub(super) fn listen(&mut self, listener: Socket) -> io::Result<()> {
        self.listener = Some(listener);
        Ok(())
    }

    /// Begins to accept, if that has not begun, and looks what has come of it.
    pub(super) fn accept(&mut self) -> io::Result<(Socket, SocketAddr)> {
        if self.accepting.is_none() {
            self.begin_to_accept()?;
        }
        let listener = self.listener.as_ref().ok_or(ErrorKind::InvalidInput)?;
        let outcome = self.accept.outcome(listener).ok_or(ErrorKind::WouldBlock)?;
        let socket = self.accepting.take().ok_or(ErrorKind::WouldBlock)?;
        outcome?;
        // Before this it has neither the listener's properties nor an address (mswsock/nf-mswsock-acceptex). That it fails
        // is of a peer who is gone again.
        let listener = raw(listener);
        set_option(&socket, SO_UPDATE_ACCEPT_CONTEXT, Some(&listener))
            .and_then(|()| socket.peer_addr())
            .map_err(|_| ErrorKind::ConnectionReset)
            .and_then(|address| address.as_socket().ok_or(ErrorKind::InvalidData))
            .map(|address| (socket, address))
            .map_err(io::Error::from)
    }

    fn begin_to_accept(&mut self) -> io::Result<()> {
        let listener = self.listener.as_ref().ok_or(ErrorKind::InvalidInput)?;
        let address = listener.local_addr()?.as_socket().ok_or(ErrorKind::InvalidInput)?;
        let (socket, accept_ex) = (super::socket(address)?, self.accept_ex.ok_or(ErrorKind::Unsupported)?);
        let (addresses, overlapped) = self.accept.begin();
        let (mut bytes, len) = (0, ADDRESS as u32);
        // SAFETY: both sockets are open. The addresses have room for two and, as what it is told of in, stay where they are
        // until it is over. No bytes are received.
        let done = unsafe {
            accept_ex(raw(listener), raw(&socket), addresses.cast(), 0, len, len, &mut bytes, overlapped)
        };
        self.accept.begun(done)?;
        self.accepting = Some(socket);
        self.look_again();
        Ok(())
    }

    pub(super) fn stop_listening(&mut self) {
        if let Some(listener) = self.listener.take() {
            self.accept.cancel(&listener, &self.changed);
        }
        self.accepting = None;
    }

    pub(super) fn connect(&mut self, index: u32, socket: &Socket, address: SocketAddr) -> io::Result<()> {
        let connect_ex = self.connect_ex.ok_or(ErrorKind::Unsupported)?;
        // It is for "a previously bound socket".
        let any = match address {
            SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
        };
        socket.bind(&any.into())?;
        let (attempt, address) = (&mut self.attempts[index as usize], SockAddr::from(address));
        let ((_, overlapped), mut bytes) = (attempt.begin(), 0);
        // SAFETY: the socket is open, the address is read during the call, nothing is sent; what it is told of in stays
        // where it is until it is over.
        let done = unsafe {
            connect_ex(raw(socket), address.as_ptr().cast(), address.len(), null(), 0, &mut bytes, overlapped)
        };
        attempt.begun(done)?;
        self.look_again();
        Ok(())
    }

    /// The socket has its connection, and the options that it was given, when the option says so
    /// (mswsock/nc-mswsock-lpfn_connectex).
    pub(super) fn connected(&mut self, index: u32, socket: &Socket) -> Option<io::Result<()>> {
        let outcome = self.attempts[index as usize].outcome(socket)?;
        Some(outcome.and_then(|()| set_option(socket, SO_UPDATE_CONNECT_CONTEXT, None)))
    }

    /// Ends what goes on with a socket that is about to be closed.
    pub(super) fn forget(&mut self, index: u32, socket: &Socket) {
        self.attempts[index as usize].cancel(socket, &self.changed);
    }

    pub(super) fn wait(&mut self, timeout: Duration) -> io::Result<Woken> {
        // Of those that are set "the index of the first handle" is told
        // (winsock2/nf-winsock2-wsawaitformultipleevents), so the queue's comes first: it is not lost behind the others.
        let events = [&self.completed, &self.changed, &*self.bell].map(Event::pointer);
        // A bound that is not a whole number of milliseconds is rounded up: rounded down it would be a spin. The
        // largest number would be none.
        let millis = timeout.as_nanos().div_ceil(1_000_000).min(u128::from(u32::MAX - 1)) as u32;
        // SAFETY: three events, which are open.
        let first = unsafe { WSAWaitForMultipleEvents(3, events.as_ptr(), 0, millis, 0) };
        if first == WSA_WAIT_FAILED {
            return Err(io::Error::last_os_error());
        }
        let is = |number: u32| first == WSA_WAIT_EVENT_0 as u32 + number;
        let woken = Woken { completions: is(0), control: is(1) };
        if woken.control {
            // What is over later sets it again, and what was over before is looked for after this.
            self.changed.reset();
        } else if is(2) {
            self.bell.reset();
        }
        Ok(woken)
    }

    pub(super) fn waker(&self) -> Waker {
        let bell = self.bell.clone();
        Waker::new(move || bell.set())
    }

    /// To begin an operation resets the event that it is to set (winsock2/nf-winsock2-wsagetoverlappedresult), which is
    /// also that of all others: so that none is missed, the next wait ends, and all are looked at.
    fn look_again(&self) {
        self.changed.set();
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.stop_listening();
    }
}

/// Asks for a function that is beyond the standard (winsock2/nf-winsock2-wsaioctl).
///
/// # Safety
///
/// `F` is the type of a pointer to that function, or nothing.
unsafe fn extension<F>(socket: &Socket, which: &GUID, into: &mut Option<F>) -> io::Result<()> {
    let mut bytes = 0;
    // SAFETY: the socket is open; the pointers are to live values of the lengths that go with them.
    let failed = unsafe {
        WSAIoctl(
            raw(socket),
            SIO_GET_EXTENSION_FUNCTION_POINTER,
            (&raw const *which).cast(),
            size_of::<GUID>() as u32,
            (&raw mut *into).cast(),
            size_of::<Option<F>>() as u32,
            &mut bytes,
            null_mut(),
            None,
        )
    };
    match (failed, &into) {
        (0, Some(_)) => Ok(()),
        (0, None) => Err(io::Error::from_raw_os_error(WSAEOPNOTSUPP)),
        _ => Err(io::Error::last_os_error()),
    }
}

fn set_option(socket: &Socket, name: i32, value: Option<&SOCKET>) -> io::Result<()> {
    let (start, len) = value.map_or((null(), 0), |value| (&raw const *value, size_of::<SOCKET>() as i32));
    // SAFETY: the socket is open, and the call reads the value and keeps nothing.
    match unsafe { setsockopt(raw(socket), SOL_SOCKET, name, start.cast(), len) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Ipv4Addr, TcpListener, TcpStream};
    use std::time::Instant;

    use super::super::Windows;
    use super::super::winsock::balance::STARTED;
    use super::*;
    use crate::driver::rio::table::Table;
    use crate::driver::socket;

    const LONG: Duration = Duration::from_secs(30);
    const SHORT: Duration = Duration::from_millis(30);

    /// What ends a wait for something that happens to sockets. It may end for nothing, and not for anything else.
    fn hears(control: &mut Control, mut look: impl FnMut(&mut Control) -> bool) {
        let start = Instant::now();
        while !look(control) {
            let woken = control.wait(LONG).unwrap();
            assert_eq!(woken, Woken { completions: false, control: true }, "after {:?}", start.elapsed());
        }
        assert!(start.elapsed() < LONG);
    }

    fn listen(control: &mut Control) -> SocketAddr {
        let listener = socket::bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        listener.listen(8).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        // As it is for any driver.
        listener.set_nonblocking(true).unwrap();
        control.listen(listener).unwrap();
        address
    }

    fn would_block<T>(outcome: io::Result<T>) -> bool {
        outcome.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    }

    #[test]
    fn each_connection_that_comes_ends_a_wait() {
        let mut control = Control::new(1).unwrap();
        let address = listen(&mut control);
        assert!(would_block(control.accept()));
        while control.wait(SHORT).unwrap().control {}
        assert!(would_block(control.accept()), "nobody has come");
        assert_eq!(control.wait(SHORT).unwrap(), Woken::default());
        for _ in 0..3 {
            let mut client = TcpStream::connect(address).unwrap();
            let mut accepted = None;
            hears(&mut control, |control| {
                accepted = control.accept().ok();
                accepted.is_some()
            });
            let (socket, from) = accepted.unwrap();
            assert_eq!(from, client.local_addr().unwrap());
            assert_eq!(socket.local_addr().unwrap().as_socket(), Some(address));
            assert!(would_block(control.accept()));
            // What happens to it afterwards is no matter of the event.
            while control.wait(SHORT).unwrap().control {}
            client.write_all(b"oui").unwrap();
            drop(client);
            assert_eq!(control.wait(SHORT).unwrap(), Woken::default());
        }
        control.stop_listening();
        assert!(TcpStream::connect(address).is_err());
        assert_eq!(control.accept().unwrap_err().kind(), ErrorKind::InvalidInput);
    }

    #[test]
    fn a_connection_that_came_before_anyone_listened_for_it_ends_a_wait() {
        let mut control = Control::new(1).unwrap();
        let listener = socket::bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        listener.listen(8).unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap().as_socket().unwrap()).unwrap();
        control.listen(listener).unwrap();
        let mut accepted = None;
        hears(&mut control, |control| {
            accepted = control.accept().ok();
            accepted.is_some()
        });
    }

    #[test]
    fn who_came_while_it_was_accepted_and_nobody_listens_any_more_hears_an_end() {
        for comes in [false, true] {
            let mut control = Control::new(1).unwrap();
            let address = listen(&mut control);
            assert!(would_block(control.accept()));
            let client = comes.then(|| TcpStream::connect(address).unwrap());
            control.stop_listening();
            assert!(control.accepting.is_none() && !control.accept.is_under_way());
            if let Some(mut client) = client {
                client.set_read_timeout(Some(LONG)).unwrap();
                assert!(matches!(client.read(&mut [0]), Ok(0) | Err(_)));
            }
        }
    }

    #[test]
    fn an_attempt_that_is_given_up_leaves_nothing_behind() {
        let mut control = Control::new(1).unwrap();
        // Nobody answers there (RFC 5737).
        let address = "192.0.2.1:9".parse().unwrap();
        let socket = super::super::socket(address).unwrap();
        if control.connect(0, &socket, address).is_ok() {
            control.forget(0, &socket);
        }
        assert!(!control.attempts[0].is_under_way());
        assert!(control.connected(0, &socket).is_none());
    }

    #[test]
    fn an_attempt_to_connect_that_has_become_something_ends_a_wait() {
        let mut control = Control::new(1).unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let attempt = |control: &mut Control, address| {
            let socket = super::super::socket(address).unwrap();
            control.connect(0, &socket, address).unwrap();
            let mut outcome = None;
            hears(control, |control| {
                outcome = control.connected(0, &socket);
                outcome.is_some()
            });
            (socket, outcome.unwrap())
        };
        let (socket, outcome) = attempt(&mut control, address);
        outcome.unwrap();
        // It is told once, and what comes now is no matter of the event.
        assert!(control.connected(0, &socket).is_none());
        let mut peer = listener.accept().unwrap().0;
        while control.wait(SHORT).unwrap().control {}
        peer.write_all(b"oui").unwrap();
        assert_eq!(control.wait(SHORT).unwrap(), Woken::default());
        assert_eq!(socket.peer_addr().unwrap().as_socket(), Some(address));
        // Nobody listens on a port that is bound and no more.
        let silent = socket::bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let (_, outcome) = attempt(&mut control, silent.local_addr().unwrap().as_socket().unwrap());
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    }

    #[test]
    fn the_bell_ends_a_wait_once_from_any_thread_and_outlives_its_control() {
        let mut control = Control::new(1).unwrap();
        let waker = control.waker();
        let ringer = waker.clone();
        let start = Instant::now();
        let thread = std::thread::spawn(move || {
            std::thread::sleep(SHORT);
            ringer.wake();
        });
        assert_eq!(control.wait(LONG).unwrap(), Woken::default());
        assert!(start.elapsed() < LONG);
        thread.join().unwrap();
        assert_eq!(control.wait(SHORT).unwrap(), Woken::default());
        assert!(start.elapsed() >= SHORT, "it rang once");
        // What was rung before the wait ends it.
        waker.wake();
        let start = Instant::now();
        control.wait(LONG).unwrap();
        assert!(start.elapsed() < LONG);
        drop(control);
        waker.wake();
    }

    #[test]
    fn a_wait_is_a_bound_and_is_never_a_spin() {
        let mut control = Control::new(1).unwrap();
        control.wait(Duration::ZERO).unwrap();
        for timeout in [SHORT, Duration::from_micros(1500)] {
            let start = Instant::now();
            assert_eq!(control.wait(timeout).unwrap(), Woken::default());
            // Ticks of the clock may come a little early.
            let took = start.elapsed();
            assert!(took + Duration::from_millis(2) >= timeout && took < LONG, "{took:?}");
        }
    }

    #[test]
    fn completions_are_told_before_all_else_and_nothing_is_lost_behind_them() {
        let mut control = Control::new(1).unwrap();
        let address = listen(&mut control);
        assert!(would_block(control.accept()));
        while control.wait(SHORT).unwrap().control {}
        let _client = TcpStream::connect(address).unwrap();
        control.waker().wake();
        control.completed().set();
        assert_eq!(control.wait(LONG).unwrap(), Woken { completions: true, control: false });
        // As the completion queue does when it is asked again.
        control.completed().reset();
        assert_eq!(control.wait(LONG).unwrap(), Woken { completions: false, control: true });
        let start = Instant::now();
        control.accept().unwrap();
        while control.wait(SHORT).unwrap().control {}
        assert!(start.elapsed() < LONG);
    }

    #[test]
    fn each_start_of_winsock_has_its_end() {
        let before = STARTED.get();
        let control = Control::new(1).unwrap();
        let waker = control.waker();
        assert_eq!(STARTED.get(), before + 3);
        drop(control);
        assert_eq!(STARTED.get(), before + 1, "the bell is rung by its waker, and needs it");
        drop(waker);
        assert_eq!(STARTED.get(), before);
        // A table that is had, and one that is not.
        drop(Windows::open(1));
        assert_eq!(STARTED.get(), before);
        // Those of the process's life are not of the last table's.
        let _listener = socket::bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        assert_eq!(STARTED.get(), before);
    }
}
