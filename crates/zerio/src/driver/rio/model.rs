//! A strict model of the table, for tests: Registered I/O over ordinary non-blocking sockets. What the
//! documentation forbids it finds out, and fails by name ([`Violation`]); what it leaves open a seed decides:
//! requests complete late, deferred ones later, in any order over sessions, and receives bring less than there
//! is. What TCP guarantees it keeps.
//!
//! Its kernel gets on whenever it is asked something, and while it waits. It is compiled for tests, and with the
//! feature `rio-model`, which the integration tests switch on. One of the files with `unsafe`, which the table's
//! functions are.
#![allow(unsafe_code)]

mod chance;
mod control;
#[cfg(target_os = "linux")]
mod count;
mod kernel;
mod memory;
mod queues;
pub(crate) mod sockets;
#[cfg(test)]
mod tests;
mod violation;

use std::io::{self, ErrorKind};
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use super::ASK_AGAIN;
use super::table::{
    Asked, BufferId, COMMIT_ONLY, COMPLETIONS_MAX, CORRUPT, CompletionQueue, DEFER, Limits, Outcome, Piece,
    RequestQueue, Table, Way, Woken,
};
use crate::driver::Waker;

use chance::{Chance, Liberties};
use control::{Bell, Control};
use memory::{Memory, Sample};
use queues::{Completions, Request, Requests};
use sockets::Made;

#[cfg(feature = "rio-model")]
pub use chance::corrupt_queues_of_this_thread;
#[cfg(test)]
pub(super) use chance::refusing_from_the_start;
#[cfg(test)]
pub(crate) use chance::with_seed;
#[cfg(any(test, feature = "rio-model"))]
pub use chance::{cut_next_send_of_this_thread, withhold_acknowledgements_of_this_thread};
pub(crate) use violation::Violation;
#[cfg(feature = "rio-model")]
pub use violation::violations;

/// `RIO_MSG_DONT_NOTIFY`: its completion is not told of.
const DONT_NOTIFY: u32 = 1;

/// Between two looks at its sockets a wait pauses so long, at first and at most.
const PAUSES: (Duration, Duration) = (Duration::from_micros(50), Duration::from_millis(1));

pub(crate) struct Model {
    owner: ThreadId,
    chance: Chance,
    liberties: Liberties,
    /// By the handle's number; what was there stays known as gone.
    buffers: Vec<Option<Memory>>,
    completions: Vec<Option<Completions>>,
    requests: Box<[Requests]>,
    /// How many request queues there have been.
    made: isize,
    control: Control,
    bell: Arc<Bell>,
    /// For tests: what is dequeued next, though nobody has asked for it.
    spurious: Option<Outcome>,
    /// For tests: requests, commits or notifications that fail from now on.
    pub(super) refusing: Refusing,
    /// For tests: how often requests were begun, by a commit or by one of them that was not deferred.
    pub(super) begun: u64,
}

/// What a table is made to refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refusing {
    /// To be there at all.
    pub(super) table: bool,
    pub(super) queues: bool,
    pub(super) sockets: bool,
    pub(super) registrations: bool,
    /// Request queues, and what is to go there.
    pub(super) requests: bool,
    /// The next send, and no other.
    pub(super) next_send: bool,
    pub(super) commits: bool,
    pub(super) notifications: bool,
    pub(super) waits: bool,
    /// What is outstanding never completes.
    pub(super) completions: bool,
}

impl Refusing {
    pub(super) const NOTHING: Refusing = Refusing {
        table: false,
        queues: false,
        sockets: false,
        registrations: false,
        requests: false,
        next_send: false,
        commits: false,
        notifications: false,
        waits: false,
        completions: false,
    };
}

impl Table for Model {
    const NAME: &'static str = "rio-model";

    /// Small, and no power of two, so that spans lie across registrations.
    const REGISTRATION_MAX: usize = 3_333_333;

