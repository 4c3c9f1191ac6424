//! The `rio` driver: Windows Registered I/O. The region is registered once, each session has a request queue,
//! and all of them complete into one queue, which lies in memory: a program that spins finds out there what has
//! become of its requests, and enters the kernel only to make them.
//!
//! It is written against a table of functions (`table.rs`): on Windows that is the real one, in tests a strict
//! model of it, which fails the test where a rule of the documentation is broken. The rules stand at the
//! table's functions, with their pages; how this driver keeps them:
//!
//! - **One thread** makes the driver, turns it and drops it. Of the table only the waker leaves it.
//! - **Sums**: a request queue holds one receive and `SENDS_MAX` sends, so the completion queue holds as many as all of
//!   these for each slot, and one more for each that can be refused at a time (`refusals.rs`). A slot has its next
//!   socket only after the last one's requests have been dequeued.
//! - **Order**: what is sent goes in the order of the calls, as with overlapped sends ("the order in which the buffers are
//!   transmitted", winsock2/nf-winsock2-wsasend). No page says that sends complete in it, so each completion carries its
//!   request's number, and they are given back in order (`requests.rs`).
//! - **Defer, then commit**: a turn defers each request and then commits what its queue has, once for each
//!   way: the last request without `RIO_MSG_DEFER` would complete "much slower than other requests"
//!   (mswsock/nc-mswsock-lpfn_riosend). What was asked for and not handed over by a turn is not the kernel's.
//! - **Arm, then look again**: before it waits, a turn asks to be told, and looks into the queue once more.
//! - **No plain calls**: a socket that was made for Registered I/O gets nothing but options and its end past its
//!   request queue, as it may refuse all else (`Table::socket`).
//! - **Closing is a join**: `closesocket` makes what is outstanding complete, and the session's end comes after
//!   the last of it. Memory is deregistered when nothing is outstanding, or else never, on purpose.
//!
//! Accepting and connecting go by `AcceptEx` and `ConnectEx`, told of in the wait that also hears of completions
//! (`windows/control.rs` has why). One of the files with `unsafe`.
#![allow(unsafe_code)]

use std::io::{self, ErrorKind};
use std::mem::ManuallyDrop;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use socket2::Socket;

use super::{Completion, Corrupt, Direct, Driver, Options, SENDS_MAX, SlotId, Waker, socket};
use crate::region::{Region, Span};

#[cfg(any(test, feature = "rio-model"))]
pub(crate) mod model;
mod refusals;
mod requests;
mod settle;
mod status;
pub(crate) mod table;
#[cfg(test)]
mod tests;
#[cfg(windows)]
pub(crate) mod windows;

use refusals::Refusals;
use requests::{Connection, Request, context, whose};
use table::{
    Asked, BufferId, COMMIT_ONLY, COMPLETIONS_MAX, CORRUPT, CompletionQueue, DEFER, Limits, Outcome, Piece,
    RequestQueue, Table, Way, Woken,
};

/// What a session may have outstanding: the engine asks for no more. A send completes when the peer has acknowledged it
/// (docs/windows.md, the first question), so with one alone each message would wait for the acknowledgement of the one
/// before, and that may be delayed until a second segment comes. With eight as many messages go one by one in a round trip;
/// the next takes along all that came meanwhile. How many bytes are on their way the ring bounds. More would cost
/// each session more of the completion queue, which is locked.
const LIMITS: Limits = Limits { receives: 1, sends: SENDS_MAX as u32 };

/// What the driver knows of one.
#[cfg(test)]
pub(crate) const BYTES_PER_SESSION: usize = size_of::<Connection>();

/// So many completions are taken at a time.
const TAKEN: usize = 64;

/// Turns that do not wait only look into the completion queue. Every so many of them ask for connections that
/// come or are being made, which takes a system call.
const SKIMS: u32 = 64;

