//! The `uring` driver: io_uring, on Linux 6.1 and later. Requests go to the kernel in one ring, all of a
//! turn's together, and their completions come back in another.
//!
//! Each receive is asked for by itself, into the session's own buffer, where the framer reads it: a multishot one would
//! bring bytes in buffers that all sessions share, to be copied out of them where a message is not whole. Neither that, nor
//! sends without a copy (`SEND_ZC`), nor a thread of the kernel's that polls were measured.
//!
//! The ring belongs to one thread, and the kernel puts its work on completions off until that thread
//! enters it (single issuer, deferred task work): looking at the completion queue alone brings
//! nothing. The kernel says in shared memory when there is such work, so a turn that does not wait
//! and finds nothing costs no system call. One of the files with `unsafe`.
#![allow(unsafe_code)]

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::mem::ManuallyDrop;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsRawFd, FromRawFd};
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Duration;

use io_uring::opcode;
use io_uring::types::{CancelBuilder, Fd};
use socket2::{SockAddr, SockAddrStorage, Socket};

use super::{Completion, Direct, Driver, FEW, Options, SlotId, Waker, retry, socket};
use crate::region::{Region, Span};

mod ring;
#[cfg(test)]
mod tests;

use ring::{Event, Kind, NOBODY, Ring};

/// The receive waits for bytes before it looks for them: IORING_RECVSEND_POLL_FIRST (io_uring_prep_recv(3)).
const POLL_FIRST: u16 = 1;

/// How long, and in how many rounds of nothing, a dropped driver waits for the kernel to let go.
const SETTLE: Duration = Duration::from_millis(50);
const SETTLE_ROUNDS: u32 = 40;

pub(crate) struct Uring {
    region: Arc<Region>,
    ring: ManuallyDrop<Ring>,
    waker: Waker,
    /// What the waker writes to.
    bell: Arc<File>,
    /// The watch on it.
    watch: Request<()>,
    listener: Option<Socket>,
    accept: Request<()>,
    /// Set by `stop_listening` until the kernel has let go of the listener.
    retiring: bool,
    cancel_accept: Request<()>,
    /// Where the kernel writes who was accepted.
    accepted: NonNull<Name>,
    /// Never resized: the kernel reads addresses from it.
    connections: Vec<Connection>,
    /// How many slots have a connection.
    live: usize,
    /// Slots that have something for the kernel.
    asked: Vec<u32>,
}

#[derive(Default)]
struct Connection {
    generation: u32,
    socket: Option<Socket>,
    /// Where it connects to.
    address: Option<SockAddr>,
    connect: Request<()>,
    receive: Request<Span>,
    /// The last receive left nothing behind, so that to look at once would find nothing.
    drained: bool,
    send: Request<Span>,
    closing: bool,
    cancel: Request<()>,
    /// It stands in `asked`.
    queued: bool,
}

/// An address, as the kernel writes it.
struct Name {
    address: SockAddrStorage,
    len: libc::socklen_t,
}

/// How far a request has come, and with it whose its span is.
#[derive(Default)]
enum Request<T> {
    #[default]
    Idle,
    /// The driver's: the kernel does not know of it.
    Asked(T),
    /// The kernel's, from the entry in its queue to the completion. An entry that could not be submitted
    /// is still queued, so there is no way back.
    Pushed(T),
}

impl Driver for Uring {
    type Socket = Socket;

    const NAME: &'static str = "uring";
    const BATCHES: bool = true;

