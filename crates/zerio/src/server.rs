//! What a user of a server holds; no logic of its own.
#![forbid(unsafe_code)]

use std::fmt;
use std::marker::PhantomData;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use socket2::Socket;

use crate::builder::Builder;
use crate::config::{Config, ConfigError};
use crate::counters::{Counters, SessionCounters};
use crate::driver::socket::{self, Refused};
use crate::engine::{Role, ServerRole, options};
use crate::error::{Error, SendError};
use crate::handler::{Arrival, Closures, Handler, Refusal};
use crate::polled::{self, Polled};
use crate::report::Report;
use crate::send::Sole;
use crate::send::claim::Claim;
use crate::session::directory::Directory;
use crate::session::inbox::inboxes;
use crate::session::peer::{Peer, Sender};
use crate::session::request;
use crate::thread::{self, DriverInfo, Plan, Running};

/// A server that runs on threads of its own. Dropping it stops it, as [`stop`](Server::stop) does.
///
/// ```
/// use zerio::Server;
///
/// let server = Server::bind("127.0.0.1:0")?
///     .on_message(|peer, message| {
///         let _ = peer.send(message); // an echo, from the engine's thread
///     })
///     .start()?;
/// println!("listening on {}, by {}", server.local_addr(), server.driver());
/// println!("{}", server.stop());
/// # Ok::<(), zerio::Error>(())
/// ```
pub struct Server {
    running: Running,
    sender: Sender,
    address: SocketAddr,
}

/// Where a server is to listen: a bound socket.
#[derive(Debug)]
pub struct Listen {
    socket: Socket,
    pub(crate) address: SocketAddr,
    #[cfg(feature = "tls")]
    tls: Option<crate::tls::TlsServer>,
}

impl Server {
    /// Binds a server to an address; port 0 finds a free one. It listens when it is started.
    ///
    /// # Errors
    ///
    /// [`Error::Resolve`] where that is no address; [`Error::Bind`] where the system does not give it.
    pub fn bind(address: impl ToSocketAddrs + fmt::Debug) -> Result<Builder<Listen>, Error> {
        let unresolved = |why| Error::Resolve { address: format!("{address:?}"), why };
        let mut last = unresolved(std::io::ErrorKind::NotFound.into());
        for address in address.to_socket_addrs().map_err(unresolved)? {
            let bound = socket::bind(address).and_then(|socket| {
                let address = socket.local_addr()?.as_socket().unwrap_or(address);
                Ok(Listen {
                    socket,
                    address,
                    #[cfg(feature = "tls")]
                    tls: None,
                })
            });
            match bound {
                Ok(listen) => return Ok(Builder::new(listen)),
                Err(why) => last = Error::Bind { address, why },
            }
        }
        Err(last)
    }

    /// The address that it listens on.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Sends a message to a peer; waits for room, up to the configured `send_timeout`. Inside a handler it
    /// does not wait.
    ///
    /// # Errors
    ///
    /// Any [`SendError`]. Nothing was sent.
    #[inline]
    pub fn send(&self, id: &str, message: &[u8]) -> Result<(), SendError> {
        self.sender.send(id, message)
    }

    /// Sends a message to a peer, or tells at once why not.
    ///
    /// # Errors
    ///
    /// Any [`SendError`] but `TimedOut`. Nothing was sent.
    #[inline]
    pub fn try_send(&self, id: &str, message: &[u8]) -> Result<(), SendError> {
        self.sender.try_send(id, message)
    }

    /// Sends a message to a peer; waits for room, up to `timeout`. Inside a handler it does not wait.
    ///
    /// # Errors
    ///
    /// Any [`SendError`]. Nothing was sent.
    pub fn send_timeout(&self, id: &str, message: &[u8], timeout: Duration) -> Result<(), SendError> {
        self.sender.send_timeout(id, message, timeout)
    }

