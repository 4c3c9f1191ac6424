//! What a user of a client holds; no logic of its own.
#![forbid(unsafe_code)]

use std::any::Any;
use std::fmt;
use std::marker::PhantomData;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use crate::builder::Builder;
use crate::config::{Config, ConfigError};
use crate::counters::{Counters, SessionCounters};
use crate::driver::SlotId;
use crate::driver::socket;
use crate::engine::{ClientRole, Failure, Role, options};
use crate::error::{Error, Reason, SendError};
use crate::handler::Handler;
use crate::polled::{self, Polled};
use crate::report::Report;
use crate::send::Sole;
use crate::send::claim::Claim;
use crate::server::refused_option;
use crate::session::inbox::inboxes;
use crate::session::peer::{Peer, make_request};
use crate::session::request;
use crate::thread::{self, DriverInfo, Plan, Running};
use crate::wire::PeerId;

/// How long a host name may take to be resolved.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);

/// A client that runs on a thread of its own. Dropping it stops it, as [`stop`](Client::stop) does.
///
/// ```
/// use zerio::{Client, Server};
///
/// let server = Server::bind("127.0.0.1:0")?.start()?;
/// let client = Client::connect(server.local_addr(), "client-1")?
///     .on_message(|_, message| println!("{} bytes", message.len()))
///     .start()?;
/// client.send(b"oui").unwrap();
/// println!("{}", client.stop());
/// # Ok::<(), zerio::Error>(())
/// ```
pub struct Client {
    running: Running,
    peer: Peer,
}

/// Where a client is to connect, and as whom.
#[derive(Debug)]
pub struct Connect {
    /// One at least.
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) peer: PeerId,
    #[cfg(feature = "tls")]
    tls: Option<crate::tls::TlsClient>,
}

/// An address for which nobody need be asked, and so no thread be started that can wait for an answer.
fn in_figures<A: Any>(address: &A) -> Option<SocketAddr> {
    let address: &dyn Any = address;
    if let Some(address) = address.downcast_ref() {
        return Some(*address);
    }
    let text = address.downcast_ref::<&str>().copied();
    text.or_else(|| address.downcast_ref::<String>().map(String::as_str))?.parse().ok()
}

impl Client {
    /// A client of the server at `address`, under a peer id: 1 to 255 bytes of UTF-8 without control
    /// characters. A host name is resolved here, on a thread that lives for it, which may take up to 5 s. Of
    /// several addresses the first that takes the connection is the server's: they are tried in their order,
    /// each for its share of the `handshake_timeout` that is left.
    ///
    /// # Errors
    ///
    /// [`Error::BadPeerId`]; [`Error::Resolve`] where the address is none; [`Error::System`] where there is no thread to
    /// ask for a name on.
    pub fn connect<A>(address: A, id: &str) -> Result<Builder<Connect>, Error>
    where
        A: ToSocketAddrs + fmt::Debug + Send + 'static,
    {
        let peer = PeerId::new(id).map_err(|why| Error::BadPeerId { id: id.to_owned(), why })?;
        let text = format!("{address:?}");
        let resolved = match in_figures(&address) {
            Some(address) => Ok(vec![address]),
            None => thread::within(RESOLVE_TIMEOUT, move || {
                address.to_socket_addrs().map(|addresses| addresses.collect::<Vec<_>>())
            })?,
        };
        let why = match resolved {
            Ok(addresses) if !addresses.is_empty() => {
                return Ok(Builder::new(Connect {
                    addresses,
                    peer,
                    #[cfg(feature = "tls")]
                    tls: None,
                }));
            }
            Ok(_) => std::io::ErrorKind::NotFound.into(),
            Err(why) => why,
        };
        Err(Error::Resolve { address: text, why })
    }

    /// Its session with the server: a handle to clone and give to other threads.
    pub fn peer(&self) -> Peer {
        self.peer.clone()
    }

    /// The server's address.
    pub fn address(&self) -> SocketAddr {
        self.peer.address()
    }

    /// Sends a message to the server; waits for room, up to the configured `send_timeout`. Inside a handler
    /// it does not wait.
    ///
    /// # Errors
    ///
    /// Any [`SendError`] but `UnknownPeer`. Nothing was sent.
    #[inline]
    pub fn send(&self, message: &[u8]) -> Result<(), SendError> {
        self.peer.send(message)
    }

