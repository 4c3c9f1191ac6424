//! The real table: Windows 8 and Server 2012 have it, later ones too; Wine does not, and layered service
//! providers may hide it. The pages named here are, as in `table.rs`, under learn.microsoft.com's
//! `windows/win32/api/`. One of the files with `unsafe`.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::io;
use std::mem::offset_of;
use std::net::{Shutdown, SocketAddr};
use std::os::windows::io::{AsRawSocket, FromRawSocket};
use std::ptr::{null, null_mut};
use std::time::Duration;

use socket2::Socket;
use windows_sys::Win32::Networking::WinSock::{
    AF_INET, AF_INET6, INVALID_SOCKET, IPPROTO_TCP, LPFN_RIOCLOSECOMPLETIONQUEUE,
    LPFN_RIOCREATECOMPLETIONQUEUE, LPFN_RIOCREATEREQUESTQUEUE, LPFN_RIODEQUEUECOMPLETION,
    LPFN_RIODEREGISTERBUFFER, LPFN_RIONOTIFY, LPFN_RIORECEIVE, LPFN_RIOREGISTERBUFFER, LPFN_RIOSEND, RIO_BUF,
    RIO_CORRUPT_CQ, RIO_EVENT_COMPLETION, RIO_EXTENSION_FUNCTION_TABLE, RIO_MAX_CQ_SIZE, RIO_MSG_COMMIT_ONLY,
    RIO_MSG_DEFER, RIO_NOTIFICATION_COMPLETION, RIO_NOTIFICATION_COMPLETION_0,
    RIO_NOTIFICATION_COMPLETION_0_0, RIORESULT, SIO_GET_MULTIPLE_EXTENSION_FUNCTION_POINTER, SOCK_STREAM,
    SOCKET, WSA_FLAG_NO_HANDLE_INHERIT, WSA_FLAG_OVERLAPPED, WSA_FLAG_REGISTERED_IO, WSA_IO_PENDING,
    WSAEALREADY, WSAEOPNOTSUPP, WSAID_MULTIPLE_RIO, WSAIoctl, WSASocketW,
};

use super::table::{
    Asked, BufferId, COMMIT_ONLY, COMPLETIONS_MAX, CORRUPT, CompletionQueue, DEFER, Limits, Outcome, Piece,
    RequestQueue, Table, Woken,
};
use crate::driver::Waker;

mod control;
mod operation;
mod winsock;

use control::Control;
use winsock::Winsock;

/// `RIO_INVALID_BUFFERID`, in mswsockdef.h 0xFFFFFFFF made a pointer; the invalid values of the other handles,
/// `RIO_INVALID_CQ` and `RIO_INVALID_RQ`, are 0 there. The pages of the functions that give them name them, and no page
/// has their values.
const INVALID_BUFFER: isize = 0xFFFF_FFFF;

// The other numbers as the header has them.
const _: () = assert!(DEFER == RIO_MSG_DEFER && COMMIT_ONLY == RIO_MSG_COMMIT_ONLY);
const _: () = assert!(CORRUPT == RIO_CORRUPT_CQ && COMPLETIONS_MAX == RIO_MAX_CQ_SIZE);

// What is dequeued is written in place.
const _: () = assert!(size_of::<Outcome>() == size_of::<RIORESULT>());
const _: () = assert!(offset_of!(Outcome, bytes) == offset_of!(RIORESULT, BytesTransferred));
const _: () = assert!(offset_of!(Outcome, socket_context) == offset_of!(RIORESULT, SocketContext));
const _: () = assert!(offset_of!(Outcome, request_context) == offset_of!(RIORESULT, RequestContext));

pub(crate) struct Windows {
    functions: Functions,
    control: Control,
    /// The last to go.
    _winsock: Winsock,
}

/// The functions that are used, each of which is there.
struct Functions {
    receive: unsafe extern "system" fn(isize, *const RIO_BUF, u32, u32, *const c_void) -> i32,
    send: unsafe extern "system" fn(isize, *const RIO_BUF, u32, u32, *const c_void) -> i32,
    close_completion_queue: unsafe extern "system" fn(isize),
    create_completion_queue: unsafe extern "system" fn(u32, *const RIO_NOTIFICATION_COMPLETION) -> isize,
    create_request_queue:
        unsafe extern "system" fn(SOCKET, u32, u32, u32, u32, isize, isize, *const c_void) -> isize,
    dequeue_completion: unsafe extern "system" fn(isize, *mut RIORESULT, u32) -> u32,
    deregister_buffer: unsafe extern "system" fn(isize),
    notify: unsafe extern "system" fn(isize) -> i32,
    register_buffer: unsafe extern "system" fn(*const u8, u32) -> isize,
}