/// How long a wait is at most where the completion queue did not promise to tell.
const ASK_AGAIN: Duration = Duration::from_millis(1);

pub(crate) struct Rio<T: Table> {
    region: Arc<Region>,
    table: ManuallyDrop<T>,
    /// Of the region, `REGISTRATION_MAX` bytes each but for the last.
    registered: Vec<BufferId>,
    refusals: Refusals,
    completions: CompletionQueue,
    /// It was asked to tell, and has not told.
    armed: bool,
    /// How many requests have not been dequeued.
    outstanding: usize,
    outcomes: Box<[Outcome; TAKEN]>,
    connections: Vec<Connection>,
    /// Slots that have something for the kernel.
    asked: Vec<u32>,
    /// Slots whose connections are being made.
    connecting: Vec<u32>,
    listening: bool,
    accept_wanted: bool,
    /// There may be something to accept.
    accept_ready: bool,
    skimmed: u32,
}

/// What has come back: whose it is, which request, its span, and which part of that the kernel had.
type Back = (SlotId, (Way, usize), Span, Range<usize>);

impl<T: Table> Driver for Rio<T> {
    type Socket = Socket;

    const NAME: &'static str = T::NAME;
    /// A commit is one system call, and each session's queue needs its own.
    const BATCHES: bool = false;
    const SENDS: u8 = SENDS_MAX as u8;

    fn new(region: Arc<Region>, slots: usize) -> io::Result<Self> {
        // The sum of the limits of all request queues that can exist at a time.
        let size = slots.saturating_mul((LIMITS.receives + LIMITS.sends) as usize);
        let size = size.saturating_add(refusals::PLACES);
        let size = u32::try_from(size).ok().filter(|&size| size <= COMPLETIONS_MAX);
        let why = "more sessions than one completion queue can serve; take more engines";
        let too_many = || io::Error::new(ErrorKind::InvalidInput, why);
        let size = size.ok_or_else(too_many)?;
        let refusals = Refusals::new(slots as u32)?;
        let mut table = T::open(slots + refusals::PLACES)?;
        let completions = table.create_completion_queue(size, true)?;
        let mut driver = Rio {
            region,
            table: ManuallyDrop::new(table),
            registered: Vec::new(),
            refusals,
            completions,
            armed: false,
            outstanding: 0,
            outcomes: Box::new([Outcome::default(); TAKEN]),
            connections: (0..slots).map(|_| Connection::default()).collect(),
            asked: Vec::with_capacity(slots),
            connecting: Vec::with_capacity(slots),
            listening: false,
            accept_wanted: false,
            accept_ready: false,
            skimmed: 0,
        };
        // Where this fails, dropping the driver deregisters what it has.
        driver.register()?;
        driver.refusals.register(&mut *driver.table)?;
        Ok(driver)
    }

    fn listen(&mut self, listener: Socket) -> io::Result<()> {
        self.table.listen(listener)?;
        (self.listening, self.accept_ready) = (true, true);
        Ok(())
    }

    fn accept(&mut self) {
        self.accept_wanted = self.listening;
    }

    fn stop_listening(&mut self) {
        self.table.stop_listening();
        (self.listening, self.accept_wanted) = (false, false);
    }

    fn connect(&mut self, id: SlotId, address: SocketAddr, options: &Options) -> io::Result<()> {
        let socket = self.table.socket(address)?;
        socket::set_options(&socket, options)?;
        let started = self.table.connect(id.index, &socket, address);
        let connection = self.install(id, socket);
        connection.connecting = true;
        connection.connect_error = started.err();
        self.connecting.push(id.index);
        Ok(())
    }

    fn adopt(&mut self, id: SlotId, socket: Socket, options: &Options) -> io::Result<()> {
        socket::set_session_options(&socket, options)?;
        let queue = self.table.create_request_queue(&socket, LIMITS, self.completions, id.generation)?;
        self.install(id, socket).queue = Some(queue);
        Ok(())
    }

