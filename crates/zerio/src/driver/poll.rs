//! The `poll` driver: readiness by mio (epoll on Linux, kqueue on macOS and the BSDs), imitating
//! completions. A request is tried when its socket is ready, and waits for the next edge when the
//! kernel has nothing.
#![forbid(unsafe_code)]

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll as Selector, Token};
use socket2::Socket;

use super::{Completion, Direct, Driver, FEW, Options, SlotId, Waker, retry, socket};
use crate::region::{Region, Span};

#[cfg(all(test, unix))]
mod tests;

const WAKER: Token = Token(usize::MAX);
const LISTENER: Token = Token(usize::MAX - 1);

/// After so many turns in a row that only tried the sockets, one asks the selector too: for connections that come.
const SOCKET_TURNS: u32 = 64;

/// A turn takes so many events of the selector, at the most: their messages are answered before the next are received. With
/// 100 clients that each had one message out, the p99 was 1.62 × that of a server that answers each before it looks at the
/// next with up to 1,024 events in a turn, 1.14 × with 32 and 1.00 × with 12; but two engines that shared two cores with
/// their clients took 1.04, 1.04 and 1.19 × the processor time of one for a message (BENCHMARKS.md). Answers went out in the
/// order of slots then.
const EVENTS: usize = 32;

/// Whether the selector tells of urgent bytes.
const TELLS_URGENT: bool = cfg!(target_os = "linux");

pub(crate) struct Poll {
    region: Arc<Region>,
    selector: Selector,
    events: Events,
    waker: Waker,
    listener: Option<TcpListener>,
    accept_wanted: bool,
    accept_ready: bool,
    connections: Vec<Connection>,
    /// Slots that have a connection; those that are not registered with the selector stand last.
    live: Vec<u32>,
    /// Some of them have none any more, since this turn began.
    some_gone: bool,
    /// Some of them may not be registered yet. While a socket is not, its packets are spared the selector's callback, 0.1 µs
    /// each; registering, before the selector is first waited for, reports what is ready by then, so nothing is missed.
    unregistered: bool,
    /// Slots whose connection may be able to go on.
    ready: Vec<u32>,
    socket_turns: u32,
}

/// On one line of a cache.
#[derive(Default)]
#[repr(align(64))]
struct Connection {
    generation: u32,
    stream: Option<TcpStream>,
    connecting: bool,
    /// What its next completion is to tell.
    error: Option<io::Error>,
    registered: bool,
    closing: bool,
    receive: Option<Span>,
    send: Option<Span>,
    /// What the selector has said, until the kernel says that there is no more.
    readable: bool,
    writable: bool,
    /// The peer's end or an urgent byte has been announced: reading on may find more, though no edge will come for it.
    unsure: bool,
    /// It stands in `ready`.
    queued: bool,
}

impl Driver for Poll {
    type Socket = Socket;

    const NAME: &'static str = "poll";
    const BATCHES: bool = false;

    fn new(region: Arc<Region>, slots: usize) -> io::Result<Self> {
        let selector = Selector::new()?;
        let waker = mio::Waker::new(selector.registry(), WAKER)?;
        // Waking fails only where the selector is gone, and with it everybody who could be woken.
        let waker = Waker::new(move || drop(waker.wake()));
        Ok(Poll {
            region,
            selector,
            events: Events::with_capacity(EVENTS),
            waker,
            listener: None,
            accept_wanted: false,
            accept_ready: false,
            connections: (0..slots).map(|_| Connection::default()).collect(),
            live: Vec::with_capacity(slots),
            some_gone: false,
            unregistered: false,
            ready: Vec::with_capacity(slots),
            socket_turns: 0,
        })
    }

    fn listen(&mut self, listener: Socket) -> io::Result<()> {
        let mut listener = TcpListener::from_std(listener.into());
        self.selector.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        self.listener = Some(listener);
        Ok(())
    }

    fn accept(&mut self) {
        self.accept_wanted = true;
    }