    fn new(region: Arc<Region>, slots: usize) -> io::Result<Self> {
        // SAFETY: eventfd(2) takes two numbers; its outcome is checked.
        let bell = match unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) } {
            -1 => return Err(io::Error::last_os_error()),
            // SAFETY: the descriptor is new, and nobody else's.
            bell => Arc::new(unsafe { File::from_raw_fd(bell) }),
        };
        // Owned by both: whoever wakes a driver that is gone does no harm. The count is never read, as the
        // watch goes by its changes, and can't be full within a lifetime.
        let rung = bell.clone();
        let waker = Waker::new(move || drop((&*rung).write(&1u64.to_ne_bytes())));
        let ring = ManuallyDrop::new(Ring::new(slots)?);
        // Nothing fails from here on: `drop` frees the name, and the ring.
        let name = Name { address: SockAddrStorage::zeroed(), len: 0 };
        Ok(Uring {
            region,
            ring,
            waker,
            bell,
            watch: Request::Asked(()),
            listener: None,
            accept: Request::Idle,
            retiring: false,
            cancel_accept: Request::Idle,
            accepted: NonNull::from(Box::leak(Box::new(name))),
            connections: (0..slots).map(|_| Connection::default()).collect(),
            live: 0,
            asked: Vec::with_capacity(slots),
        })
    }

    fn listen(&mut self, listener: Socket) -> io::Result<()> {
        self.listener = Some(listener);
        Ok(())
    }

    fn accept(&mut self) {
        if self.listener.is_some() && matches!(self.accept, Request::Idle) {
            self.accept = Request::Asked(());
        }
    }

    fn stop_listening(&mut self) {
        let (Some(listener), false) = (&self.listener, self.retiring) else { return };
        // Closing would not do while the kernel has an accept, which holds the file.
        let _ = listener.shutdown(Shutdown::Both);
        if self.accept.is_pushed() {
            self.retiring = true;
            self.cancel_accept = Request::Asked(());
        } else {
            self.accept = Request::Idle;
            self.listener = None;
        }
    }

    fn connect(&mut self, id: SlotId, address: SocketAddr, options: &Options) -> io::Result<()> {
        let socket = socket::for_connecting(address, options)?;
        self.install(id, socket);
        let connection = &mut self.connections[id.index as usize];
        connection.address = Some(address.into());
        connection.connect = Request::Asked(());
        self.queue(id.index);
        Ok(())
    }

    fn adopt(&mut self, id: SlotId, socket: Socket, options: &Options) -> io::Result<()> {
        socket::set_session_options(&socket, options)?;
        self.install(id, socket);
        Ok(())
    }

    fn refuse(&mut self, socket: Socket, last_words: &[u8]) {
        socket::refuse(socket, last_words);
    }

    fn direct(&self, id: SlotId) -> Option<Direct> {
        self.connections[id.index as usize].socket.as_ref().map(Direct::new)
    }

    fn receive(&mut self, id: SlotId, span: Span) {
        let connection = &mut self.connections[id.index as usize];
        debug_assert!(matches!(connection.receive, Request::Idle), "one receive in flight a session");
        connection.receive = Request::Asked(span);
        self.queue(id.index);
    }

    fn send(&mut self, id: SlotId, span: Span) {
        let connection = &mut self.connections[id.index as usize];
        debug_assert!(matches!(connection.send, Request::Idle), "one send in flight a session");
        connection.send = Request::Asked(span);
        self.queue(id.index);
    }

    fn shut_down(&mut self, id: SlotId) {
        if let Some(socket) = &self.connections[id.index as usize].socket {
            // It fails only where the connection is gone, which a receive will tell.
            let _ = socket.shutdown(Shutdown::Write);
        }
    }

    fn close(&mut self, id: SlotId) {
        self.connections[id.index as usize].closing = true;
        self.queue(id.index);
    }

    fn turn(&mut self, wait: Duration, done: &mut Vec<Completion<Socket>>) -> io::Result<()> {
        let before = done.len();
        let directly = wait.is_zero() && self.live <= FEW;
        self.hand_over(directly, done);
        // What did not fit the queue is not waited for, least of all the watch, which could end the wait.
        let left = self.watch.is_asked() || self.accept.is_asked() || !self.asked.is_empty();
        let busy = done.len() > before || left;
        self.ring.enter(if busy { Duration::ZERO } else { wait })?;
        while let Some(event) = self.ring.next() {
            self.complete(event, done);
        }
        Ok(())
    }

    fn waker(&self) -> Waker {
        self.waker.clone()
    }
}

impl Uring {
    fn install(&mut self, id: SlotId, socket: Socket) {
        let queued = self.connections[id.index as usize].queued;
        self.connections[id.index as usize] =
            Connection { generation: id.generation, socket: Some(socket), queued, ..Connection::default() };
        self.live += 1;
    }

    fn queue(&mut self, index: u32) {
        let connection = &mut self.connections[index as usize];
        if !connection.queued {
            connection.queued = true;
            self.asked.push(index);
        }
    }