    fn refuse(&mut self, socket: Socket, last_words: &[u8]) {
        let begun = self.refusals.say(&mut *self.table, self.completions, socket, last_words);
        self.outstanding += usize::from(begun);
    }

    /// None: what may be done with the socket besides is "to set and query socket options, issue IOCTLs and
    /// ultimately close the socket" (winsock/riorqueue), and a request queue has no room for other threads.
    fn direct(&self, _: SlotId) -> Option<Direct> {
        None
    }

    fn receive(&mut self, id: SlotId, span: Span) {
        let receive = &mut self.connections[id.index as usize].receive;
        debug_assert!(matches!(receive, Request::Idle), "one receive in flight");
        *receive = Request::Asked(span, 0);
        self.queue(id.index);
    }

    fn send(&mut self, id: SlotId, span: Span) {
        self.connections[id.index as usize].sends.ask(span);
        self.queue(id.index);
    }

    fn shut_down(&mut self, id: SlotId) {
        let Connection { socket, queue, .. } = &self.connections[id.index as usize];
        if let Some(socket) = socket {
            // It fails where the connection is gone, which a receive will tell; where it did nothing, the drain's
            // deadline would close the socket.
            let _ = self.table.shut_down(socket, *queue);
        }
    }

    fn close(&mut self, id: SlotId) {
        self.connections[id.index as usize].closing = true;
        self.queue(id.index);
    }

    fn catch_up(&mut self) {
        self.skimmed = SKIMS;
    }

    fn turn(&mut self, wait: Duration, done: &mut Vec<Completion<Socket>>) -> io::Result<()> {
        let before = done.len();
        self.hand_over(done);
        self.skimmed += 1;
        let looks = self.skimmed >= SKIMS;
        if looks {
            // Nobody else says so to an engine that never waits, or whose every wait completions end.
            self.accept_ready = true;
            self.skimmed = 0;
        }
        // Where one has just come, the next may be there too.
        if looks || !wait.is_zero() || (self.accept_wanted && self.accept_ready) {
            self.control(done);
        }
        self.drain(done)?;
        // The rest of a send may be next.
        if wait.is_zero() || done.len() > before || !self.asked.is_empty() {
            return Ok(());
        }
        if !self.armed {
            self.arm()?;
            // What completed in between need not be told of.
            self.drain(done)?;
            if done.len() > before || !self.asked.is_empty() {
                return Ok(());
            }
        }
        let woken = self.wait(wait)?;
        if woken.control {
            self.accept_ready = true;
            self.control(done);
        }
        self.drain(done)
    }

    fn waker(&self) -> Waker {
        self.table.waker()
    }
}

impl<T: Table> Rio<T> {
    /// Registers the region, in as many pieces as it takes.
    fn register(&mut self) -> io::Result<()> {
        let (start, len) = self.region.extent();
        for at in (0..len).step_by(T::REGISTRATION_MAX) {
            let piece = (len - at).min(T::REGISTRATION_MAX);
            // SAFETY: these bytes are the region's, which the driver keeps until it has deregistered them, or
            // for ever.
            let buffer = unsafe { self.table.register_buffer(start.wrapping_add(at), piece) }?;
            self.registered.push(buffer);
        }
        Ok(())
    }

    /// As much of a span, from there on, as lies in one registration. A receive completes short there; of a send the rest
    /// goes next.
    fn piece(&self, span: &Span, from: usize) -> Piece {
        let at = self.region.start_of(span).addr() - self.region.extent().0.addr() + from;
        let offset = at % T::REGISTRATION_MAX;
        let len = (span.len() - from).min(T::REGISTRATION_MAX - offset);
        let buffer = self.registered[at / T::REGISTRATION_MAX];
        Piece { buffer, offset: offset as u32, len: len as u32 }
    }