    fn stop_listening(&mut self) {
        self.listener = None;
        self.accept_wanted = false;
    }

    fn connect(&mut self, id: SlotId, address: SocketAddr, options: &Options) -> io::Result<()> {
        let socket = socket::for_connecting(address, options)?;
        let started = socket.connect(&address.into());
        self.install(id, socket);
        let connection = &mut self.connections[id.index as usize];
        connection.connecting = true;
        if let Err(error) = started
            && !in_progress(&error)
        {
            connection.error = Some(error);
            self.queue(id.index);
        }
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
        self.connections[id.index as usize].stream.as_ref().map(Direct::new)
    }

    fn receive(&mut self, id: SlotId, span: Span) {
        let connection = &mut self.connections[id.index as usize];
        debug_assert!(connection.receive.is_none(), "one receive in flight a session");
        connection.receive = Some(span);
        if connection.readable {
            self.queue(id.index);
        }
    }

    fn send(&mut self, id: SlotId, span: Span) {
        let connection = &mut self.connections[id.index as usize];
        debug_assert!(connection.send.is_none(), "one send in flight a session");
        connection.send = Some(span);
        if connection.writable {
            self.queue(id.index);
        }
    }

    fn shut_down(&mut self, id: SlotId) {
        if let Some(stream) = &self.connections[id.index as usize].stream {
            // It fails only where the connection is gone, which a receive will tell.
            let _ = stream.shutdown(std::net::Shutdown::Write);
        }
    }

    fn close(&mut self, id: SlotId) {
        self.connections[id.index as usize].closing = true;
        self.queue(id.index);
    }

    fn catch_up(&mut self) {
        self.socket_turns = SOCKET_TURNS;
    }

    fn turn(&mut self, wait: Duration, done: &mut Vec<Completion<Socket>>) -> io::Result<()> {
        let tried = wait.is_zero() && self.try_sockets();
        if !tried {
            self.register_new();
        }
        if !tried || self.socket_turns > SOCKET_TURNS {
            self.socket_turns = 0;
            self.select(if self.is_busy() { Duration::ZERO } else { wait })?;
        }
        if self.accept_wanted && self.accept_ready {
            self.try_accept(done);
        }
        // In the order in which the selector told of them: who is served last in one turn is not first in the next.
        for at in 0..self.ready.len() {
            let index = self.ready[at];
            self.connections[index as usize].queued = false;
            self.serve(index, done);
        }
        self.ready.clear();
        // All of them at once, and in their order: the unregistered stand last.
        if std::mem::take(&mut self.some_gone) {
            self.live.retain(|&index| self.connections[index as usize].stream.is_some());
        }
        Ok(())
    }

    fn waker(&self) -> Waker {
        self.waker.clone()
    }
}

#[cfg(all(feature = "tokio", target_os = "linux"))]
impl Poll {
    /// Takes all that the selector has to tell: whoever waits for it to become readable hears of news alone.
    pub(crate) fn look(&mut self) -> io::Result<()> {
        loop {
            self.select(Duration::ZERO)?;
            if self.events.iter().count() < self.events.capacity() {
                return Ok(());
            }
        }
    }

    /// Whether the selector becomes readable for all that a turn would do: to be asked before each wait for that.
    pub(crate) fn may_wait(&mut self) -> bool {
        self.register_new();
        !self.is_busy()
    }

    /// The selector, by a descriptor of its own, for whoever waits for it to become readable.
    pub(crate) fn selector(&self) -> io::Result<mio::Registry> {
        self.selector.registry().try_clone()
    }
}

impl Poll {
    /// Whether a turn has something to do of which the selector knows nothing.
    fn is_busy(&self) -> bool {
        !self.ready.is_empty() || (self.accept_wanted && self.accept_ready)
    }

    fn install(&mut self, id: SlotId, socket: Socket) {
        self.connections[id.index as usize] = Connection {
            generation: id.generation,
            stream: Some(TcpStream::from_std(socket.into())),
            queued: self.connections[id.index as usize].queued,
            ..Connection::default()
        };
        self.live.push(id.index);
        self.unregistered = true;
    }