    fn open(sockets: usize) -> io::Result<Model> {
        let refusing = chance::refusing();
        refuse(refusing.table)?;
        let (chance, liberties) = chance::next();
        // Those of all slots, and as many that nobody has taken yet.
        sockets::reserve(2 * sockets);
        Ok(Model {
            owner: std::thread::current().id(),
            chance,
            liberties,
            buffers: Vec::new(),
            completions: Vec::new(),
            requests: (0..sockets).map(|_| Requests::free()).collect(),
            made: 0,
            control: Control::new(sockets, liberties.reset_accepts),
            bell: Arc::default(),
            spurious: None,
            refusing,
            begun: 0,
        })
    }

    unsafe fn register_buffer(&mut self, start: *mut u8, len: usize) -> io::Result<BufferId> {
        self.check(len > 0 && u32::try_from(len).is_ok(), Violation::RegistrationSize);
        refuse(self.refusing.registrations)?;
        // SAFETY: as the caller promises; and of the pieces of outstanding requests, too.
        self.buffers.push(Some(unsafe { Memory::new(start, len) }));
        Ok(BufferId(self.buffers.len() as isize))
    }

    fn deregister_buffer(&mut self, buffer: BufferId) {
        self.memory(buffer);
        let in_use = self.pieces().any(|piece| piece.buffer == buffer);
        self.check(!in_use, Violation::BufferInUse);
        self.buffers[buffer.0 as usize - 1] = None;
    }

    fn create_completion_queue(&mut self, size: u32, tells: bool) -> io::Result<CompletionQueue> {
        self.check((1..=COMPLETIONS_MAX).contains(&size), Violation::QueueSize);
        refuse(self.refusing.queues)?;
        self.completions.push(Some(Completions::new(size as usize, tells)));
        Ok(CompletionQueue(self.completions.len() as isize))
    }

    fn close_completion_queue(&mut self, queue: CompletionQueue) {
        let at = self.known(queue);
        let used = self.requests.iter().any(|requests| requests.id.is_some() && requests.completions == at);
        let empty = self.queue(at).ready.is_empty();
        self.check(!used && empty, Violation::QueueInUse);
        self.completions[at] = None;
    }

    fn create_request_queue(
        &mut self,
        socket: &Socket,
        limits: Limits,
        completions: CompletionQueue,
        context: u32,
    ) -> io::Result<RequestQueue> {
        let at = self.known(completions);
        let sum = (limits.receives + limits.sends) as usize;
        self.check(sum > 0, Violation::NoLimits);
        let queue = self.queue(at);
        let (promised, size) = (queue.promised + sum, queue.size);
        self.check(promised <= size, Violation::QueueTooSmall);
        refuse(self.refusing.requests)?;
        let made = sockets::of(socket);
        self.check(made.is_some(), Violation::NotRegistered);
        self.check(made == Some(Made::Connected), Violation::NotConnected);
        // A connection that has ended has no peer any more: the kernel refuses it.
        let name = |name: io::Result<socket2::SockAddr>| name.ok().and_then(|name| name.as_socket());
        let names = name(socket.local_addr()).zip(name(socket.peer_addr()));
        let names = names.ok_or(ErrorKind::NotConnected)?;
        let second = self.requests.iter().any(|other| other.socket.is_some() && other.names == Some(names));
        self.check(!second, Violation::SecondQueue);
        let place = self.requests.iter().position(|requests| requests.id.is_none());
        let place = place.ok_or(ErrorKind::OutOfMemory)?;
        self.made += 1;
        let id = self.made * self.requests.len() as isize + place as isize;
        let requests = &mut self.requests[place];
        requests.socket = Some(socket.try_clone()?);
        (requests.id, requests.names) = (Some(id), Some(names));
        (requests.limits, requests.completions, requests.context) = (limits, at, context);
        (requests.moved, requests.besides) = ([0; 2], 0);
        #[cfg(target_os = "linux")]
        {
            // So that an urgent byte comes and is counted as any other.
            socket.set_out_of_band_inline(true)?;
            let count = count::Count::of(socket);
            // Of what went out the handshake may be one.
            let plain = count.is_some_and(|count| count.read > 0 || count.written.0 > 1);
            violation::check(!plain, Violation::PlainCall, self.chance.seed);
            requests.besides = count.map_or(0, |count| count.written.1);
        }
        self.queue(at).promised = promised;
        Ok(RequestQueue(id))
    }