    /// A place in a peer's ring for a message of `len` bytes, to fill and commit; waits for room, up to
    /// the configured `send_timeout`.
    ///
    /// # Errors
    ///
    /// Any [`SendError`].
    pub fn claim(&self, id: &str, len: usize) -> Result<Claim<'_>, SendError> {
        self.sender.claim(id, len)
    }

    /// A place in a peer's ring for a message of `len` bytes, or at once the reason why there is none.
    ///
    /// # Errors
    ///
    /// Any [`SendError`] but `TimedOut`.
    pub fn try_claim(&self, id: &str, len: usize) -> Result<Claim<'_>, SendError> {
        self.sender.try_claim(id, len)
    }

    /// A handle on one peer's session, which sends without a look-up.
    ///
    /// # Errors
    ///
    /// [`SendError::UnknownPeer`] where nobody with that id is connected.
    pub fn peer(&self, id: &str) -> Result<Peer, SendError> {
        self.sender.peer(id)
    }

    /// Everybody who is connected, in no order.
    pub fn peers(&self) -> Vec<Peer> {
        self.sender.peers()
    }

    /// Ends a peer's session, as [`Peer::disconnect`] does.
    ///
    /// # Errors
    ///
    /// [`SendError::UnknownPeer`] where nobody with that id is connected; [`SendError::Closed`] where its
    /// session is just ending.
    pub fn disconnect(&self, id: &str) -> Result<(), SendError> {
        self.sender.disconnect(id)
    }

    /// A handle that sends by peer id, to clone and give to other threads.
    pub fn sender(&self) -> Sender {
        self.sender.clone()
    }

    /// What it has done so far.
    pub fn counters(&self) -> Counters {
        let mut sum = Counters::default();
        self.running.engines.iter().for_each(|engine| sum.add(&engine.counters()));
        sum
    }

    /// What each engine has done so far.
    pub fn engine_counters(&self) -> Vec<Counters> {
        self.running.engines.iter().map(|engine| engine.counters()).collect()
    }

    /// Which driver it has, and why not a better one.
    pub fn driver(&self) -> &DriverInfo {
        &self.running.info
    }

    /// Whether all its engines run; one whose handler panicked does not.
    pub fn is_running(&self) -> bool {
        self.running.is_running()
    }

    /// Lets nobody in any more, hands what was accepted to the kernel, within `drain_timeout`, closes all
    /// sessions, and tells what was left. Messages that still come meanwhile are handed to the
    /// handler. From inside a handler it can't wait for that one's engine, and tells of the others alone:
    /// [`Report::finished`] says so.
    pub fn stop(mut self) -> Report {
        let ended = self.running.stop();
        Report::new(ended, self.running.engines.len())
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("address", &self.address).finish_non_exhaustive()
    }
}

impl<H: Handler> Builder<Listen, H> {
    /// The address that it will listen on.
    pub fn local_addr(&self) -> SocketAddr {
        self.target.address
    }

    /// Starts one engine on a thread of its own.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] where the configuration can't work, several engines included, which need
    /// [`start_each`](Builder::start_each); [`Error::Bind`] where another program has come to listen on
    /// the address since it was bound; [`Error::Driver`] and [`Error::System`] where the system does not
    /// give what is needed.
    pub fn start(self) -> Result<Server, Error>
    where
        H: Send + 'static,
    {
        one_engine(&self.config, "start_each, with a handler for each")?;
        launch(self.target, &self.config, vec![self.handler])
    }

    /// Makes a server whose engine you drive: no thread runs, everything happens inside
    /// [`poll`](PolledServer::poll).
    ///
    /// # Errors
    ///
    /// As [`start`](Builder::start).
    pub fn start_polled(self) -> Result<PolledServer<H>, Error> {
        one_engine(&self.config, "one, or a polled server for each core, each on its own port")?;
        polled::check(&self.config)?;
        let Builder { target, handler, config } = self;
        let address = target.address;
        let (mut plans, directory) = plans(target, &config, Some(Sole::new()))?;
        let plan = plans.swap_remove(0);
        let polled = Polled::new(plan, handler)?;
        Ok(PolledServer { polled, directory, address, here: PhantomData })
    }
}