    /// Sends a message to the server, or tells at once why not.
    ///
    /// # Errors
    ///
    /// Any [`SendError`] but `UnknownPeer` and `TimedOut`. Nothing was sent.
    #[inline]
    pub fn try_send(&self, message: &[u8]) -> Result<(), SendError> {
        self.peer.try_send(message)
    }

    /// Sends a message to the server; waits for room, up to `timeout`. Inside a handler it does not wait.
    ///
    /// # Errors
    ///
    /// Any [`SendError`] but `UnknownPeer`. Nothing was sent.
    pub fn send_timeout(&self, message: &[u8], timeout: Duration) -> Result<(), SendError> {
        self.peer.send_timeout(message, timeout)
    }

    /// A place in the ring for a message of `len` bytes, to fill and commit; waits for room, up to the
    /// configured `send_timeout`.
    ///
    /// # Errors
    ///
    /// Any [`SendError`] but `UnknownPeer`.
    pub fn claim(&self, len: usize) -> Result<Claim<'_>, SendError> {
        self.peer.claim(len)
    }

    /// A place in the ring for a message of `len` bytes, or at once the reason why there is none.
    ///
    /// # Errors
    ///
    /// Any [`SendError`] but `UnknownPeer` and `TimedOut`.
    pub fn try_claim(&self, len: usize) -> Result<Claim<'_>, SendError> {
        self.peer.try_claim(len)
    }

    /// Reads no more, from the next message on, until [`resume`](Client::resume).
    ///
    /// # Errors
    ///
    /// [`SendError::Closed`] where the session has ended.
    pub fn pause(&self) -> Result<(), SendError> {
        self.peer.pause()
    }

    /// Reads again.
    ///
    /// # Errors
    ///
    /// [`SendError::Closed`] where the session has ended.
    pub fn resume(&self) -> Result<(), SendError> {
        self.peer.resume()
    }

    /// Whether its engine runs, which it does until its session has ended and the handler has heard of that.
    pub fn is_connected(&self) -> bool {
        self.running.is_running()
    }

    /// What it has done so far.
    pub fn counters(&self) -> Counters {
        self.running.engines.iter().fold(Counters::default(), |mut sum, engine| {
            sum.add(&engine.counters());
            sum
        })
    }

    /// What its session has done so far.
    pub fn session_counters(&self) -> SessionCounters {
        // Nobody else ever has its place.
        self.peer.counters().unwrap_or_default()
    }

    /// Which driver it has, and why not a better one.
    pub fn driver(&self) -> &DriverInfo {
        &self.running.info
    }

    /// Hands what was accepted to the kernel, within `drain_timeout`, closes the session, and tells what
    /// was left. Messages that still come meanwhile are handed to the handler. From inside a handler it
    /// can't wait, and has nothing to tell: [`Report::finished`] says so.
    pub fn stop(mut self) -> Report {
        let ended = self.running.stop();
        Report::new(ended, self.running.engines.len())
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("peer", &self.peer).finish_non_exhaustive()
    }
}

impl<H: Handler> Builder<Connect, H> {
    /// Connects, on an engine with a thread of its own, and returns when the handshake is done and the handler's
    /// `on_connected` has returned, however long that takes.
    ///
    /// # Errors
    ///
    /// [`Error::Connect`], [`Error::Refused`], [`Error::NotZerio`] or [`Error::TimedOut`] (after
    /// `handshake_timeout`) where no session came about; [`Error::Engine`] where the handler panicked
    /// meanwhile; [`Error::Config`], [`Error::Driver`] and
    /// [`Error::System`] as for a server.
    pub fn start(self) -> Result<Client, Error>
    where
        H: Send + 'static,
    {
        let Builder { target, handler, config } = self;
        let plan = plan(&target, &config, None)?;
        let (sender, outcome) = sync_channel(1);
        let mut running = Running::start("zerio-client", vec![plan], vec![handler], Some(sender))?;
        match thread::await_outcome(&outcome) {
            Some((address, Ok(id))) => {
                let shared = running.engines[0].clone();
                Ok(Client { peer: Peer::new(shared, id, target.peer, address), running })
            }
            Some((address, Err(failure))) => Err(explain(failure, address, &config)),
            // The engine ended before it could tell: its handler panicked, or its driver failed.
            None => Err(match running.stop().into_iter().find_map(|ended| ended.failure) {
                Some(failure) => Error::Engine(failure),
                None => explain(Failure::TimedOut, target.addresses[0], &config),
            }),
        }
    }