    unsafe fn receive(
        &mut self,
        queue: RequestQueue,
        data: Option<Piece>,
        flags: u32,
        context: u32,
    ) -> io::Result<()> {
        self.request(queue, Way::Receive, data, flags, context)
    }

    unsafe fn send(
        &mut self,
        queue: RequestQueue,
        data: Option<Piece>,
        flags: u32,
        context: u32,
    ) -> io::Result<()> {
        self.request(queue, Way::Send, data, flags, context)
    }

    fn dequeue_completions(&mut self, queue: CompletionQueue, outcomes: &mut [Outcome]) -> u32 {
        let at = self.known(queue);
        if self.queue(at).corrupt || chance::is_corrupt() {
            return CORRUPT;
        }
        self.check_committed();
        self.get_on();
        let mut taken = 0;
        if let Some(outcome) = self.spurious.take() {
            outcomes[0] = outcome;
            taken = 1;
        }
        while taken < outcomes.len() {
            let Some(ready) = self.queue(at).ready.pop_front() else { break };
            // Until now it was the request's.
            self.check_untouched(&ready.piece, &ready.sample);
            outcomes[taken] = ready.outcome;
            taken += 1;
            let requests = &mut self.requests[ready.place];
            requests.rows[ready.way as usize].outstanding -= 1;
            requests.let_go();
        }
        taken as u32
    }

    fn reset_told(&mut self, queue: CompletionQueue) {
        let at = self.known(queue);
        self.queue(at).told = false;
    }

    fn notify(&mut self, queue: CompletionQueue) -> io::Result<Asked> {
        let at = self.known(queue);
        let (tells, armed) = (self.queue(at).tells, self.queue(at).armed);
        self.check(tells, Violation::NothingToTell);
        self.check(!armed, Violation::AskedTwice);
        refuse(self.refusing.notifications)?;
        self.get_on();
        let resets = self.liberties.resets;
        let in_vain = self.liberties.already && self.chance.one_in(4);
        let queue = self.queue(at);
        queue.in_vain = in_vain;
        if in_vain {
            return Ok(Asked::Already);
        }
        (queue.armed, queue.told) = (true, queue.told && !resets);
        queue.tell();
        Ok(Asked::Anew)
    }

    fn socket(&mut self, address: SocketAddr) -> io::Result<Socket> {
        refuse(self.refusing.sockets)?;
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        sockets::note(&socket, Made::Alone);
        Ok(socket)
    }

    fn listen(&mut self, listener: Socket) -> io::Result<()> {
        refuse(self.refusing.sockets)?;
        self.control.listen(listener);
        Ok(())
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
        let outcome = self.control.connected(index);
        if let Some(Ok(())) = outcome {
            sockets::note(socket, Made::Connected);
        }
        outcome
    }

    fn shut_down(&mut self, socket: &Socket, queue: Option<RequestQueue>) -> io::Result<()> {
        let place = queue.map(|queue| self.place(queue));
        socket.shutdown(Shutdown::Write)?;
        if let Some(place) = place {
            self.requests[place].besides += 1;
        }
        Ok(())
    }

    fn close(&mut self, index: u32, socket: Socket, queue: Option<RequestQueue>) {
        self.control.forget(index);
        if let Some(queue) = queue {
            let place = self.place(queue);
            self.check_moved(place, &socket);
            if self.liberties.last_moment {
                self.get_on_at(place);
            }
            let keeps = self.liberties.keeps && !matches!(socket.linger(), Ok(Some(Duration::ZERO)));
            let requests = &mut self.requests[place];
            let sends = requests.rows[Way::Send as usize].waiting.iter().any(|request| request.committed);
            if keeps && sends {
                requests.kept = requests.socket.take();
            }
            // Its share is free from now on, and what is left of it completes as cancelled.
            requests.socket = None;
            let (at, promised) = (requests.completions, requests.promised());
            requests.let_go();
            self.queue(at).promised -= promised;
        }
        sockets::forget(&socket);
        drop(socket);
    }