impl<C, M, D, A> Builder<Listen, Closures<C, M, D, A>> {
    /// Who is let in: asked in the handshake, on the engine's thread, before anything else happens; see
    /// [`Handler::admit`].
    ///
    /// ```
    /// use zerio::{Client, Error, RefusalCode, Server};
    ///
    /// let server = Server::bind("127.0.0.1:0")?
    ///     .admit(|arrival| match arrival.id() {
    ///         "alice" | "bob" => Ok(()),
    ///         _ => Err("you are not on the list".into()),
    ///     })
    ///     .start()?;
    /// Client::connect(server.local_addr(), "bob")?.start()?;
    /// match Client::connect(server.local_addr(), "mallory")?.start() {
    ///     Err(Error::Refused { code: RefusalCode::NotAllowed, text, .. }) => {
    ///         assert_eq!(text, "you are not on the list");
    ///     }
    ///     other => panic!("{other:?}"),
    /// }
    /// # Ok::<(), Error>(())
    /// ```
    pub fn admit<N>(self, admit: N) -> Builder<Listen, Closures<C, M, D, N>>
    where
        N: FnMut(&Arrival<'_>) -> Result<(), Refusal>,
    {
        let Closures { connected, message, disconnected, .. } = self.handler;
        let handler = Closures { connected, message, disconnected, admit };
        Builder { target: self.target, handler, config: self.config }
    }
}

#[cfg(feature = "tls")]
impl<H> Builder<Listen, H> {
    /// Speaks TLS 1.3, with this server's certificate, and with nobody who does not; see [`tls`](crate::tls).
    pub fn tls(mut self, tls: crate::tls::TlsServer) -> Builder<Listen, H> {
        self.target.tls = Some(tls);
        self
    }
}

impl<T> Builder<Listen, T> {
    /// Starts as many engines as the configuration says, each on a thread of its own and with a handler
    /// of its own, which `make` makes; sessions are spread over them.
    ///
    /// # Errors
    ///
    /// As [`start`](Builder::start), but for the number of engines.
    ///
    /// ```
    /// use zerio::{Config, Context, Handler, Server};
    ///
    /// struct Echo(usize);
    /// impl Handler for Echo {
    ///     fn on_message(&mut self, peer: &mut Context<'_>, message: &[u8]) {
    ///         let _ = peer.send(message);
    ///     }
    /// }
    ///
    /// let mut config = Config::default();
    /// config.engines = 2;
    /// let server = Server::bind("127.0.0.1:0")?.config(config).start_each(Echo)?;
    /// # server.stop();
    /// # Ok::<(), zerio::Error>(())
    /// ```
    pub fn start_each<H>(self, make: impl FnMut(usize) -> H) -> Result<Server, Error>
    where
        H: Handler + Send + 'static,
    {
        self.config.validate()?;
        let handlers = (0..self.config.engines).map(make).collect();
        launch(self.target, &self.config, handlers)
    }
}

fn one_engine(config: &Config, instead: &str) -> Result<(), Error> {
    config.validate()?;
    if config.engines == 1 {
        return Ok(());
    }
    let why = "there is one handler, and each engine needs one of its own";
    Err(ConfigError::new("engines", config.engines, why, format!("{instead}, would do")).into())
}

fn launch<H>(listen: Listen, config: &Config, handlers: Vec<H>) -> Result<Server, Error>
where
    H: Handler + Send + 'static,
{
    let address = listen.address;
    let (plans, directory) = plans(listen, config, None)?;
    let running = Running::start("zerio-server", plans, handlers, None)?;
    Ok(Server { running, sender: Sender::new(directory), address })
}

/// What each engine of a server is made from; the first has the listening socket.
pub(crate) fn plans(
    listen: Listen,
    config: &Config,
    mut sole: Option<Sole>,
) -> Result<(Vec<Plan>, Arc<Directory>), Error> {
    #[cfg(feature = "tls")]
    if let Some(tls) = &listen.tls {
        tls.check()?;
    }
    #[cfg(feature = "tls")]
    let tls = listen.tls.map(crate::tls::Side::Server);
    #[cfg(feature = "tls")]
    let config = &config.clone().with_tls(tls.is_some())?;
    config.validate()?;
    let (listener, address) = (listen.socket, listen.address);
    socket::listen(&listener, &options(config)).map_err(|why| match why.kind() {
        // Two sockets may be bound to one address; the second one to listen hears that it is taken.
        std::io::ErrorKind::AddrInUse => Error::Bind { address, why },
        _ => refused_option(config, why),
    })?;
    let memories: Vec<_> = (0..config.engines).map(|_| thread::memory(config)).collect::<Result<_, _>>()?;
    let engines = memories.iter().map(|memory| memory.0.clone()).collect();
    let directory = Arc::new(Directory::new(engines, config));
    let inboxes = inboxes(config.engines, config.slots_per_engine());
    let mut lines = thread::counters_file(config, true, address)?.into_iter();
    let mut listener = Some(listener);
    let plan = |(engine, memory)| {
        let role = ServerRole { directory: directory.clone(), engine, same_id: config.same_id };
        let (listener, sole) = (listener.take(), sole.take());
        let (inboxes, lines) = (inboxes.clone(), lines.next().flatten());
        Plan {
            config: config.clone(),
            role: Role::Server(role),
            memory,
            inboxes,
            lines,
            listener,
            sole,
            #[cfg(feature = "tls")]
            tls: tls.clone(),
        }
    };
    let plans = memories.into_iter().enumerate().map(plan).collect();
    Ok((plans, directory))
}

/// A socket option that the system did not take; some of them users name.
pub(crate) fn refused_option(config: &Config, why: std::io::Error) -> Error {
    let refused = why.get_ref().and_then(|inner| inner.downcast_ref::<Refused>());
    let Some(Refused { setting, why: said }) = refused else {
        return Error::System { what: "a socket, or one of its options", why };
    };
    let why = format!("the system refused it: {said}");
    match config.busy_poll {
        Some(time) if *setting == "busy_poll" => {
            let instead =
                "on Linux no more than net.core.busy_read, or CAP_NET_ADMIN, and None elsewhere, would do";
            ConfigError::new(setting, time, why, instead).into()
        }
        _ => {
            let name = config.congestion.as_deref().unwrap_or_default();
            let instead = match said.kind() {
                std::io::ErrorKind::PermissionDenied => {
                    "one of net.ipv4.tcp_allowed_congestion_control, or CAP_NET_ADMIN, would do"
                }
                _ => "one of net.ipv4.tcp_available_congestion_control would do",
            };
            ConfigError::new(setting, name, why, instead).into()
        }
    }
}

/// A server that you drive: no thread runs, and everything happens inside [`poll`](PolledServer::poll),
/// handlers included. Nobody else sends, so one way it is the fastest; it stays on the thread that made it. Dropping
/// it stops it, as [`stop`](PolledServer::stop) does.
///
/// ```
/// use zerio::{Client, Server};
///
/// let mut server = Server::bind("127.0.0.1:0")?
///     .on_message(|peer, message| {
///         let _ = peer.send(message);
///     })
///     .start_polled()?;
/// let mut client = Client::connect(server.local_addr(), "me")?.start_polled()?;
/// while !client.is_connected() {
///     server.poll()?;
///     client.poll()?;
/// }
/// client.try_send(b"oui").unwrap();
/// # Ok::<(), zerio::Error>(())
/// ```
pub struct PolledServer<H: Handler> {
    polled: Polled<H>,
    directory: Arc<Directory>,
    address: SocketAddr,
    /// Some drivers are bound to the thread that made them.
    here: PhantomData<*const ()>,
}

impl<H: Handler> PolledServer<H> {
    /// One turn: takes what has come, calls the handler, and hands to the kernel what was accepted. It does
    /// not wait. Gives how much work it did, 0 for none.
    ///
    /// # Errors
    ///
    /// [`Error::Engine`] where the driver has failed, or a handler has panicked in an earlier call. The
    /// sessions have ended.
    #[inline]
    pub fn poll(&mut self) -> Result<usize, Error> {
        self.polled.poll()
    }