    fn install(&mut self, id: SlotId, socket: Socket) -> &mut Connection {
        let connection = &mut self.connections[id.index as usize];
        let queued = connection.queued;
        *connection =
            Connection { generation: id.generation, socket: Some(socket), queued, ..Connection::default() };
        connection
    }

    fn queue(&mut self, index: u32) {
        let connection = &mut self.connections[index as usize];
        if !connection.queued {
            connection.queued = true;
            self.asked.push(index);
        }
    }

    /// Hands to the kernel what was asked for.
    fn hand_over(&mut self, done: &mut Vec<Completion<Socket>>) {
        while let Some(index) = self.asked.pop() {
            let connection = &mut self.connections[index as usize];
            connection.queued = false;
            let id = SlotId { index, generation: connection.generation };
            if connection.closing {
                self.finish(id, done);
            } else if let Some(queue) = connection.queue {
                self.defer_sends(id, queue, done);
                self.defer_receive(id, queue, done);
                self.commit(id, queue);
            }
            // What is asked for before there is a connection waits for it.
        }
    }

    fn defer_sends(&mut self, id: SlotId, queue: RequestQueue, done: &mut Vec<Completion<Socket>>) {
        let index = id.index as usize;
        while let Some((number, span, from)) = self.connections[index].sends.take_next() {
            let request = self.defer(id, queue, (Way::Send, number), span, from);
            let refused = match &request {
                Request::Over(_, Err(error)) => Some(error.kind()),
                _ => None,
            };
            let sends = &mut self.connections[index].sends;
            sends.hand_over(number, request);
            if let Some(why) = refused {
                // Nothing may go behind what is missing.
                sends.refuse_rest(why);
            }
        }
        self.give_back_sends(id, done);
    }

    fn defer_receive(&mut self, id: SlotId, queue: RequestQueue, done: &mut Vec<Completion<Socket>>) {
        let asked = self.connections[id.index as usize].receive.take_asked();
        let Some((span, from)) = asked else { return };
        match self.defer(id, queue, (Way::Receive, 0), span, from) {
            Request::Over(span, outcome) => done.push(Completion::Received(id, span, outcome)),
            request => self.connections[id.index as usize].receive = request,
        }
    }

    /// Puts a request that was asked for into its session's queue: what has become of it.
    fn defer(
        &mut self,
        id: SlotId,
        queue: RequestQueue,
        (way, number): (Way, usize),
        span: Span,
        from: usize,
    ) -> Request {
        let (piece, context) = (self.piece(&span, from), context(id.index, way, number));
        let outcome = match way {
            // SAFETY: the registration lasts until nothing is outstanding. The span stays in its slot, where the
            // callers put it, so nobody else reads or writes its bytes, until the completion has been dequeued; `drop`
            // lets go of the region only when there is none to come.
            Way::Receive => unsafe { self.table.receive(queue, Some(piece), DEFER, context) },
            // SAFETY: as above.
            Way::Send => unsafe { self.table.send(queue, Some(piece), DEFER, context) },
        };
        match outcome {
            Ok(()) => {
                self.outstanding += 1;
                self.connections[id.index as usize].deferred[way as usize] = true;
                Request::Outstanding(span, from..from + piece.len as usize)
            }
            Err(error) => Request::Over(span, Err(error)),
        }
    }

    /// Gives back what has completed of a session's sends, in their order.
    fn give_back_sends(&mut self, id: SlotId, done: &mut Vec<Completion<Socket>>) {
        while let Some((span, outcome)) = self.connections[id.index as usize].sends.take_over() {
            done.push(Completion::Sent(id, span, outcome));
        }
    }