    /// Hands to the kernel what was asked for. `directly`, receives try their sockets and else stay here.
    fn hand_over(&mut self, directly: bool, done: &mut Vec<Completion<Socket>>) {
        let ring = &mut self.ring;
        self.watch.push(|()| {
            let entry = opcode::PollAdd::new(Fd(self.bell.as_raw_fd()), libc::POLLIN as u32).multi(true);
            // SAFETY: a watch points to no memory.
            unsafe { ring.push(&entry.build().user_data(Kind::Wake.data(NOBODY))) }
        });
        self.cancel_accept.push(|()| {
            let entry = opcode::AsyncCancel::new(Kind::Accept.data(NOBODY));
            // SAFETY: a cancellation points to no memory.
            unsafe { ring.push(&entry.build().user_data(Kind::Cancel.data(NOBODY))) }
        });
        if let Some(listener) = &self.listener {
            self.accept.push(|()| {
                let name = self.accepted.as_ptr();
                // SAFETY: the name was allocated by `new` and is freed by `drop`; the kernel has it only
                // while an accept is pushed, and this one is not yet.
                let (address, len) = unsafe {
                    (*name).len = size_of::<SockAddrStorage>() as libc::socklen_t;
                    (&raw mut (*name).address, &raw mut (*name).len)
                };
                let entry = opcode::Accept::new(Fd(listener.as_raw_fd()), address.cast(), len)
                    .flags(libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC);
                // SAFETY: the kernel writes to the name, which is left alone until the completion, and
                // which `drop` frees only when there is none to come.
                unsafe { ring.push(&entry.build().user_data(Kind::Accept.data(NOBODY))) }
            });
        }
        let mut kept = 0;
        for at in 0..self.asked.len() {
            let index = self.asked[at];
            let keep = self.serve(index, directly, done);
            self.connections[index as usize].queued = keep;
            self.asked[kept] = index;
            kept += usize::from(keep);
        }
        self.asked.truncate(kept);
    }

