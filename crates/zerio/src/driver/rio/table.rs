//! The table of functions that the `rio` driver is written against: Windows' own (`windows.rs`), or in tests
//! a strict model of it (`model.rs`). Its upper half is `RIO_EXTENSION_FUNCTION_TABLE` of mswsock.h, function
//! for function; its lower half is what a driver needs besides: making and closing sockets, accepting and
//! connecting, and a wait for all of it.
//!
//! The rules stand at each function, with the page of learn.microsoft.com that has them, under
//! `windows/win32/api/`; those that begin with `winsock/` are under `windows/win32/`. One rule is for all of them: queues are "not protected by synchronization primitives"
//! (mswsock/nc-mswsock-lpfn_riocreaterequestqueue), so one thread owns them, the driver's. One of the files
//! with `unsafe`.
#![allow(unsafe_code)]

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::Socket;

use crate::driver::Waker;

/// A registration of memory: `RIO_BUFFERID`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BufferId(pub(crate) isize);

/// A completion queue: `RIO_CQ`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CompletionQueue(pub(crate) isize);

/// A socket's request queue: `RIO_RQ`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RequestQueue(pub(crate) isize);

/// A piece of a registration: `RIO_BUF`, "any contiguous segment of memory contained in a single buffer registration"
/// (mswsockdef/ns-mswsockdef-rio_buf).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) buffer: BufferId,
    pub(crate) offset: u32,
    pub(crate) len: u32,
}

/// How many requests of each kind a request queue holds. Each has one buffer: more "must be 1"
/// (mswsock/nc-mswsock-lpfn_riocreaterequestqueue).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) receives: u32,
    pub(crate) sends: u32,
}

/// Which of a request queue's two directions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Receive,
    Send,
}

/// What became of a request: `RIORESULT`, field for field (mswsockdef/ns-mswsockdef-rioresult).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Outcome {
    /// 0, or why it failed.
    pub(crate) status: i32,
    pub(crate) bytes: u32,
    pub(crate) socket_context: u64,
    pub(crate) request_context: u64,
}

// The names of these are on the pages, their values in the header mswsockdef.h alone: `windows.rs` compares them.

/// `RIO_MSG_DEFER`: the request is queued, and waits for the commit, or begins all the same
/// (mswsock/nc-mswsock-lpfn_riosend).
pub(crate) const DEFER: u32 = 2;

/// `RIO_MSG_COMMIT_ONLY`: no request, but what was deferred begins. No other flag, no data and no context may
/// come with it (mswsock/nc-mswsock-lpfn_riosend).
pub(crate) const COMMIT_ONLY: u32 = 8;

/// `RIO_CORRUPT_CQ`: what dequeuing gives in place of a number where the completion queue is lost
/// (mswsock/nc-mswsock-lpfn_riodequeuecompletion).
pub(crate) const CORRUPT: u32 = u32::MAX;

/// `RIO_MAX_CQ_SIZE`, the largest completion queue (mswsock/nc-mswsock-lpfn_riocreatecompletionqueue).
pub(crate) const COMPLETIONS_MAX: u32 = 0x0800_0000;

/// What came of asking a completion queue to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// It will tell.
    Anew,
    /// It says that it was asked before and has not told, `WSAEALREADY`: who has heard it tell does not know what it
    /// means, and goes on asking.
    Already,
}

/// What ended a wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Woken {
    /// The completion queue has told that it is not empty: it will not again before it is asked to.
    pub(crate) completions: bool,
    /// A connection may be there to be accepted, or one that is being made has become something.
    pub(crate) control: bool,
}

/// Registered I/O, and what goes with it.
pub(crate) trait Table: Sized {
    /// The name of a driver over it.
    const NAME: &'static str;

    /// So many bytes may be registered in one piece. The length is a DWORD, so no more than 4 GiB
    /// (mswsock/nc-mswsock-lpfn_rioregisterbuffer).
    const REGISTRATION_MAX: usize;

    /// The table, for so many sockets at a time; an error says why there is none.
    fn open(sockets: usize) -> io::Result<Self>;

    // Registered I/O.

    /// Registers memory, which is locked from now on (mswsock/nc-mswsock-lpfn_rioregisterbuffer).
    ///
    /// # Safety
    ///
    /// The memory is mapped until it is deregistered, and `len` is at most `REGISTRATION_MAX`.
    unsafe fn register_buffer(&mut self, start: *mut u8, len: usize) -> io::Result<BufferId>;

    /// Ends a registration. While a request that uses it has not been dequeued "the results are undefined"
    /// (mswsock/nc-mswsock-lpfn_rioderegisterbuffer).
    fn deregister_buffer(&mut self, buffer: BufferId);

    /// A completion queue of 1 to `COMPLETIONS_MAX` entries, which `tells`, if it is to, when it is not empty
    /// (mswsock/nc-mswsock-lpfn_riocreatecompletionqueue).
    fn create_completion_queue(&mut self, size: u32, tells: bool) -> io::Result<CompletionQueue>;

    /// Closes a completion queue: what completes later is dropped in silence, so nothing may be outstanding
    /// (mswsock/nc-mswsock-lpfn_rioclosecompletionqueue).
    fn close_completion_queue(&mut self, queue: CompletionQueue);

