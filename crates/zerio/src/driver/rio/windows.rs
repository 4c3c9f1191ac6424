//! The real table: Windows 8 and Server 2012 have it, later ones too; Wine does not, and layered service
//! providers may hide it. The pages named here are, as in `table.rs`, under learn.microsoft.com's
//! `windows/win32/api/`. One of the files with `unsafe`.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::io::{self, ErrorKind};
use std::mem::offset_of;
use std::net::{Shutdown, SocketAddr};
use std::os::windows::io::{AsRawSocket, FromRawSocket};
use std::ptr::{null, null_mut};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use socket2::Socket;
use windows_sys::Win32::Foundation::HANDLE;
use windows_sys::Win32::Networking::WinSock::{
    AF_INET, AF_INET6, FD_ACCEPT, FD_CONNECT, FD_CONNECT_BIT, INVALID_SOCKET, IPPROTO_TCP,
    LPFN_RIOCLOSECOMPLETIONQUEUE, LPFN_RIOCREATECOMPLETIONQUEUE, LPFN_RIOCREATEREQUESTQUEUE,
    LPFN_RIODEQUEUECOMPLETION, LPFN_RIODEREGISTERBUFFER, LPFN_RIONOTIFY, LPFN_RIORECEIVE,
    LPFN_RIOREGISTERBUFFER, LPFN_RIOSEND, RIO_BUF, RIO_EVENT_COMPLETION, RIO_EXTENSION_FUNCTION_TABLE,
    RIO_NOTIFICATION_COMPLETION, RIO_NOTIFICATION_COMPLETION_0, RIO_NOTIFICATION_COMPLETION_0_0, RIORESULT,
    SIO_GET_MULTIPLE_EXTENSION_FUNCTION_POINTER, SOCK_STREAM, SOCKET, WSA_FLAG_NO_HANDLE_INHERIT,
    WSA_FLAG_OVERLAPPED, WSA_FLAG_REGISTERED_IO, WSA_IO_PENDING, WSA_WAIT_EVENT_0, WSA_WAIT_FAILED,
    WSACleanup, WSACloseEvent, WSACreateEvent, WSADATA, WSAEOPNOTSUPP, WSAEVENT, WSAEnumNetworkEvents,
    WSAEventSelect, WSAID_MULTIPLE_RIO, WSAIoctl, WSANETWORKEVENTS, WSAResetEvent, WSASetEvent, WSASocketW,
    WSAStartup, WSAWaitForMultipleEvents,
};

use super::table::{BufferId, CompletionQueue, Limits, Outcome, Piece, RequestQueue, Table, Woken};
use crate::driver::Waker;

/// `RIO_INVALID_BUFFERID`; the other handles' invalid value is 0.
const INVALID_BUFFER: isize = 0xFFFF_FFFF;

/// `WSA_INVALID_EVENT`, and what stands for none.
const NO_EVENT: WSAEVENT = 0;

// What is dequeued is written in place.
const _: () = assert!(size_of::<Outcome>() == size_of::<RIORESULT>());
const _: () = assert!(offset_of!(Outcome, bytes) == offset_of!(RIORESULT, BytesTransferred));
const _: () = assert!(offset_of!(Outcome, socket_context) == offset_of!(RIORESULT, SocketContext));
const _: () = assert!(offset_of!(Outcome, request_context) == offset_of!(RIORESULT, RequestContext));

pub(crate) struct Windows {
    functions: Functions,
    listener: Option<Socket>,
    /// The completion queue has told.
    completed: Event,
    /// The listener has a connection, or an attempt to connect has become something.
    control: Event,
    /// Somebody has rung.
    bell: Arc<Event>,
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