    /// Lets one connection go on with what it was asked for; whether something is left of that.
    fn serve(&mut self, index: u32, directly: bool, done: &mut Vec<Completion<Socket>>) -> bool {
        let (region, ring) = (&self.region, &mut self.ring);
        let connection = &mut self.connections[index as usize];
        let id = SlotId { index, generation: connection.generation };
        if connection.closing {
            return self.finish(id, done);
        }
        let Some(socket) = &connection.socket else { return false };
        let fd = Fd(socket.as_raw_fd());
        if let Some(address) = &connection.address {
            connection.connect.push(|()| {
                let entry = opcode::Connect::new(fd, address.as_ptr().cast(), address.len());
                // SAFETY: the kernel reads the address until it has taken the entry, and it stays as it is
                // in its slot until the completion.
                unsafe { ring.push(&entry.build().user_data(Kind::Connect.data(id))) }
            });
            // What is asked for meanwhile waits for the connection.
            return connection.connect.is_asked();
        }
        connection.send.push(|span| {
            let entry =
                opcode::Send::new(fd, region.start_of(span), span.len() as u32).flags(libc::MSG_NOSIGNAL);
            // SAFETY: the span's bytes are in the region, and the span stays in the slot, so nobody writes
            // to them, until the completion; `drop` lets go of the region only when there is none to come.
            unsafe { ring.push(&entry.build().user_data(Kind::Send.data(id))) }
        });
        if !directly {
            connection.receive.push(|span| {
                let first = if connection.drained { POLL_FIRST } else { 0 };
                let entry = opcode::Recv::new(fd, region.start_of(span), span.len() as u32).ioprio(first);
                // SAFETY: as above; and nobody reads them.
                unsafe { ring.push(&entry.build().user_data(Kind::Receive.data(id))) }
            });
        } else if let Some(mut span) = connection.receive.take_asked() {
            match retry(|| (&*socket).read(region.bytes_mut(&mut span))) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    connection.receive = Request::Asked(span);
                }
                outcome => done.push(Completion::Received(id, span, outcome)),
            }
        }
        connection.send.is_asked() || connection.receive.is_asked()
    }

    /// Closes a connection: what the kernel does not know of comes back, what it has is cancelled, and the
    /// end comes after that. Tells whether it is to be tried again.
    fn finish(&mut self, id: SlotId, done: &mut Vec<Completion<Socket>>) -> bool {
        let connection = &mut self.connections[id.index as usize];
        if connection.connect.take_asked().is_some() {
            done.push(Completion::Connected(id, Err(aborted())));
        }
        if let Some(span) = connection.receive.take_asked() {
            done.push(Completion::Received(id, span, Err(aborted())));
        }
        if let Some(span) = connection.send.take_asked() {
            done.push(Completion::Sent(id, span, Err(aborted())));
        }
        if !connection.is_with_kernel() {
            self.end(id, done);
            return false;
        }
        if let (Some(socket), Request::Idle) = (&connection.socket, &connection.cancel) {
            // Cancelling alone would do, but for a request that another of the kernel's threads is at.
            let _ = socket.shutdown(Shutdown::Both);
            connection.cancel = Request::Asked(());
        }
        if let Some(socket) = &connection.socket {
            connection.cancel.push(|()| {
                let all = CancelBuilder::fd(Fd(socket.as_raw_fd())).all();
                let entry = opcode::AsyncCancel2::new(all);
                // SAFETY: a cancellation points to no memory. It names the descriptor, which is not closed
                // before the cancellation itself has completed.
                unsafe { self.ring.push(&entry.build().user_data(Kind::Close.data(id))) }
            });
        }
        connection.cancel.is_asked()
    }

    /// The kernel has nothing of a closing connection any more.
    fn end(&mut self, id: SlotId, done: &mut Vec<Completion<Socket>>) {
        let connection = &mut self.connections[id.index as usize];
        let (generation, queued) = (connection.generation, connection.queued);
        // This closes the descriptor.
        *connection = Connection { generation, queued, ..Connection::default() };
        self.live -= 1;
        done.push(Completion::Closed(id));
    }

    /// Books one completion of the kernel's.
    fn complete(&mut self, event: Event, done: &mut Vec<Completion<Socket>>) {
        let Event { kind, result, more, .. } = event;
        let outcome = match result {
            0.. => Ok(result as usize),
            _ => Err(io::Error::from_raw_os_error(-result)),
        };
        match kind {
            Kind::Wake if more => {}
            // The kernel may end a watch at any of its completions.
            Kind::Wake => self.watch = Request::Asked(()),
            Kind::Accept => self.complete_accept(outcome, done),
            Kind::Cancel => self.cancel_accept = Request::Idle,
            _ => self.complete_of(event, outcome, done),
        }
    }

    fn complete_accept(&mut self, outcome: io::Result<usize>, done: &mut Vec<Completion<Socket>>) {
        self.accept = Request::Idle;
        // SAFETY: the kernel has made this descriptor for us, and told nobody else.
        let outcome = outcome.map(|fd| unsafe { Socket::from_raw_fd(fd as i32) });
        if std::mem::take(&mut self.retiring) {
            // What was asked for is forgotten, and who was accepted all the same is let go.
            self.cancel_accept.take_asked();
            self.listener = None;
            return;
        }
        let outcome = match outcome {
            Err(error) if is_momentary(&error) => {
                self.accept = Request::Asked(());
                return;
            }
            Err(error) => Err(error),
            Ok(socket) => {
                // SAFETY: no accept is pushed, so the name is ours alone.
                let name = unsafe { self.accepted.as_mut() };
                let address = std::mem::replace(&mut name.address, SockAddrStorage::zeroed());
                // SAFETY: the kernel has written an address of that length.
                let address = unsafe { SockAddr::new(address, name.len) };
                address.as_socket().map(|address| (socket, address)).ok_or_else(aborted)
            }
        };
        done.push(Completion::Accepted(outcome));
    }

    /// Books a completion of one session's.
    fn complete_of(&mut self, event: Event, outcome: io::Result<usize>, done: &mut Vec<Completion<Socket>>) {
        let Event { kind, id, rest, .. } = event;
        let connection = &mut self.connections[id.index as usize];
        if connection.generation != id.generation {
            return;
        }
        let again = !connection.closing && outcome.as_ref().is_err_and(is_momentary);
        match kind {
            Kind::Connect => {
                let code = outcome.as_ref().err().and_then(io::Error::raw_os_error);
                // What was interrupted goes on without its request (connect(2)): the next one hears of that, and in
                // the end that it stands. So each turn asks, which is little for what nobody has seen yet.
                if again || (code == Some(libc::EALREADY) && !connection.closing) {
                    connection.connect = Request::Asked(());
                } else {
                    (connection.connect, connection.address) = (Request::Idle, None);
                    let outcome = if code == Some(libc::EISCONN) { Ok(()) } else { outcome.map(drop) };
                    done.push(Completion::Connected(id, outcome));
                }
            }
            Kind::Receive => match (connection.receive.take_pushed(), outcome) {
                (None, _) => {}
                (Some(span), _) if again => connection.receive = Request::Asked(span),
                // The end that was made by shutting down is not the peer's.
                (Some(span), Ok(0)) if connection.closing => {
                    done.push(Completion::Received(id, span, Err(aborted())));
                }
                (Some(span), outcome) => {
                    connection.drained = !rest;
                    done.push(Completion::Received(id, span, outcome));
                }
            },
            Kind::Send => match (connection.send.take_pushed(), outcome) {
                (None, _) => {}
                (Some(span), _) if again => connection.send = Request::Asked(span),
                (Some(span), outcome) => done.push(Completion::Sent(id, span, outcome)),
            },
            Kind::Close => connection.cancel = Request::Idle,
            Kind::Wake | Kind::Accept | Kind::Cancel => {}
        }
        if !connection.closing {
            if connection.connect.is_asked() || connection.receive.is_asked() || connection.send.is_asked() {
                self.queue(id.index);
            }
        } else if !connection.queued && !connection.is_with_kernel() {
            self.end(id, done);
        }
    }

    /// Cancels all that the kernel has, and waits until it has let go; whether it has.
    fn settle(&mut self) -> bool {
        for connection in self.connections.iter().filter(|connection| connection.is_with_kernel()) {
            // It fails only where the connection is gone, and its requests with it.
            let _ = connection.socket.as_ref().map(|socket| socket.shutdown(Shutdown::Both));
        }
        let _ = self.listener.as_ref().map(|listener| listener.shutdown(Shutdown::Both));
        let mut cancelled = false;
        let mut rounds = 0;
        while self.ring.in_flight > 0 && rounds < SETTLE_ROUNDS {
            if !cancelled {
                let entry = opcode::AsyncCancel2::new(CancelBuilder::any()).build();
                // SAFETY: a cancellation points to no memory.
                cancelled = unsafe { self.ring.push(&entry.user_data(Kind::Cancel.data(NOBODY))) };
            }
            if self.ring.enter(SETTLE).is_err() {
                return false;
            }
            rounds += 1;
            while let Some(event) = self.ring.next() {
                rounds = if event.more { rounds } else { 0 };
                if let (Kind::Accept, 0..) = (event.kind, event.result) {
                    // SAFETY: as in `complete_accept`. Dropping it closes it.
                    drop(unsafe { Socket::from_raw_fd(event.result) });
                }
            }
        }
        self.ring.in_flight == 0
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        if self.settle() {
            // SAFETY: nothing uses the ring after this, and the kernel, which has no accept any more, does
            // not use the name.
            unsafe {
                ManuallyDrop::drop(&mut self.ring);
                drop(Box::from_raw(self.accepted.as_ptr()));
            }
        } else {
            // The kernel may still write to the region, and would to whatever stands there next. So the
            // region is leaked, on purpose, and so are the ring, which knows of it, and the name.
            std::mem::forget(self.region.clone());
        }
    }
}