    /// Begins what a session's queue has that was deferred.
    fn commit(&mut self, id: SlotId, queue: RequestQueue) {
        let deferred = std::mem::take(&mut self.connections[id.index as usize].deferred);
        // SAFETY: a commit points to no memory.
        let sends =
            !deferred[Way::Send as usize] || unsafe { self.table.send(queue, None, COMMIT_ONLY, 0) }.is_ok();
        // SAFETY: as above.
        let receives = !deferred[Way::Receive as usize]
            || unsafe { self.table.receive(queue, None, COMMIT_ONLY, 0) }.is_ok();
        if !(sends && receives) {
            // The kernel has requests that it does not begin. Without its socket it gives them back, as
            // cancelled, and the session hears so.
            self.close_socket(id.index);
        }
    }

    /// Looks for connections, and for what has become of those that are being made.
    fn control(&mut self, done: &mut Vec<Completion<Socket>>) {
        if self.accept_wanted && self.accept_ready {
            match self.table.accept() {
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.accept_ready = false,
                outcome => {
                    self.accept_wanted = false;
                    done.push(Completion::Accepted(outcome));
                }
            }
        }
        for at in (0..self.connecting.len()).rev() {
            let index = self.connecting[at];
            if let Some(outcome) = self.connected(index) {
                self.connecting.swap_remove(at);
                let connection = &mut self.connections[index as usize];
                connection.connecting = false;
                let id = SlotId { index, generation: connection.generation };
                done.push(Completion::Connected(id, outcome));
                self.queue(index);
            }
        }
    }

    /// What an attempt to connect came to, `None` while it goes on.
    fn connected(&mut self, index: u32) -> Option<io::Result<()>> {
        let connection = &mut self.connections[index as usize];
        if let Some(error) = connection.connect_error.take() {
            return Some(Err(error));
        }
        let socket = connection.socket.as_ref()?;
        let outcome = self.table.connected(index, socket)?;
        // Not before: a request queue is for a socket that is connected.
        Some(outcome.and_then(|()| {
            let context = connection.generation;
            connection.queue =
                Some(self.table.create_request_queue(socket, LIMITS, self.completions, context)?);
            Ok(())
        }))
    }

    /// Asks the completion queue to tell. It has told of all that it was asked before, so nothing is lost with that.
    fn arm(&mut self) -> io::Result<()> {
        self.table.reset_told(self.completions);
        self.armed = self.table.notify(self.completions)? == Asked::Anew;
        Ok(())
    }

    /// Waits; where nobody has promised to tell of completions, no longer than until the queue is to be asked again.
    fn wait(&mut self, bound: Duration) -> io::Result<Woken> {
        let woken = self.table.wait(if self.armed { bound } else { bound.min(ASK_AGAIN) })?;
        self.armed &= !woken.completions;
        Ok(woken)
    }

    /// Takes what has completed.
    fn drain(&mut self, done: &mut Vec<Completion<Socket>>) -> io::Result<()> {
        loop {
            let taken = self.table.dequeue_completions(self.completions, &mut self.outcomes[..]);
            if taken == CORRUPT {
                return Err(corrupt());
            }
            for at in 0..taken as usize {
                self.complete(self.outcomes[at], done)?;
            }
            if (taken as usize) < TAKEN {
                return Ok(());
            }
        }
    }

    /// Books one completion of the kernel's.
    fn complete(&mut self, outcome: Outcome, done: &mut Vec<Completion<Socket>>) -> io::Result<()> {
        let Some((id, (way, number), span, part)) = self.take_back(outcome)? else { return Ok(()) };
        let connection = &mut self.connections[id.index as usize];
        let result = match (outcome.status, outcome.bytes as usize) {
            (status::SUCCESS, bytes) if bytes > part.len() => Err(ErrorKind::InvalidData.into()),
            // A receive of nothing is the peer's end. A send of nothing is no success.
            (status::SUCCESS, 0) if way == Way::Send => Err(ErrorKind::WriteZero.into()),
            (status::SUCCESS, bytes) => Ok(part.start + bytes),
            // Not by us: "the socket is closed locally or remotely" (mswsock/nc-mswsock-lpfn_rioreceive).
            (status, _) if status::is_cancelled(status) && connection.socket.is_some() => {
                Err(ErrorKind::ConnectionReset.into())
            }
            (status, _) => Err(status::error(status)),
        };
        match way {
            Way::Receive => done.push(Completion::Received(id, span, result)),
            Way::Send => {
                if connection.sends.come_back(number, span, result) {
                    self.queue(id.index);
                }
                self.give_back_sends(id, done);
            }
        }
        let connection = &self.connections[id.index as usize];
        if connection.closing && !connection.queued && !connection.is_with_kernel() {
            self.end(id, done);
        }
        Ok(())
    }