    fn wait(&mut self, timeout: Duration) -> io::Result<Woken> {
        self.check_thread();
        self.check_committed();
        let outstanding = self.requests.iter().any(|requests| requests.outstanding() > 0);
        let soon = timeout <= ASK_AGAIN;
        let hears = |queue: &Completions| queue.armed || queue.told || (queue.in_vain && soon);
        let hears = self.completions.iter().flatten().any(hears);
        self.check(hears || !outstanding, Violation::DeafWait);
        refuse(self.refusing.waits)?;
        let deadline = Instant::now() + timeout;
        let mut pause = PAUSES.0;
        loop {
            self.get_on();
            let completions = self.completions.iter().flatten().any(|queue| queue.told);
            let control = self.control.tells();
            let left = deadline.saturating_duration_since(Instant::now());
            if completions || control || left.is_zero() || self.bell.wait(pause.min(left)) {
                return Ok(Woken { completions, control });
            }
            pause = (2 * pause).min(PAUSES.1);
        }
    }

    fn waker(&self) -> Waker {
        self.bell.waker()
    }
}

#[cfg(test)]
impl Model {
    /// It takes no liberties any more.
    pub(super) fn be_plain(&mut self) {
        self.liberties = Liberties::default();
    }

    /// A socket that is closed goes on sending.
    pub(super) fn keep_sends(&mut self) {
        self.liberties.keeps = true;
    }

    /// A peer's reset cancels.
    pub(super) fn cancel_on_resets(&mut self) {
        self.liberties.cancels = true;
    }

    /// Whether to accept one whose peer has reset it is an error.
    pub(super) fn resets_accepts(&self) -> bool {
        self.liberties.reset_accepts
    }

    /// A session's sends complete in another order.
    pub(super) fn shuffle(&mut self) {
        self.liberties.shuffled = true;
    }

    /// A completion comes that is of no request.
    pub(super) fn complete_for_nobody(&mut self, outcome: Outcome) {
        self.spurious = Some(outcome);
    }

    /// Its completion queues are lost.
    pub(super) fn corrupt(&mut self) {
        self.completions.iter_mut().flatten().for_each(|queue| queue.corrupt = true);
    }
}

impl Model {
    #[track_caller]
    fn check(&self, is_so: bool, or: Violation) {
        violation::check(is_so, or, self.chance.seed);
    }

    fn check_thread(&self) {
        self.check(std::thread::current().id() == self.owner, Violation::AnotherThread);
    }

    /// Nothing is left to be committed, but where the socket is closed.
    fn check_committed(&self) {
        let open = self.requests.iter().filter(|requests| requests.socket.is_some());
        let mut waiting = open.flat_map(|requests| &requests.rows).flat_map(|row| &row.waiting);
        let uncommitted = waiting.any(|request| !request.committed);
        self.check(!uncommitted, Violation::Uncommitted);
    }

    #[track_caller]
    fn check_untouched(&self, piece: &Piece, sample: &Sample) {
        self.check(self.memory(piece.buffer).sample(piece) == *sample, Violation::Touched);
    }

    /// What came and went on a socket did so by its requests, as far as the system tells.
    #[cfg(target_os = "linux")]
    fn check_moved(&self, place: usize, socket: &Socket) {
        let Some(count) = count::Count::of(socket) else { return };
        let Requests { moved: [read, written], besides, .. } = self.requests[place];
        self.check(count.read <= read && count.written.0 <= written + besides, Violation::PastTheQueue);
    }

    #[cfg(not(target_os = "linux"))]
    fn check_moved(&self, _: usize, _: &Socket) {}

    /// Which completion queue that is.
    fn known(&self, queue: CompletionQueue) -> usize {
        self.check_thread();
        let at = (queue.0 - 1) as usize;
        self.check(matches!(self.completions.get(at), Some(Some(_))), Violation::UnknownQueue);
        at
    }

    fn queue(&mut self, at: usize) -> &mut Completions {
        self.completions[at].as_mut().expect("it is known")
    }