    /// Registers the sockets that are not yet: of what is ready by then the selector tells as of news.
    fn register_new(&mut self) {
        if !std::mem::take(&mut self.unregistered) {
            return;
        }
        // Who came last stands last.
        for at in (0..self.live.len()).rev() {
            let index = self.live[at];
            let connection = &mut self.connections[index as usize];
            let Some(stream) = connection.stream.as_mut().filter(|_| !connection.registered) else { break };
            connection.registered = true;
            let interest = Interest::READABLE | Interest::WRITABLE;
            #[cfg(target_os = "linux")]
            let interest = interest | Interest::PRIORITY;
            if let Err(error) = self.selector.registry().register(stream, Token(index as usize), interest) {
                connection.error.get_or_insert(error);
                (connection.readable, connection.writable) = (true, true);
                self.queue(index);
            }
        }
    }

    fn queue(&mut self, index: u32) {
        let connection = &mut self.connections[index as usize];
        if !connection.queued {
            connection.queued = true;
            self.ready.push(index);
        }
    }

    /// With few sessions: lets each pending receive try its socket, and tells that the selector need not be asked.
    fn try_sockets(&mut self) -> bool {
        if cfg!(windows) || self.live.is_empty() || self.live.len() > FEW {
            return false;
        }
        self.socket_turns += 1;
        for at in 0..self.live.len() {
            let index = self.live[at];
            let connection = &mut self.connections[index as usize];
            // Who tried would send in pieces: the selector tells when a good part of the socket's buffer is free.
            if connection.send.is_some() {
                return false;
            }
            connection.readable |= connection.receive.is_some();
            connection.writable |= connection.connecting;
            if connection.readable || connection.writable {
                self.queue(index);
            }
        }
        true
    }

    /// Takes what the selector has to tell, after at most `wait`.
    fn select(&mut self, wait: Duration) -> io::Result<()> {
        #[cfg(target_os = "linux")]
        let wait = self.wait_briefly(wait)?;
        match self.selector.poll(&mut self.events, Some(wait)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            outcome => outcome?,
        }
        for event in &self.events {
            match event.token() {
                WAKER => {}
                LISTENER => self.accept_ready = true,
                Token(index) => {
                    let connection = &mut self.connections[index];
                    connection.readable |= event.is_readable() || event.is_error();
                    connection.writable |= event.is_writable() || event.is_error();
                    if event.is_read_closed() || event.is_priority() {
                        (connection.readable, connection.unsure) = (true, true);
                    }
                    if !connection.queued {
                        connection.queued = true;
                        self.ready.push(index as u32);
                    }
                }
            }
        }
        Ok(())
    }

    /// The selector counts in milliseconds: a shorter wait is made here, by ppoll(2) of its descriptor. Gives what is left to
    /// wait.
    #[cfg(target_os = "linux")]
    fn wait_briefly(&self, wait: Duration) -> io::Result<Duration> {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        if wait.is_zero() || wait >= Duration::from_millis(1) {
            return Ok(wait);
        }
        let wait = Timespec { tv_sec: 0, tv_nsec: wait.subsec_nanos().into() };
        match poll(&mut [PollFd::new(self.selector.registry(), PollFlags::IN)], Some(&wait)) {
            Err(error) if error != rustix::io::Errno::INTR => Err(error.into()),
            _ => Ok(Duration::ZERO),
        }
    }