impl Functions {
    /// Asks Winsock for the table (winsock2/nf-winsock2-wsaioctl). Not that a socket can be made for
    /// Registered I/O, but this tells whether it is there.
    fn get() -> io::Result<Functions> {
        let probe = socket_of(AF_INET).or_else(|_| socket_of(AF_INET6))?;
        let mut table = RIO_EXTENSION_FUNCTION_TABLE::default();
        let (which, size) = (WSAID_MULTIPLE_RIO, size_of::<RIO_EXTENSION_FUNCTION_TABLE>() as u32);
        table.cbSize = size;
        let mut bytes = 0;
        // SAFETY: the socket is open; the pointers are to live values of the lengths that go with them.
        let failed = unsafe {
            WSAIoctl(
                raw(&probe),
                SIO_GET_MULTIPLE_EXTENSION_FUNCTION_POINTER,
                (&raw const which).cast(),
                size_of_val(&which) as u32,
                (&raw mut table).cast(),
                size,
                &mut bytes,
                null_mut(),
                None,
            )
        };
        if failed != 0 {
            return Err(io::Error::last_os_error());
        }
        Functions::all(&table).ok_or_else(|| io::Error::from_raw_os_error(WSAEOPNOTSUPP))
    }

    fn all(table: &RIO_EXTENSION_FUNCTION_TABLE) -> Option<Functions> {
        let receive: LPFN_RIORECEIVE = table.RIOReceive;
        let send: LPFN_RIOSEND = table.RIOSend;
        let close_completion_queue: LPFN_RIOCLOSECOMPLETIONQUEUE = table.RIOCloseCompletionQueue;
        let create_completion_queue: LPFN_RIOCREATECOMPLETIONQUEUE = table.RIOCreateCompletionQueue;
        let create_request_queue: LPFN_RIOCREATEREQUESTQUEUE = table.RIOCreateRequestQueue;
        let dequeue_completion: LPFN_RIODEQUEUECOMPLETION = table.RIODequeueCompletion;
        let deregister_buffer: LPFN_RIODEREGISTERBUFFER = table.RIODeregisterBuffer;
        let notify: LPFN_RIONOTIFY = table.RIONotify;
        let register_buffer: LPFN_RIOREGISTERBUFFER = table.RIORegisterBuffer;
        Some(Functions {
            receive: receive?,
            send: send?,
            close_completion_queue: close_completion_queue?,
            create_completion_queue: create_completion_queue?,
            create_request_queue: create_request_queue?,
            dequeue_completion: dequeue_completion?,
            deregister_buffer: deregister_buffer?,
            notify: notify?,
            register_buffer: register_buffer?,
        })
    }
}

impl Table for Windows {
    const NAME: &'static str = "rio";

    /// Half of what a DWORD could say: whole pages, and whole rings where their sizes are powers of two.
    const REGISTRATION_MAX: usize = 1 << 31;

    fn open(sockets: usize) -> io::Result<Windows> {
        let winsock = Winsock::start()?;
        Ok(Windows { functions: Functions::get()?, control: Control::new(sockets)?, _winsock: winsock })
    }

    unsafe fn register_buffer(&mut self, start: *mut u8, len: usize) -> io::Result<BufferId> {
        // SAFETY: as the caller promises.
        let id = unsafe { (self.functions.register_buffer)(start, len as u32) };
        if id == INVALID_BUFFER { Err(io::Error::last_os_error()) } else { Ok(BufferId(id)) }
    }

    fn deregister_buffer(&mut self, buffer: BufferId) {
        // SAFETY: a registration of this table's, which nothing outstanding uses.
        unsafe { (self.functions.deregister_buffer)(buffer.0) };
    }

    fn create_completion_queue(&mut self, size: u32, tells: bool) -> io::Result<CompletionQueue> {
        // Nobody resets the event but `reset_told`: of `NotifyReset` the page says that it does so when the queue is
        // asked to tell, and also that it does when the notification comes
        // (mswsock/ns-mswsock-rio_notification_completion).
        let handle = self.control.completed().pointer();
        let event = RIO_NOTIFICATION_COMPLETION_0_0 { EventHandle: handle, NotifyReset: 0 };
        let by_event = RIO_NOTIFICATION_COMPLETION {
            Type: RIO_EVENT_COMPLETION,
            Anonymous: RIO_NOTIFICATION_COMPLETION_0 { Event: event },
        };
        let notification = if tells { &raw const by_event } else { null() };
        // SAFETY: the structure is read during the call; the event is closed after the queue.
        let queue = unsafe { (self.functions.create_completion_queue)(size, notification) };
        if queue == 0 { Err(io::Error::last_os_error()) } else { Ok(CompletionQueue(queue)) }
    }

    fn close_completion_queue(&mut self, queue: CompletionQueue) {
        // SAFETY: a queue of this table's, on its thread.
        unsafe { (self.functions.close_completion_queue)(queue.0) };
    }

    fn create_request_queue(
        &mut self,
        socket: &Socket,
        limits: Limits,
        completions: CompletionQueue,
        context: u32,
    ) -> io::Result<RequestQueue> {
        let Limits { receives, sends } = limits;
        let (socket, queue, context) = (raw(socket), completions.0, pointer(context));
        // SAFETY: the socket is open, the queue is this table's, on its thread; the context is a number.
        let queue = unsafe {
            (self.functions.create_request_queue)(socket, receives, 1, sends, 1, queue, queue, context)
        };
        if queue == 0 { Err(io::Error::last_os_error()) } else { Ok(RequestQueue(queue)) }
    }

