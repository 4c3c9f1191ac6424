//! The half of the real table that is plain Winsock: listening, accepting, connecting, the wait and what ends it. It
//! needs no Registered I/O, and so it runs under Wine. One of the files with `unsafe`.
//!
//! Connections are accepted by plain `accept` and made by plain `connect`. A socket of `ConnectEx` "can be passed to only
//! the following functions", and none of Registered I/O is among them, until an option has told it of its connection
//! (`SO_UPDATE_CONNECT_CONTEXT`, mswsock/nc-mswsock-lpfn_connectex); with `AcceptEx` it is the same
//! (mswsock/nf-mswsock-acceptex). Each also asks for a socket made beforehand, memory of its own and a join of its own,
//! for what happens once a session.
#![allow(unsafe_code)]

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::Socket;
use windows_sys::Win32::Networking::WinSock::{
    FD_ACCEPT, FD_CONNECT, FD_CONNECT_BIT, WSA_WAIT_EVENT_0, WSA_WAIT_FAILED, WSAEnumNetworkEvents,
    WSAEventSelect, WSANETWORKEVENTS, WSAWaitForMultipleEvents,
};

use super::raw;
use super::winsock::{Event, NO_EVENT};
use crate::driver::Waker;
use crate::driver::rio::table::Woken;

pub(super) struct Control {
    listener: Option<Socket>,
    /// The completion queue has told.
    completed: Event,
    /// The listener has a connection, or an attempt to connect has become something.
    changed: Event,
    /// Somebody has rung.
    bell: Arc<Event>,
}

impl Control {
    pub(super) fn new() -> io::Result<Control> {
        let (completed, changed, bell) = (Event::new()?, Event::new()?, Arc::new(Event::new()?));
        Ok(Control { listener: None, completed, changed, bell })
    }

    /// What a completion queue is to set.
    pub(super) fn completed(&self) -> &Event {
        &self.completed
    }

    pub(super) fn listen(&mut self, listener: Socket) -> io::Result<()> {
        // One that has come already sets the event as well: "due to the persistence of network events".
        self.select(&listener, Some(FD_ACCEPT))?;
        self.listener = Some(listener);
        Ok(())
    }

    /// This call, "even one that fails", is what makes the next connection set the event
    /// (winsock2/nf-winsock2-wsaeventselect).
    pub(super) fn accept(&mut self) -> io::Result<(Socket, SocketAddr)> {
        let listener = self.listener.as_ref().ok_or(ErrorKind::InvalidInput)?;
        let (socket, address) = listener.accept()?;
        // It has inherited the listener's event.
        self.select(&socket, None)?;
        socket.set_nonblocking(true)?;
        let address = address.as_socket().ok_or(ErrorKind::InvalidData)?;
        Ok((socket, address))
    }

    pub(super) fn stop_listening(&mut self) {
        self.listener = None;
    }

    pub(super) fn connect(&mut self, socket: &Socket, address: SocketAddr) -> io::Result<()> {
        self.select(socket, Some(FD_CONNECT))?;
        match socket.connect(&address.into()) {
            Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
            _ => Ok(()),
        }
    }

    /// `FD_CONNECT` is recorded once, when the attempt has ended, and with it why it has failed; asking for the record
    /// clears it (winsock2/nf-winsock2-wsaenumnetworkevents).
    pub(super) fn connected(&mut self, socket: &Socket) -> Option<io::Result<()>> {
        let mut events = WSANETWORKEVENTS::default();
        // SAFETY: the socket is open, and the events are written to a live value. No event is reset: all sockets
        // share it.
        if unsafe { WSAEnumNetworkEvents(raw(socket), NO_EVENT, &mut events) } != 0 {
            return Some(Err(io::Error::last_os_error()));
        }
        if events.lNetworkEvents as u32 & FD_CONNECT == 0 {
            return None;
        }
        Some(match events.iErrorCode[FD_CONNECT_BIT as usize] {
            0 => self.select(socket, None),
            error => Err(io::Error::from_raw_os_error(error)),
        })
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
            // What is recorded later sets it again, and what was recorded before is looked for after this.
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

    /// Makes a socket's network events of one kind set the event, or takes it away from them
    /// (winsock2/nf-winsock2-wsaeventselect). The socket does not block from then on.
    fn select(&self, socket: &Socket, events: Option<u32>) -> io::Result<()> {
        let event = if events.is_some() { self.changed.handle } else { NO_EVENT };
        // SAFETY: the socket and the event are open.
        match unsafe { WSAEventSelect(raw(socket), event, events.unwrap_or(0) as i32) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
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
        control.listen(listener).unwrap();
        address
    }

    fn would_block<T>(outcome: io::Result<T>) -> bool {
        outcome.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    }

    #[test]
    fn each_connection_that_comes_ends_a_wait() {
        let mut control = Control::new().unwrap();
        let address = listen(&mut control);
        assert!(would_block(control.accept()));
        assert_eq!(control.wait(SHORT).unwrap(), Woken::default(), "nobody has come");
        for _ in 0..3 {
            let mut client = TcpStream::connect(address).unwrap();
            let mut accepted = None;
            hears(&mut control, |control| {
                accepted = control.accept().ok();
                accepted.is_some()
            });
            let (socket, from) = accepted.unwrap();
            assert_eq!(from, client.local_addr().unwrap());
            assert!(would_block((&socket).read(&mut [0])), "it does not block");
            assert!(would_block(control.accept()));
            // What happens to it afterwards is no matter of the event that its listener has.
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
        let mut control = Control::new().unwrap();
        let listener = socket::bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        listener.listen(8).unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap().as_socket().unwrap()).unwrap();
        control.listen(listener).unwrap();
        assert!(control.wait(LONG).unwrap().control);
        control.accept().unwrap();
    }

    #[test]
    fn an_attempt_to_connect_that_has_become_something_ends_a_wait() {
        let mut control = Control::new().unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let attempt = |control: &mut Control, address| {
            let socket = super::super::socket(address).unwrap();
            control.connect(&socket, address).unwrap();
            let mut outcome = None;
            hears(control, |control| {
                outcome = control.connected(&socket);
                outcome.is_some()
            });
            (socket, outcome.unwrap())
        };
        let (socket, outcome) = attempt(&mut control, address);
        outcome.unwrap();
        // It is told once, and what comes now is no matter of the event.
        assert!(control.connected(&socket).is_none());
        let mut peer = listener.accept().unwrap().0;
        while control.wait(SHORT).unwrap().control {}
        peer.write_all(b"oui").unwrap();
        assert_eq!(control.wait(SHORT).unwrap(), Woken::default());
        assert_eq!((&socket).read(&mut [0; 8]).unwrap(), 3);
        // Nobody listens on a port that is bound and no more.
        let silent = socket::bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let (_, outcome) = attempt(&mut control, silent.local_addr().unwrap().as_socket().unwrap());
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    }

    #[test]
    fn the_bell_ends_a_wait_once_from_any_thread_and_outlives_its_control() {
        let mut control = Control::new().unwrap();
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
        let mut control = Control::new().unwrap();
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
        let mut control = Control::new().unwrap();
        let address = listen(&mut control);
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
        let control = Control::new().unwrap();
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