    fn try_accept(&mut self, done: &mut Vec<Completion<Socket>>) {
        let Some(listener) = &self.listener else { return };
        match listener.accept() {
            Ok((stream, address)) => {
                self.accept_wanted = false;
                let socket = Socket::from(std::net::TcpStream::from(stream));
                done.push(Completion::Accepted(Ok((socket, address))));
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.accept_ready = false,
            Err(error) => {
                self.accept_wanted = false;
                done.push(Completion::Accepted(Err(error)));
            }
        }
    }

    /// Lets one connection go on with what it was asked for, as far as its socket is ready.
    fn serve(&mut self, index: u32, done: &mut Vec<Completion<Socket>>) {
        let connection = &mut self.connections[index as usize];
        let id = SlotId { index, generation: connection.generation };
        if connection.closing {
            return self.finish(id, done);
        }
        if connection.connecting {
            let Some(outcome) = connection.connected() else {
                connection.writable = false;
                return;
            };
            connection.connecting = false;
            let stands = outcome.is_ok();
            done.push(Completion::Connected(id, outcome));
            if !stands {
                return;
            }
            // What was asked for meanwhile has waited for this, and no other edge comes for it.
        }
        let Some(stream) = &mut connection.stream else { return };
        if let Some(error) = connection.error.take() {
            if let Some(span) = connection.receive.take() {
                done.push(Completion::Received(id, span, Err(error)));
            } else if let Some(span) = connection.send.take() {
                done.push(Completion::Sent(id, span, Err(error)));
            } else {
                connection.error = Some(error);
            }
            return;
        }
        if connection.readable
            && let Some(mut span) = connection.receive.take()
        {
            match retry(|| stream.read(self.region.bytes_mut(&mut span))) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    connection.readable = false;
                    connection.receive = Some(span);
                }
                outcome => {
                    // A receive that brought less than it could has emptied the socket: the next byte
                    // makes an edge (epoll(7), "Possible pitfalls"). But it may have stopped at an urgent byte, of
                    // which only epoll tells before, and Windows wants to be told no.
                    let short = outcome.as_ref().is_ok_and(|&n| n < span.len());
                    connection.readable = !(short && TELLS_URGENT) || connection.unsure;
                    done.push(Completion::Received(id, span, outcome));
                }
            }
        }
        if connection.writable
            && let Some(span) = connection.send.take()
        {
            match retry(|| stream.write(self.region.bytes(&span))) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    connection.writable = false;
                    connection.send = Some(span);
                }
                outcome => done.push(Completion::Sent(id, span, outcome)),
            }
        }
    }

    /// Closes a connection: what was asked for comes back, and then the end.
    fn finish(&mut self, id: SlotId, done: &mut Vec<Completion<Socket>>) {
        let connection = std::mem::take(&mut self.connections[id.index as usize]);
        let aborted = || io::Error::from(ErrorKind::ConnectionAborted);
        if connection.connecting {
            done.push(Completion::Connected(id, Err(aborted())));
        }
        if let Some(span) = connection.receive {
            done.push(Completion::Received(id, span, Err(aborted())));
        }
        if let Some(span) = connection.send {
            done.push(Completion::Sent(id, span, Err(aborted())));
        }
        if let Some(mut stream) = connection.stream.filter(|_| connection.registered) {
            // Closing the descriptor takes it out of the selector in any case.
            let _ = self.selector.registry().deregister(&mut stream);
        }
        self.some_gone = true;
        done.push(Completion::Closed(id));
    }
}

impl Connection {
    /// What the attempt to connect came to, `None` while it goes on.
    fn connected(&mut self) -> Option<io::Result<()>> {
        if let Some(error) = self.error.take() {
            return Some(Err(error));
        }
        if !self.writable {
            return None;
        }
        let stream = self.stream.as_ref()?;
        match stream.take_error() {
            Err(error) | Ok(Some(error)) => Some(Err(error)),
            Ok(None) => match stream.peer_addr() {
                Ok(_) => Some(Ok(())),
                Err(error) if error.kind() == ErrorKind::NotConnected => None,
                Err(error) => Some(Err(error)),
            },
        }
    }
}

fn in_progress(error: &io::Error) -> bool {
    #[cfg(unix)]
    let in_progress = error.raw_os_error() == Some(libc::EINPROGRESS);
    #[cfg(windows)]
    let in_progress = false;
    in_progress || error.kind() == ErrorKind::WouldBlock
}