impl Connection {
    /// Whether a completion is to come.
    fn is_with_kernel(&self) -> bool {
        self.connect.is_pushed()
            || self.receive.is_pushed()
            || self.send.is_pushed()
            || self.cancel.is_pushed()
    }
}

impl<T> Request<T> {
    /// Gives to the kernel what it does not know of; `push` tells whether it could.
    #[inline]
    fn push(&mut self, push: impl FnOnce(&T) -> bool) {
        *self = match std::mem::take(self) {
            Request::Asked(what) if push(&what) => Request::Pushed(what),
            other => other,
        };
    }

    fn is_asked(&self) -> bool {
        matches!(self, Request::Asked(_))
    }

    fn is_pushed(&self) -> bool {
        matches!(self, Request::Pushed(_))
    }

    /// Takes back what the kernel does not know of.
    fn take_asked(&mut self) -> Option<T> {
        match std::mem::take(self) {
            Request::Asked(what) => Some(what),
            other => {
                *self = other;
                None
            }
        }
    }

    /// Takes what the kernel has given back.
    fn take_pushed(&mut self) -> Option<T> {
        match std::mem::take(self) {
            Request::Pushed(what) => Some(what),
            other => {
                *self = other;
                None
            }
        }
    }
}

/// A request that failed so is made again.
fn is_momentary(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock)
}

fn aborted() -> io::Error {
    ErrorKind::ConnectionAborted.into()
}
