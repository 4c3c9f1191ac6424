//! Winsock, started and ended, and its events. One of the files with `unsafe`.
#![allow(unsafe_code)]

use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::ptr::without_provenance_mut;
use std::sync::Once;
use std::time::Duration;

use windows_sys::Win32::Foundation::HANDLE;
use windows_sys::Win32::Networking::WinSock::{
    WSACleanup, WSACloseEvent, WSACreateEvent, WSADATA, WSAEVENT, WSAResetEvent, WSASetEvent, WSAStartup,
    WSAWaitForMultipleEvents,
};

/// `WSA_INVALID_EVENT`, and what stands for none (winsock2/nf-winsock2-wsacreateevent).
pub(super) const NO_EVENT: WSAEVENT = 0;

/// Winsock is there as long as this lives. "There must be a call to WSACleanup for each successful call to WSAStartup";
/// "only the final WSACleanup function call performs the actual cleanup" (winsock2/nf-winsock2-wsacleanup).
pub(super) struct Winsock;

impl Winsock {
    pub(super) fn start() -> io::Result<Winsock> {
        let mut data = WSADATA::default();
        // SAFETY: what it tells of itself is written to a live value.
        match unsafe { WSAStartup(0x0202, &mut data) } {
            0 => {}
            error => return Err(io::Error::from_raw_os_error(error)),
        }
        #[cfg(test)]
        balance::STARTED.set(balance::STARTED.get() + 1);
        Ok(Winsock)
    }
}

impl Drop for Winsock {
    fn drop(&mut self) {
        #[cfg(test)]
        balance::STARTED.set(balance::STARTED.get() - 1);
        // SAFETY: it was started.
        unsafe { WSACleanup() };
    }
}

/// Starts Winsock for sockets that outlive their table, as accepted ones do that go to another engine: the final
/// cleanup takes all sockets with it. That start is the standard library's: it comes with its first socket, and is
/// ended when the process is, by it.
pub(super) fn start_with_the_process() {
    static STARTED: Once = Once::new();
    // Whether there is such a socket does not matter.
    STARTED.call_once(|| drop(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))));
}

/// An event that stays set until it is reset, and Winsock, which it needs: wakers keep it beyond their table.
pub(super) struct Event {
    pub(super) handle: WSAEVENT,
    _winsock: Winsock,
}

// SAFETY: an event's handle may be used from any thread.
unsafe impl Send for Event {}
// SAFETY: as above.
unsafe impl Sync for Event {}

impl Event {
    pub(super) fn new() -> io::Result<Event> {
        let winsock = Winsock::start()?;
        // SAFETY: it takes nothing.
        let handle = unsafe { WSACreateEvent() };
        if handle == NO_EVENT {
            return Err(io::Error::last_os_error());
        }
        Ok(Event { handle, _winsock: winsock })
    }

    /// The same, as waits want it.
    pub(super) fn pointer(&self) -> HANDLE {
        without_provenance_mut(self.handle as usize)
    }

    pub(super) fn set(&self) {
        // SAFETY: the event is open. It can't fail for one that is.
        unsafe { WSASetEvent(self.handle) };
    }

    /// Waits until it is set, at most so long.
    pub(super) fn wait(&self, timeout: Duration) {
        // SAFETY: one event, which is open.
        unsafe { WSAWaitForMultipleEvents(1, &self.pointer(), 0, timeout.as_millis() as u32, 0) };
    }

    pub(super) fn reset(&self) {
        // SAFETY: as above.
        unsafe { WSAResetEvent(self.handle) };
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: nobody else has it.
        unsafe { WSACloseEvent(self.handle) };
    }
}

/// How many starts of Winsock this thread has made and not ended.
#[cfg(test)]
pub(super) mod balance {
    use std::cell::Cell;

    thread_local! {
        pub(in super::super) static STARTED: Cell<i32> = const { Cell::new(0) };
    }
}