    fn memory(&self, buffer: BufferId) -> &Memory {
        match self.buffers.get((buffer.0 - 1) as usize) {
            Some(Some(memory)) => memory,
            _ => violation::violate(Violation::UnknownBuffer, self.chance.seed),
        }
    }

    /// Where a request queue is whose socket is open.
    fn place(&self, queue: RequestQueue) -> usize {
        self.check_thread();
        let place = queue.0.rem_euclid(self.requests.len().max(1) as isize) as usize;
        let found = self.requests.get(place);
        let open = found.is_some_and(|requests| requests.id == Some(queue.0) && requests.socket.is_some());
        self.check(open, Violation::UnknownRequestQueue);
        place
    }

    /// The pieces of all requests that have not been dequeued.
    fn pieces(&self) -> impl Iterator<Item = &Piece> {
        let rows = self.requests.iter().flat_map(|requests| &requests.rows);
        let waiting = rows.flat_map(|row| &row.waiting).map(|request| &request.piece);
        let ready =
            self.completions.iter().flatten().flat_map(|queue| &queue.ready).map(|ready| &ready.piece);
        waiting.chain(ready)
    }

    fn request(
        &mut self,
        queue: RequestQueue,
        way: Way,
        data: Option<Piece>,
        flags: u32,
        context: u32,
    ) -> io::Result<()> {
        let place = self.place(queue);
        if flags & COMMIT_ONLY != 0 {
            let only = flags == COMMIT_ONLY && data.is_none() && context == 0;
            self.check(only, Violation::CommitWithMore);
            refuse(self.refusing.commits)?;
            self.commit(place, way);
            return Ok(());
        }
        // Not RIO_MSG_WAITALL, which sends do not have, and which no model of ours needs.
        self.check(flags & !(DEFER | DONT_NOTIFY) == 0, Violation::UnknownFlags);
        let Some(piece) = data else { violation::violate(Violation::NoData, self.chance.seed) };
        let is_next = way == Way::Send && std::mem::take(&mut self.refusing.next_send);
        let is_refused = self.refusing.requests || is_next;
        let memory = self.memory(piece.buffer);
        self.check(memory.contains(&piece), Violation::OutsideBuffer);
        let (start, end) = memory.range(&piece);
        let overlap = self.pieces().any(|other| {
            let (other_start, other_end) = self.memory(other.buffer).range(other);
            start < other_end && other_start < end
        });
        self.check(!overlap, Violation::Overlap);
        let requests = &self.requests[place];
        let room = requests.rows[way as usize].outstanding < requests.limit(way);
        self.check(room, Violation::TooManyRequests);
        refuse(is_refused)?;
        let (committed, sample) = (flags & DEFER == 0, memory.sample(&piece));
        let delay = self.chance.below(self.liberties.delay + 1);
        let row = &mut self.requests[place].rows[way as usize];
        row.outstanding += 1;
        let notifies = flags & DONT_NOTIFY == 0;
        row.waiting.push_back(Request {
            piece,
            sample,
            context,
            committed,
            notifies,
            delay,
            done: 0,
            sent: None,
        });
        if committed {
            // It takes with it what was deferred before.
            self.commit(place, way);
        }
        Ok(())
    }

    fn commit(&mut self, place: usize, way: Way) {
        self.begun += 1;
        for request in &mut self.requests[place].rows[way as usize].waiting {
            if !request.committed {
                request.committed = true;
                request.delay += self.chance.below(self.liberties.slow_commit + 1);
            }
        }
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        self.check_thread();
        let registered = self.buffers.iter().any(Option::is_some);
        let queued = self.completions.iter().any(Option::is_some);
        let requests = self.requests.iter().any(|requests| requests.id.is_some());
        self.check(!registered && !queued && !requests, Violation::LeftBehind);
    }
}

/// WSAEINVAL, or what stands for it.
fn refuse(refused: bool) -> io::Result<()> {
    if refused { Err(ErrorKind::InvalidInput.into()) } else { Ok(()) }
}