    unsafe fn receive(
        &mut self,
        queue: RequestQueue,
        data: Option<Piece>,
        flags: u32,
        context: u32,
    ) -> io::Result<()> {
        let data = data.map(buf);
        let (pointer_to, count) = (data.as_ref().map_or(null(), |data| &raw const *data), data.is_some());
        // SAFETY: the description is read during the call; of what it describes, as the caller promises.
        let ok = unsafe {
            (self.functions.receive)(queue.0, pointer_to, u32::from(count), flags, pointer(context))
        };
        begun(ok)
    }

    unsafe fn send(
        &mut self,
        queue: RequestQueue,
        data: Option<Piece>,
        flags: u32,
        context: u32,
    ) -> io::Result<()> {
        let data = data.map(buf);
        let (pointer_to, count) = (data.as_ref().map_or(null(), |data| &raw const *data), data.is_some());
        // SAFETY: as above.
        let ok =
            unsafe { (self.functions.send)(queue.0, pointer_to, u32::from(count), flags, pointer(context)) };
        begun(ok)
    }

    fn dequeue_completions(&mut self, queue: CompletionQueue, outcomes: &mut [Outcome]) -> u32 {
        let (array, len) = (outcomes.as_mut_ptr().cast(), outcomes.len() as u32);
        // SAFETY: the array has so many places, of the same layout, as asserted above.
        unsafe { (self.functions.dequeue_completion)(queue.0, array, len) }
    }

    fn reset_told(&mut self, _: CompletionQueue) {
        self.control.completed().reset();
    }

    fn notify(&mut self, queue: CompletionQueue) -> io::Result<Asked> {
        // SAFETY: a queue of this table's, on its thread, with an event that is open.
        match unsafe { (self.functions.notify)(queue.0) } {
            0 => Ok(Asked::Anew),
            WSAEALREADY => Ok(Asked::Already),
            error => Err(io::Error::from_raw_os_error(error)),
        }
    }

    fn socket(&mut self, address: SocketAddr) -> io::Result<Socket> {
        socket(address)
    }

    fn listen(&mut self, listener: Socket) -> io::Result<()> {
        self.control.listen(listener)
    }

    fn accept(&mut self) -> io::Result<(Socket, SocketAddr)> {
        self.control.accept()
    }

    fn stop_listening(&mut self) {
        self.control.stop_listening();
    }

    fn connect(&mut self, index: u32, socket: &Socket, address: SocketAddr) -> io::Result<()> {
        self.control.connect(index, socket, address)
    }

    fn connected(&mut self, index: u32, socket: &Socket) -> Option<io::Result<()>> {
        self.control.connected(index, socket)
    }

    fn shut_down(&mut self, socket: &Socket, _: Option<RequestQueue>) -> io::Result<()> {
        socket.shutdown(Shutdown::Write)
    }

    fn close(&mut self, index: u32, socket: Socket, _: Option<RequestQueue>) {
        self.control.forget(index, &socket);
        drop(socket);
    }

    fn wait(&mut self, timeout: Duration) -> io::Result<Woken> {
        self.control.wait(timeout)
    }

    fn waker(&self) -> Waker {
        self.control.waker()
    }
}

/// Why there is no table of functions, where there is none.
#[cfg(test)]
pub(crate) fn probe() -> io::Result<()> {
    Functions::get().map(drop)
}

/// A socket that can be used with Registered I/O.
fn socket(address: SocketAddr) -> io::Result<Socket> {
    socket_of(if address.is_ipv4() { AF_INET } else { AF_INET6 })
}

fn socket_of(family: u16) -> io::Result<Socket> {
    winsock::start_with_the_process();
    let flags = WSA_FLAG_OVERLAPPED | WSA_FLAG_REGISTERED_IO | WSA_FLAG_NO_HANDLE_INHERIT;
    // SAFETY: numbers, and no protocol information.
    let socket = unsafe { WSASocketW(i32::from(family), SOCK_STREAM, IPPROTO_TCP, null(), 0, flags) };
    if socket == INVALID_SOCKET {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it is new, and nobody else's.
    Ok(unsafe { Socket::from_raw_socket(socket as u64) })
}

fn raw(socket: &Socket) -> SOCKET {
    socket.as_raw_socket() as SOCKET
}

/// "Any contiguous segment of memory contained in a single buffer registration" (mswsockdef/ns-mswsockdef-rio_buf).
fn buf(piece: Piece) -> RIO_BUF {
    RIO_BUF { BufferId: piece.buffer.0, Offset: piece.offset, Length: piece.len }
}

/// A context goes in the place of a pointer, and comes back as a number.
fn pointer(context: u32) -> *const c_void {
    std::ptr::without_provenance(context as usize)
}

/// Whether a request has begun. `WSA_IO_PENDING` is among the errors, and is none
/// (mswsock/nc-mswsock-lpfn_riosend).
fn begun(ok: i32) -> io::Result<()> {
    if ok != 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    if error.raw_os_error() == Some(WSA_IO_PENDING) { Ok(()) } else { Err(error) }
}