    fn open(_: usize) -> io::Result<Windows> {
        Ok(Windows {
            functions: Functions::get()?,
            listener: None,
            completed: Event::new()?,
            control: Event::new()?,
            bell: Arc::new(Event::new()?),
        })
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
        // The event is reset whenever the queue is asked to tell
        // (mswsock/ns-mswsock-rio_notification_completion).
        let event = RIO_NOTIFICATION_COMPLETION_0_0 { EventHandle: self.completed.pointer(), NotifyReset: 1 };
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

    fn notify(&mut self, queue: CompletionQueue) -> io::Result<()> {
        // SAFETY: a queue of this table's, on its thread, with an event that is open.
        match unsafe { (self.functions.notify)(queue.0) } {
            0 => Ok(()),
            error => Err(io::Error::from_raw_os_error(error)),
        }
    }

    fn socket(&mut self, address: SocketAddr) -> io::Result<Socket> {
        socket(address)
    }

    fn listen(&mut self, listener: Socket) -> io::Result<()> {
        self.select(&listener, Some(FD_ACCEPT))?;
        self.listener = Some(listener);
        Ok(())
    }

    fn accept(&mut self) -> io::Result<(Socket, SocketAddr)> {
        let listener = self.listener.as_ref().ok_or(ErrorKind::InvalidInput)?;
        let (socket, address) = listener.accept()?;
        // It has inherited the listener's event.
        self.select(&socket, None)?;
        socket.set_nonblocking(true)?;
        let address = address.as_socket().ok_or(ErrorKind::InvalidData)?;
        Ok((socket, address))
    }

    fn stop_listening(&mut self) {
        self.listener = None;
    }

    fn connect(&mut self, _: u32, socket: &Socket, address: SocketAddr) -> io::Result<()> {
        self.select(socket, Some(FD_CONNECT))?;
        match socket.connect(&address.into()) {
            Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
            _ => Ok(()),
        }
    }

    fn connected(&mut self, _: u32, socket: &Socket) -> Option<io::Result<()>> {
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

    fn shut_down(&mut self, socket: &Socket, _: Option<RequestQueue>) -> io::Result<()> {
        socket.shutdown(Shutdown::Write)
    }

    fn close(&mut self, _: u32, socket: Socket, _: Option<RequestQueue>) {
        drop(socket);
    }

    fn wait(&mut self, timeout: Duration) -> io::Result<Woken> {
        // The first that is set is told, so the queue's comes first: it is not lost behind the others.
        let events = [&self.completed, &self.control, &self.bell].map(Event::pointer);
        // A bound that is not a whole number of milliseconds is rounded up: rounded down it would be a spin.
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
            self.control.reset();
        } else if is(2) {
            self.bell.reset();
        }
        Ok(woken)
    }

    fn waker(&self) -> Waker {
        let bell = self.bell.clone();
        // SAFETY: the event is open as long as the `Arc` is.
        Waker::new(move || _ = unsafe { WSASetEvent(bell.handle) })
    }
}

impl Windows {
    /// Makes a socket's network events of one kind set the control event, or takes it away from them
    /// (winsock2/nf-winsock2-wsaeventselect). The socket does not block from then on.
    fn select(&self, socket: &Socket, events: Option<u32>) -> io::Result<()> {
        let event = if events.is_some() { self.control.handle } else { NO_EVENT };
        // SAFETY: the socket and the event are open.
        match unsafe { WSAEventSelect(raw(socket), event, events.unwrap_or(0) as i32) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

/// A socket that can be used with Registered I/O.
pub(crate) fn socket(address: SocketAddr) -> io::Result<Socket> {
    socket_of(if address.is_ipv4() { AF_INET } else { AF_INET6 })
}

fn socket_of(family: u16) -> io::Result<Socket> {
    // The last `WSACleanup` would take every socket of the process with it, this one too. So there is one start
    // without an end, for the process's life, as std has one of its own.
    static WINSOCK: OnceLock<io::Result<Winsock>> = OnceLock::new();
    if let Err(error) = WINSOCK.get_or_init(Winsock::start) {
        return Err(io::Error::from_raw_os_error(error.raw_os_error().unwrap_or_default()));
    }
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

/// An event that stays set until it is reset, and Winsock, which it needs.
struct Event {
    handle: WSAEVENT,
    _winsock: Winsock,
}

// SAFETY: an event's handle may be used from any thread.
unsafe impl Send for Event {}
// SAFETY: as above.
unsafe impl Sync for Event {}

impl Event {
    fn new() -> io::Result<Event> {
        let winsock = Winsock::start()?;
        // SAFETY: it takes nothing.
        let handle = unsafe { WSACreateEvent() };
        if handle == NO_EVENT {
            return Err(io::Error::last_os_error());
        }
        Ok(Event { handle, _winsock: winsock })
    }

    /// The same, as waits want it.
    fn pointer(&self) -> HANDLE {
        std::ptr::without_provenance_mut(self.handle as usize)
    }

    fn reset(&self) {
        // SAFETY: the event is open. It can't fail for one that is.
        unsafe { WSAResetEvent(self.handle) };
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: nobody else has it.
        unsafe { WSACloseEvent(self.handle) };
    }
}

/// Winsock is there as long as this lives: each start has its end (winsock2/nf-winsock2-wsastartup).
struct Winsock;

impl Winsock {
    fn start() -> io::Result<Winsock> {
        let mut data = WSADATA::default();
        // SAFETY: what it tells of itself is written to a live value.
        match unsafe { WSAStartup(0x0202, &mut data) } {
            0 => Ok(Winsock),
            error => Err(io::Error::from_raw_os_error(error)),
        }
    }
}

impl Drop for Winsock {
    fn drop(&mut self) {
        // SAFETY: it was started.
        unsafe { WSACleanup() };
    }
}
