//! An overlapped operation, and what the kernel tells of it in. One of the files with `unsafe`.
#![allow(unsafe_code)]

use std::cell::UnsafeCell;
use std::io;
use std::mem::ManuallyDrop;
use std::ptr::without_provenance_mut;
use std::time::Duration;

use socket2::Socket;
use windows_sys::Win32::Networking::WinSock::{
    SOCKADDR_IN6, WSA_IO_INCOMPLETE, WSA_IO_PENDING, WSAGetOverlappedResult,
};
use windows_sys::Win32::System::IO::{CancelIoEx, OVERLAPPED};

use super::raw;
use super::winsock::Event;

/// Room for one address: "at least 16 bytes more than the maximum address length" (mswsock/nf-mswsock-acceptex).
pub(super) const ADDRESS: usize = size_of::<SOCKADDR_IN6>() + 16;

/// So often one that was cancelled is looked at, and waited for so long in between.
const LOOKS: u32 = 20;
const LOOK: Duration = Duration::from_millis(50);

/// One at a time. The kernel writes into what it owns until the operation is over: it stays where it is, and if it must,
/// for ever.
pub(super) struct Operation {
    told: ManuallyDrop<Box<UnsafeCell<Told>>>,
    /// The event's owner outlives it.
    event: *mut core::ffi::c_void,
    under_way: bool,
}

struct Told {
    overlapped: OVERLAPPED,
    addresses: [u8; 2 * ADDRESS],
}

// SAFETY: what it points to is its own, or may be used from any thread.
unsafe impl Send for Operation {}

impl Operation {
    /// One whose end sets this event.
    pub(super) fn new(event: &Event) -> Operation {
        Operation { told: ManuallyDrop::new(fresh()), event: event.pointer(), under_way: false }
    }

    /// What the function that begins it takes: room for two addresses, and the structure.
    pub(super) fn begin(&mut self) -> (*mut u8, *mut OVERLAPPED) {
        debug_assert!(!self.under_way, "one at a time");
        let told = self.told.get_mut();
        told.overlapped = OVERLAPPED { hEvent: self.event, ..OVERLAPPED::default() };
        let told = self.told.get();
        // SAFETY: addresses within what is owned; nothing is read.
        unsafe { ((&raw mut (*told).addresses).cast(), &raw mut (*told).overlapped) }
    }

    /// What that function has said: on an error nothing has begun.
    pub(super) fn begun(&mut self, done: i32) -> io::Result<()> {
        let error = io::Error::last_os_error();
        if done == 0 && error.raw_os_error() != Some(WSA_IO_PENDING) {
            return Err(error);
        }
        self.under_way = true;
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn is_under_way(&self) -> bool {
        self.under_way
    }

    /// What has become of it, once; `None` while it goes on. It is of this socket, which is open.
    pub(super) fn outcome(&mut self, socket: &Socket) -> Option<io::Result<()>> {
        if !self.under_way {
            return None;
        }
        let (mut bytes, mut flags) = (0, 0);
        // SAFETY: the structure is that of an operation that has begun; the others are live values.
        let done = unsafe {
            let overlapped = &raw const (*self.told.get()).overlapped;
            WSAGetOverlappedResult(raw(socket), overlapped, &mut bytes, 0, &mut flags)
        };
        let outcome = if done == 0 { Err(io::Error::last_os_error()) } else { Ok(()) };
        if outcome.as_ref().is_err_and(|error| error.raw_os_error() == Some(WSA_IO_INCOMPLETE)) {
            return None;
        }
        self.under_way = false;
        Some(outcome)
    }

    /// Ends it, and returns when the kernel has let go. The event is that which its end sets.
    pub(super) fn cancel(&mut self, socket: &Socket, event: &Event) {
        if !self.under_way {
            return;
        }
        // SAFETY: the socket is open, and the structure is that of an operation that has begun. It fails where that is over.
        unsafe { CancelIoEx(without_provenance_mut(raw(socket)), &raw const (*self.told.get()).overlapped) };
        for _ in 0..LOOKS {
            event.reset();
            if self.outcome(socket).is_some() {
                break;
            }
            event.wait(LOOK);
        }
        // What else it told of is to be looked at.
        event.set();
        if self.under_way {
            // The kernel does not let go: it keeps what it has, which nobody frees.
            (self.told, self.under_way) = (ManuallyDrop::new(fresh()), false);
        }
    }
}

fn fresh() -> Box<UnsafeCell<Told>> {
    Box::new(UnsafeCell::new(Told { overlapped: OVERLAPPED::default(), addresses: [0; 2 * ADDRESS] }))
}

impl Drop for Operation {
    fn drop(&mut self) {
        if !self.under_way {
            // SAFETY: nothing uses it after this, and the kernel does not either.
            unsafe { ManuallyDrop::drop(&mut self.told) };
        }
    }
}