    /// Makes a client whose engine you drive: no thread runs, everything happens inside
    /// [`poll`](PolledClient::poll). It returns at once; the session begins during some later `poll`.
    ///
    /// # Errors
    ///
    /// [`Error::Config`], [`Error::Driver`] and [`Error::System`] as for a server.
    pub fn start_polled(self) -> Result<PolledClient<H>, Error> {
        let Builder { target, handler, config } = self;
        let plan = plan(&target, &config, Some(Sole::new()))?;
        let polled = Polled::new(plan, handler)?;
        Ok(PolledClient { polled, target, config, session: None, here: PhantomData })
    }
}

#[cfg(feature = "tls")]
impl<H> Builder<Connect, H> {
    /// Speaks TLS 1.3, with servers that this trusts, and with nobody else; see [`tls`](crate::tls).
    pub fn tls(mut self, tls: crate::tls::TlsClient) -> Builder<Connect, H> {
        self.target.tls = Some(tls);
        self
    }
}

pub(crate) fn plan(target: &Connect, config: &Config, sole: Option<Sole>) -> Result<Plan, Error> {
    let config = config.clone().for_client();
    #[cfg(feature = "tls")]
    let config = config.with_tls(target.tls.is_some())?;
    config.validate()?;
    if config.engines != 1 {
        let why = "a client has one session, and so one engine";
        return Err(ConfigError::new("engines", config.engines, why, "1 would do").into());
    }
    if sole.is_some() {
        polled::check(&config)?;
    }
    // Tells now what the engine could only find out later.
    let options = options(&config);
    let made = target.addresses.iter().map(|&address| socket::for_connecting(address, &options));
    made.reduce(Result::or).transpose().map_err(|why| refused_option(&config, why))?;
    let role = ClientRole::new(target.peer, target.addresses.clone());
    let memory = thread::memory(&config)?;
    let inboxes = inboxes(1, 0);
    let lines = thread::counters_file(&config, false, target.addresses[0])?.pop().flatten();
    Ok(Plan {
        config,
        role: Role::Client(role),
        memory,
        inboxes,
        lines,
        listener: None,
        sole,
        #[cfg(feature = "tls")]
        tls: target.tls.clone().map(crate::tls::Side::Client),
    })
}

pub(crate) fn explain(failure: Failure, address: SocketAddr, config: &Config) -> Error {
    match failure {
        Failure::Connect(why) => Error::Connect { address, why },
        Failure::TimedOut => {
            Error::TimedOut { address: address.to_string(), after: config.handshake_timeout }
        }
        Failure::Refused(code, text) => Error::Refused { address, code, text },
        Failure::Ended(Reason::Tls(what)) => Error::Tls { address, what },
        Failure::Ended(what) => Error::NotZerio { address, what },
    }
}

/// A client that you drive: no thread runs, and everything happens inside [`poll`](PolledClient::poll),
/// handlers included. Nobody else sends, so one way it is the fastest; it stays on the thread that made it. Dropping
/// it stops it, as [`stop`](PolledClient::stop) does.
pub struct PolledClient<H: Handler> {
    polled: Polled<H>,
    target: Connect,
    config: Config,
    session: Option<(SlotId, SocketAddr)>,
    /// Some drivers are bound to the thread that made them.
    here: PhantomData<*const ()>,
}

impl<H: Handler> PolledClient<H> {
    /// One turn: takes what has come, calls the handler, and hands to the kernel what was accepted. It does
    /// not wait. Gives how much work it did, 0 for none.
    ///
    /// # Errors
    ///
    /// Once, if no session came about: as [`start`](Builder::start) says.
    /// [`Error::Engine`] where the driver has failed, or a handler has panicked in an earlier call.
    #[inline]
    pub fn poll(&mut self) -> Result<usize, Error> {
        let work = self.polled.poll()?;
        if self.session.is_none() {
            self.look()?;
        }
        Ok(work)
    }

