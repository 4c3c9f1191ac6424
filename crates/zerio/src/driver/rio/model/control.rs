//! The model's other half: listening, connecting, and what ends a wait besides completions.
#![forbid(unsafe_code)]

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use socket2::Socket;

use super::sockets::{self, Made};
use crate::driver::Waker;

/// What a driver accepts from and connects.
pub(super) struct Control {
    listener: Option<Socket>,
    /// Accepted before anyone has asked, to find out whether there is something to accept.
    accepted: Option<io::Result<(Socket, SocketAddr)>>,
    /// A wait has told of it, and tells no more before `accept` has been called.
    told: bool,
    reset_accepts: bool,
    /// By slot.
    attempts: Box<[Attempt]>,
    /// How many of them have a socket.
    under_way: usize,
}

/// A connection that is being made.
#[derive(Default)]
struct Attempt {
    socket: Option<Socket>,
    outcome: Option<io::Result<()>>,
    /// A wait has told of it.
    told: bool,
}

impl Control {
    pub(super) fn new(slots: usize, reset_accepts: bool) -> Control {
        let attempts = (0..slots).map(|_| Attempt::default()).collect();
        Control { listener: None, accepted: None, told: false, reset_accepts, attempts, under_way: 0 }
    }

    pub(super) fn listen(&mut self, listener: Socket) {
        self.listener = Some(listener);
    }

    pub(super) fn stop_listening(&mut self) {
        self.listener = None;
        self.accepted = None;
    }

    pub(super) fn accept(&mut self) -> io::Result<(Socket, SocketAddr)> {
        self.told = false;
        self.accepted.take().unwrap_or_else(|| self.accept_now())
    }

    fn accept_now(&self) -> io::Result<(Socket, SocketAddr)> {
        let listener = self.listener.as_ref().ok_or(ErrorKind::InvalidInput)?;
        let (socket, address) = listener.accept()?;
        if self.reset_accepts && matches!(socket.take_error(), Ok(Some(_))) {
            return Err(ErrorKind::ConnectionReset.into());
        }
        // It was made beforehand, whatever the listener is.
        sockets::note(&socket, Made::Connected);
        socket.set_nonblocking(true)?;
        let address = address.as_socket().ok_or(ErrorKind::InvalidData)?;
        Ok((socket, address))
    }

    pub(super) fn connect(&mut self, index: u32, socket: &Socket, address: SocketAddr) -> io::Result<()> {
        match socket.connect(&address.into()) {
            Err(error) if !is_under_way(&error) => return Err(error),
            _ => {}
        }
        self.attempts[index as usize] = Attempt { socket: Some(socket.try_clone()?), ..Attempt::default() };
        self.under_way += 1;
        Ok(())
    }

    pub(super) fn connected(&mut self, index: u32) -> Option<io::Result<()>> {
        self.attempts[index as usize].look();
        let outcome = self.attempts[index as usize].outcome.take()?;
        self.forget(index);
        Some(outcome)
    }

    pub(super) fn forget(&mut self, index: u32) {
        let attempt = std::mem::take(&mut self.attempts[index as usize]);
        self.under_way -= usize::from(attempt.socket.is_some());
    }

    /// Whether a wait ends for something here. It does so once for each thing, as an event that was reset is set
    /// again for what is new alone.
    pub(super) fn tells(&mut self) -> bool {
        if self.listener.is_some() && self.accepted.is_none() {
            self.accepted = match self.accept_now() {
                Err(error) if error.kind() == ErrorKind::WouldBlock => None,
                outcome => Some(outcome),
            };
        }
        let mut tells = self.accepted.is_some() && !std::mem::replace(&mut self.told, true);
        if self.accepted.is_none() {
            self.told = false;
        }
        if self.under_way > 0 {
            for attempt in &mut self.attempts {
                attempt.look();
                tells |= attempt.outcome.is_some() && !std::mem::replace(&mut attempt.told, true);
            }
        }
        tells
    }
}

impl Attempt {
    fn look(&mut self) {
        let (Some(socket), None) = (&self.socket, &self.outcome) else { return };
        self.outcome = match (socket.take_error(), socket.peer_addr()) {
            (Err(error) | Ok(Some(error)), _) => Some(Err(error)),
            (Ok(None), Ok(_)) => Some(Ok(())),
            (Ok(None), Err(error)) if error.kind() == ErrorKind::NotConnected => None,
            (Ok(None), Err(error)) => Some(Err(error)),
        };
    }
}

fn is_under_way(error: &io::Error) -> bool {
    #[cfg(unix)]
    let in_progress = error.raw_os_error() == Some(libc::EINPROGRESS);
    #[cfg(not(unix))]
    let in_progress = false;
    in_progress || error.kind() == ErrorKind::WouldBlock
}

/// What other threads ring: an event that resets itself.
#[derive(Default)]
pub(super) struct Bell {
    rung: Mutex<bool>,
    changed: Condvar,
}

impl Bell {
    pub(super) fn waker(self: &Arc<Bell>) -> Waker {
        let bell = self.clone();
        Waker::new(move || {
            *bell.rung.lock().unwrap_or_else(PoisonError::into_inner) = true;
            bell.changed.notify_all();
        })
    }

    /// Waits so long, or until it rings; whether it has rung.
    pub(super) fn wait(&self, pause: Duration) -> bool {
        let mut rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        if !*rung && !pause.is_zero() {
            rung = self.changed.wait_timeout(rung, pause).unwrap_or_else(PoisonError::into_inner).0;
        }
        std::mem::take(&mut *rung)
    }
}