    /// The address that it listens on.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Accepts a message for a peer, or tells at once why not. It goes to the kernel at the next `poll`.
    ///
    /// # Errors
    ///
    /// Any [`SendError`] but `TimedOut`. Nothing was sent.
    #[inline]
    pub fn try_send(&mut self, id: &str, message: &[u8]) -> Result<(), SendError> {
        self.polled.core().try_send_to(id, message)
    }

    /// A place in a peer's ring for a message of `len` bytes, or at once the reason why there is none.
    ///
    /// # Errors
    ///
    /// Any [`SendError`] but `TimedOut`.
    pub fn try_claim(&mut self, id: &str, len: usize) -> Result<Claim<'_>, SendError> {
        self.polled.core().try_claim_to(id, len)
    }

    /// How many peers are connected.
    pub fn connected(&self) -> usize {
        self.directory.len()
    }

    /// The ids of all who are connected, in no order. It allocates; `on_connected` and `on_disconnected` tell
    /// without.
    pub fn peers(&self) -> Vec<String> {
        self.directory.all().iter().map(|(peer, _)| peer.as_str().to_owned()).collect()
    }

    /// Ends a peer's session, as [`Peer::disconnect`] does, during the next `poll`s.
    ///
    /// # Errors
    ///
    /// [`SendError::UnknownPeer`] where nobody with that id is connected; [`SendError::Closed`] where its
    /// session is just ending.
    pub fn disconnect(&mut self, id: &str) -> Result<(), SendError> {
        self.polled.core().request(id, request::DISCONNECT, 0)
    }