    /// Takes back what one completion is of, a session's if it is. There is none without its request, nor a stale one, as
    /// a slot ends when nothing of it is outstanding: the queue that says otherwise is lost, and so is the count of what
    /// is left.
    fn take_back(&mut self, outcome: Outcome) -> io::Result<Option<Back>> {
        let (index, way, number) = whose(outcome.request_context);
        let Some(connection) = self.connections.get_mut(index as usize) else {
            self.refusals.said(&mut *self.table, index, way)?;
            self.outstanding -= 1;
            return Ok(None);
        };
        let id = SlotId { index, generation: connection.generation };
        if u64::from(id.generation) != outcome.socket_context {
            return Err(corrupt());
        }
        let request = match (way, number) {
            (Way::Receive, 0) => &mut connection.receive,
            (Way::Receive, _) => return Err(corrupt()),
            (Way::Send, number) => connection.sends.by_number(number),
        };
        let (span, part) = request.take_outstanding().ok_or_else(corrupt)?;
        self.outstanding -= 1;
        Ok(Some((id, (way, number), span, part)))
    }

    /// Closes a connection: what the kernel does not know of comes back, what it has completes, and the end
    /// comes after that.
    fn finish(&mut self, id: SlotId, done: &mut Vec<Completion<Socket>>) {
        let connection = &mut self.connections[id.index as usize];
        if std::mem::take(&mut connection.connecting) {
            self.connecting.retain(|&index| index != id.index);
            done.push(Completion::Connected(id, Err(aborted())));
        }
        let connection = &mut self.connections[id.index as usize];
        if let Some((span, _)) = connection.receive.take_asked() {
            done.push(Completion::Received(id, span, Err(aborted())));
        }
        connection.sends.refuse_rest(ErrorKind::ConnectionAborted);
        self.give_back_sends(id, done);
        self.close_socket(id.index);
        if !self.connections[id.index as usize].is_with_kernel() {
            self.end(id, done);
        }
    }

    fn close_socket(&mut self, index: u32) {
        let connection = &mut self.connections[index as usize];
        if let Some(socket) = connection.socket.take() {
            if connection.sends.are_outstanding() {
                abort(&socket);
            }
            self.table.close(index, socket, connection.queue.take());
        }
    }

    /// The kernel has nothing of a closing connection any more.
    fn end(&mut self, id: SlotId, done: &mut Vec<Completion<Socket>>) {
        self.connections[id.index as usize] =
            Connection { generation: id.generation, ..Connection::default() };
        done.push(Completion::Closed(id));
    }
}

/// Makes the close of a socket a reset: a send that is outstanding would have its place, and its memory, until the peer
/// acknowledges it or TCP gives up, as "graceful" closing goes on sending (winsock/nf-winsock-closesocket). Nobody waits
/// for it any more.
fn abort(socket: &Socket) {
    // It fails where the connection is gone.
    let _ = socket.set_linger(Some(Duration::ZERO));
}

fn aborted() -> io::Error {
    ErrorKind::ConnectionAborted.into()
}

/// "Memory corruption or misuse of the RIO functions" (mswsock/nc-mswsock-lpfn_riodequeuecompletion): the queue
/// is lost, and with it all sessions.
#[cold]
fn corrupt() -> io::Error {
    io::Error::new(ErrorKind::InvalidData, Corrupt)
}