    #[cold]
    fn look(&mut self) -> Result<(), Error> {
        match self.polled.core().take_outcome() {
            None => Ok(()),
            Some((address, Ok(id))) => {
                self.session = Some((id, address));
                Ok(())
            }
            Some((address, Err(failure))) => Err(explain(failure, address, &self.config)),
        }
    }

    /// Whether its session has begun and has not ended.
    pub fn is_connected(&self) -> bool {
        self.session.is_some() && !self.polled.is_finished()
    }

    /// Accepts a message, or tells at once why not. It goes to the kernel at the next `poll`.
    ///
    /// # Errors
    ///
    /// `Full`, `TooLarge`, or `Closed`, also before the session has begun. Nothing was sent.
    #[inline]
    pub fn try_send(&mut self, message: &[u8]) -> Result<(), SendError> {
        let Some((id, _)) = self.session else { return Err(SendError::Closed) };
        self.polled.core().try_send(id.index as usize, message)
    }

    /// A place in the ring for a message of `len` bytes, or at once the reason why there is none.
    ///
    /// # Errors
    ///
    /// `Full`, `TooLarge`, or `Closed`, also before the session has begun.
    pub fn try_claim(&mut self, len: usize) -> Result<Claim<'_>, SendError> {
        let Some((id, _)) = self.session else { return Err(SendError::Closed) };
        self.polled.core().try_claim(id.index as usize, len)
    }

    /// Reads no more, from the next `poll` on, until [`resume`](PolledClient::resume).
    ///
    /// # Errors
    ///
    /// [`SendError::Closed`] where the session has ended or has not begun.
    pub fn pause(&mut self) -> Result<(), SendError> {
        self.request(request::PAUSE, 0)
    }

    /// Reads again.
    ///
    /// # Errors
    ///
    /// [`SendError::Closed`] where the session has ended or has not begun.
    pub fn resume(&mut self) -> Result<(), SendError> {
        self.request(0, request::PAUSE)
    }

    fn request(&self, set: u32, clear: u32) -> Result<(), SendError> {
        let Some((id, _)) = self.session else { return Err(SendError::Closed) };
        make_request(&self.polled.shared(), id, set, clear)
    }

    /// The server's address, once the session has begun.
    pub fn address(&self) -> Option<SocketAddr> {
        self.session.map(|(_, address)| address)
    }

    /// Its session with the server: a handle to clone and give to other threads; `None` before it has
    /// begun. From the first one on, this client's own sends reckon with other threads and are a little
    /// slower. Its `send` must not be waited for on this thread, which alone makes room.
    pub fn peer(&mut self) -> Option<Peer> {
        let (id, address) = self.session?;
        self.polled.core().share();
        Some(Peer::new(self.polled.shared(), id, self.target.peer, address))
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

    /// What its session has done so far; zeros before it has begun.
    pub fn session_counters(&self) -> SessionCounters {
        let of = |(id, _): (SlotId, _)| {
            self.polled.shared().slots[id.index as usize].session_counters(id.generation)
        };
        self.session.and_then(of).unwrap_or_default()
    }

    /// Stops it, as [`Client::stop`] does. A server that the same thread polls can't answer meanwhile: then it
    /// takes the whole `drain_timeout`.
    pub fn stop(mut self) -> Report {
        self.polled.stop()
    }
}

impl<H: Handler> fmt::Debug for PolledClient<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PolledClient").field("target", &self.target).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_in_figures_needs_nobody_to_ask() {
        let address = SocketAddr::from(([127, 0, 0, 1], 9));
        assert_eq!(in_figures(&address), Some(address));
        assert_eq!(in_figures(&"127.0.0.1:9"), Some(address));
        assert_eq!(in_figures(&"127.0.0.1:9".to_owned()), Some(address));
        assert_eq!(in_figures(&"[::1]:9"), Some("[::1]:9".parse().unwrap()));
        for name in ["localhost:9", "127.0.0.1", "127.0.0.1:65536", "127.1:9"] {
            assert_eq!(in_figures(&name), None, "{name}");
        }
        assert_eq!(in_figures(&("127.0.0.1", 9)), None, "of other types only the system knows");
    }
}