    /// Reads no more from a peer, from the next `poll` on: TCP pushes back on it, and on no other.
    ///
    /// # Errors
    ///
    /// As [`disconnect`](PolledServer::disconnect).
    pub fn pause(&mut self, id: &str) -> Result<(), SendError> {
        self.polled.core().request(id, request::PAUSE, 0)
    }

    /// Reads from a peer again.
    ///
    /// # Errors
    ///
    /// As [`disconnect`](PolledServer::disconnect).
    pub fn resume(&mut self, id: &str) -> Result<(), SendError> {
        self.polled.core().request(id, 0, request::PAUSE)
    }

    /// What a peer's session has done so far.
    ///
    /// # Errors
    ///
    /// [`SendError::UnknownPeer`] where nobody with that id is connected.
    pub fn session_counters(&mut self, id: &str) -> Result<SessionCounters, SendError> {
        self.polled.core().session_counters(id)
    }

    /// A handle that sends by peer id, to clone and give to other threads. From the first one on, this
    /// server's own sends reckon with other threads and are a little slower. Its `send` must not be
    /// waited for on this thread, which alone makes room.
    pub fn sender(&mut self) -> Sender {
        self.polled.core().share();
        Sender::new(self.directory.clone())
    }

    /// The handler.
    pub fn handler(&mut self) -> &mut H {
        self.polled.handler()
    }

    /// What it has done so far.
    pub fn counters(&self) -> Counters {
        self.polled.counters()
    }

    /// Which driver it has, and why not a better one.
    pub fn driver(&self) -> &DriverInfo {
        self.polled.info()
    }

    /// Stops it, as [`Server::stop`] does. Clients that the same thread polls can't answer meanwhile: then it
    /// takes the whole `drain_timeout`.
    pub fn stop(mut self) -> Report {
        self.polled.stop()
    }
}

impl<H: Handler> fmt::Debug for PolledServer<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PolledServer").field("address", &self.address).finish_non_exhaustive()
    }
}