    /// The request queue of a connected socket that was made for Registered I/O (winsock/riorqueue), whose completions come in `completions`; they carry `context`.
    /// The completion queue must hold the sum of the limits of all its request queues; a request queue lives
    /// as long as its socket, and then its share is free again (mswsock/nc-mswsock-lpfn_riocreaterequestqueue).
    fn create_request_queue(
        &mut self,
        socket: &Socket,
        limits: Limits,
        completions: CompletionQueue,
        context: u32,
    ) -> io::Result<RequestQueue>;

    /// Asks for what comes next into the piece, or commits what was deferred. On an error no completion comes
    /// (mswsock/nc-mswsock-lpfn_rioreceive).
    ///
    /// # Safety
    ///
    /// Until the completion has been dequeued the piece's registration lasts, and nobody else reads or writes
    /// its bytes.
    unsafe fn receive(
        &mut self,
        queue: RequestQueue,
        data: Option<Piece>,
        flags: u32,
        context: u32,
    ) -> io::Result<()>;

    /// Asks to send the piece, or commits what was deferred. On an error no completion comes
    /// (mswsock/nc-mswsock-lpfn_riosend).
    ///
    /// The page also has "you should not pass the same PRIO_BUF to a RIOSend(Ex) request when one is already
    /// pending", "either with the same offset or with a different offset and length". A PRIO_BUF is a pointer to the
    /// description, which is read during the call, and not the memory described; whether all pieces of one registration
    /// are meant it does not say. All sessions send from one: docs/windows.md asks.
    ///
    /// # Safety
    ///
    /// Until the completion has been dequeued the piece's registration lasts, and nobody writes its bytes.
    unsafe fn send(
        &mut self,
        queue: RequestQueue,
        data: Option<Piece>,
        flags: u32,
        context: u32,
    ) -> io::Result<()>;

    /// Takes completions out of the queue, at most as many as `outcomes` has places: how many, or `CORRUPT`.
    /// Only then is the request over, and its share of the limits free
    /// (mswsock/nc-mswsock-lpfn_riodequeuecompletion).
    fn dequeue_completions(&mut self, queue: CompletionQueue, outcomes: &mut [Outcome]) -> u32;

    /// Forgets what a queue has told: until it tells again, no wait hears of it.
    fn reset_told(&mut self, queue: CompletionQueue);

    /// Asks to be told once that the queue is not empty; if it is not, at once. To ask again before that has
    /// happened is refused (mswsock/nc-mswsock-lpfn_rionotify). It may leave what was told before as it is.
    fn notify(&mut self, queue: CompletionQueue) -> io::Result<Asked>;

    // Sockets, and the wait.

    /// A socket to connect with, made for Registered I/O: it can't be changed later
    /// (winsock2/nf-winsock2-wsasocketw, `WSA_FLAG_REGISTERED_IO`). No page says what else such a socket does. Others
    /// have measured that plain sends and receives are refused as on no socket (WSAENOTSOCK:
    /// github.com/cocoz93/ServerCore, Network/RioApi.h), and so is being made non-blocking (WSAEOPNOTSUPP:
    /// github.com/HSCloud913/Nebula, Io/Socket.cpp). So the
    /// driver asks for nothing of the sort, and a driver without Registered I/O never has one.
    fn socket(&mut self, address: SocketAddr) -> io::Result<Socket>;

    /// From now on `accept` accepts from this socket, and waits end when there is something to accept.
    fn listen(&mut self, listener: Socket) -> io::Result<()>;

    /// A connection, on a socket made for Registered I/O, as the listener need not be; `WouldBlock` where there is
    /// none. A peer that has reset its connection before may be an error, `ConnectionReset` (mswsock/nf-mswsock-acceptex).
    fn accept(&mut self) -> io::Result<(Socket, SocketAddr)>;

    /// Closes the listener.
    fn stop_listening(&mut self);

    /// Begins to connect. Waits end when that has become something.
    fn connect(&mut self, index: u32, socket: &Socket, address: SocketAddr) -> io::Result<()>;

    /// What an attempt to connect has come to, once; `None` while it goes on.
    fn connected(&mut self, index: u32, socket: &Socket) -> Option<io::Result<()>>;

    /// Tells the peer that nothing more is sent. What may be done with a socket that has a request queue is "to set
    /// and query socket options, issue IOCTLs and ultimately close the socket" (winsock/riorqueue). That neither
    /// names this nor forbids it, and Registered I/O has no other way to end one direction: docs/windows.md asks.
    fn shut_down(&mut self, socket: &Socket, queue: Option<RequestQueue>) -> io::Result<()>;

    /// Closes a socket, and with it its request queue, whose requests complete: as what they are, or as
    /// cancelled (winsock/nf-winsock-closesocket).
    fn close(&mut self, index: u32, socket: Socket, queue: Option<RequestQueue>);

    /// Waits at most so long, for the first of: what `notify` asked for, something to accept, a connection
    /// that has become something, a wake-up.
    fn wait(&mut self, timeout: Duration) -> io::Result<Woken>;

    /// What other threads ring to end a wait.
    fn waker(&self) -> Waker;
}
