//! A world of servers and clients on a simulated network: everything that happens in it, and everything that
//! goes wrong, is given by a seed. With the cargo feature `sim`.
//!
//! Your handlers run unchanged; threads, sockets and clocks are simulated. A second takes as long as what happens
//! in it, one thread does everything, and the same seed gives the same run, so a failure can be repeated and
//! looked at.
//!
//! ```
//! use std::time::Duration;
//! use zerio::sim::World;
//! use zerio::{Config, Context, Handler};
//!
//! struct Echo;
//! impl Handler for Echo {
//!     fn on_message(&mut self, peer: &mut Context<'_>, message: &[u8]) {
//!         let _ = peer.send(message);
//!     }
//! }
//!
//! struct Count(usize);
//! impl Handler for Count {
//!     fn on_message(&mut self, _: &mut Context<'_>, _: &[u8]) {
//!         self.0 += 1;
//!     }
//! }
//!
//! # fn main() -> Result<(), zerio::Error> {
//! let mut world = World::new(42); // a network on which 42 decides what goes wrong
//! let server = world.server(Config::default(), Echo)?;
//! let client = world.client(server.address(), "me", Config::default(), Count(0))?;
//! world.run_for(Duration::from_secs(1));
//! let sent = client.try_send(b"oui").is_ok(); // it may be that no session came about
//! world.run_for(Duration::from_secs(1));
//! assert!(client.handler().0 <= usize::from(sent));
//! # Ok(()) }
//! ```
//!
//! In a world nothing waits: [`Peer::send`] is [`Peer::try_send`], and a full ring is
//! [`SendError::Full`](crate::SendError::Full) at once.
//!
//! [`Peer::send`]: crate::Peer::send
//! [`Peer::try_send`]: crate::Peer::try_send
#![forbid(unsafe_code)]

use std::cell::RefCell;
use std::fmt;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{Config, ConfigError};
use crate::driver::sim::{Happened, Net, Random, Sim, Socket};
use crate::engine::{ClientRole, Engine, Role, ServerRole};
use crate::error::Error;
use crate::handler::Handler;
use crate::recv::buffer::Buffer;
use crate::region::Region;
use crate::send::Sole;
use crate::session::Shared;
use crate::session::directory::Directory;
use crate::session::inbox::inboxes;
use crate::time::Clock;
#[cfg(feature = "tls")]
use crate::tls::{Side, TlsClient, TlsServer};
use crate::wait::InHandler;
use crate::wire::PeerId;

mod ledger;
mod member;
mod party;
mod raw;
mod reach;
mod script;
#[cfg(feature = "tls")]
mod secure;
mod storm;
#[cfg(test)]
mod tests;
mod witness;

pub use crate::driver::sim::{Faults, allocated};
pub use party::{Client, Server};
pub use reach::Reach;
#[cfg(feature = "tls")]
pub use secure::storm_under_tls;
#[doc(hidden)]
pub use storm::Again;
pub use storm::{Failure, Figures, storm};

use member::{Member, Pace};

/// Servers and clients on a simulated network, and its time.
pub struct World {
    net: Net,
    members: Vec<Member>,
    random: Random,
    pub(self) steps: u64,
    trace: u64,
    /// Who has turned in the last step.
    turned: Option<usize>,
    /// What whoever comes speaks TLS with.
    #[cfg(feature = "tls")]
    tls: Option<(TlsServer, TlsClient)>,
    /// After how many records a key is replaced, where that is to be seen.
    #[cfg(feature = "tls")]
    key_life: Option<u64>,
    /// In a world nothing waits.
    _nothing_waits: InHandler,
}

pub(crate) type Shareable<H> = Rc<RefCell<Engine<Sim, H>>>;

/// An alarm's token that is no member's.
const FREE_TOKEN: u64 = 1 << 63;

impl World {
    /// A world with nobody in it. The seed decides what goes wrong in it, and when.
    pub fn new(seed: u64) -> World {
        let mut random = Random::new(seed);
        let faults = Faults::draw(&mut random);
        World::with(random, faults)
    }

    fn with(mut random: Random, faults: Faults) -> World {
        World {
            net: Net::new(random.next(), faults, true),
            members: Vec::new(),
            random,
            steps: 0,
            trace: 0,
            turned: None,
            #[cfg(feature = "tls")]
            tls: None,
            #[cfg(feature = "tls")]
            key_life: None,
            _nothing_waits: InHandler::enter(),
        }
    }

    /// What goes wrong from now on, in place of what the seed has drawn.
    pub fn set_faults(&mut self, faults: Faults) {
        self.net.set_faults(faults);
    }

    /// What goes wrong at present.
    pub fn faults(&self) -> Faults {
        self.net.with_faults(|faults, _| faults.clone())
    }

    /// For peers that know nothing of zerio.
    #[cfg(any(test, feature = "fuzz"))]
    pub(crate) fn net(&self) -> &Net {
        &self.net
    }

    /// How old it is.
    pub fn now(&self) -> Duration {
        Duration::from_nanos(self.net.now())
    }

    /// A number that is given by everything that has happened so far: two runs with the same one were the same.
    pub fn trace(&self) -> u64 {
        self.trace
    }

    /// A server. What its configuration says of engines, threads and drivers plays no role.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] where the configuration can't work; [`Error::System`] where there is no memory, or
    /// [listening fails](Faults::listen_errors).
    pub fn server<H: Handler + 'static>(&mut self, config: Config, handler: H) -> Result<Server<H>, Error> {
        let address = self.net.free_address();
        let config = Config { engines: 1, cores: Vec::new(), ..config };
        let (mut engines, directory) = self.add_server(&config, address, vec![handler], false)?;
        Ok(Server::new(engines.swap_remove(0), directory, address))
    }

    /// A client of the server at that address. It begins to connect, and it may be that no session comes about.
    ///
    /// # Errors
    ///
    /// [`Error::BadPeerId`]; [`Error::Config`] and [`Error::System`] as for a server.
    pub fn client<H>(
        &mut self,
        address: SocketAddr,
        id: &str,
        config: Config,
        handler: H,
    ) -> Result<Client<H>, Error>
    where
        H: Handler + 'static,
    {
        let peer = PeerId::new(id).map_err(|why| Error::BadPeerId { id: id.to_owned(), why })?;
        let config = Config { engines: 1, cores: Vec::new(), ..config };
        let engine = self.add_client(&config, address, peer, handler, false)?;
        Ok(Client::new(engine, peer, address))
    }

    /// Lets the next thing happen; false where nothing is to come.
    pub fn step(&mut self) -> bool {
        self.advance().is_some()
    }

    /// Lets so much time go by.
    pub fn run_for(&mut self, time: Duration) {
        self.run_until(time, || false);
    }

    /// Lets time go by until `done`, but no more than `bound`; whether it was done.
    pub fn run_until(&mut self, bound: Duration, mut done: impl FnMut() -> bool) -> bool {
        let end = self.net.now().saturating_add(u64::try_from(bound.as_nanos()).unwrap_or(u64::MAX));
        while !done() {
            self.rouse();
            if self.net.next_at().is_none_or(|at| at > end) {
                self.net.rest_until(end);
                return done();
            }
            self.step();
        }
        true
    }

    /// Lets the next thing happen; gives the token of an alarm that is no member's.
    fn advance(&mut self) -> Option<Option<u64>> {
        self.rouse();
        let happened = self.net.next()?;
        self.steps += 1;
        let mut work = 0;
        self.turned = None;
        let free = match happened {
            Happened::Traffic => None,
            Happened::Alarm(token) if token & FREE_TOKEN != 0 => Some(token & !FREE_TOKEN),
            Happened::Alarm(token) => {
                let (index, epoch) = (token as u32 as usize, token >> 32);
                self.turned = Some(index);
                work = self.members[index].go_on(epoch, index, &self.net, &mut self.random) as u64;
                None
            }
        };
        self.rouse();
        self.trace = (self.trace ^ self.net.now() ^ (work << 48)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.trace ^= self.trace >> 29;
        Some(free)
    }

    /// Engines that sleep and have something to look at wake up soon.
    fn rouse(&mut self) {
        while let Some(index) = self.net.take_roused() {
            self.members[index].rouse(index, &self.net);
        }
    }

    /// A server with an engine for each handler.
    fn add_server<H: Handler + 'static>(
        &mut self,
        config: &Config,
        address: SocketAddr,
        handlers: Vec<H>,
        sole: bool,
    ) -> Result<(Vec<Shareable<H>>, Arc<Directory>), Error> {
        #[cfg(feature = "tls")]
        let config = &config.clone().with_tls(self.tls.is_some())?;
        config.validate()?;
        if config.engines != handlers.len() {
            let why = "each engine has a handler";
            return Err(ConfigError::new("engines", config.engines, why, "as many would do").into());
        }
        let memories: Vec<_> = handlers.iter().map(|_| self.memory(config)).collect::<Result<_, _>>()?;
        let shared = memories.iter().map(|memory| memory.0.clone()).collect();
        let directory = Arc::new(Directory::new(shared, config));
        let inboxes = inboxes(config.engines, config.slots_per_engine());
        let mut listener = Some(Socket::listening(&self.net, address, false));
        let mut engines = Vec::new();
        for (engine, (handler, memory)) in handlers.into_iter().zip(memories).enumerate() {
            let role = ServerRole { directory: directory.clone(), engine, same_id: config.same_id };
            let driver = Sim::on(&self.net, memory.1.clone(), memory.0.slots.len());
            let token = sole.then(Sole::new);
            let mut made =
                Engine::new(config, driver, handler, Role::Server(role), memory, inboxes.clone(), token);
            #[cfg(feature = "tls")]
            if let Some((tls, _)) = &self.tls {
                made.secure(Side::Server(tls.clone()));
                self.key_life.into_iter().for_each(|records| made.renew_keys_after(records));
            }
            if let Some(listener) = listener.take()
                && let Err(why) = made.listen(listener)
            {
                // Its driver has had its number.
                self.members.push(Member::absent());
                return Err(Error::System { what: "to watch the listening socket", why });
            }
            engines.push(self.join(made, sole));
        }
        Ok((engines, directory))
    }

    fn add_client<H: Handler + 'static>(
        &mut self,
        config: &Config,
        address: SocketAddr,
        hello: PeerId,
        handler: H,
        sole: bool,
    ) -> Result<Shareable<H>, Error> {
        let config = Config { engines: 1, cores: Vec::new(), ..config.clone().for_client() };
        #[cfg(feature = "tls")]
        let config = config.with_tls(self.tls.is_some())?;
        config.validate()?;
        let role = Role::Client(ClientRole::new(hello, vec![address]));
        let memory = self.memory(&config)?;
        let driver = Sim::on(&self.net, memory.1.clone(), memory.0.slots.len());
        let token = sole.then(Sole::new);
        let mut engine = Engine::new(&config, driver, handler, role, memory, inboxes(1, 0), token);
        #[cfg(feature = "tls")]
        if let Some((_, tls)) = &self.tls {
            engine.secure(Side::Client(tls.clone()));
            self.key_life.into_iter().for_each(|records| engine.renew_keys_after(records));
        }
        engine.connect(crate::time::Time::from_nanos(self.net.now()));
        Ok(self.join(engine, sole))
    }

    #[expect(clippy::type_complexity, reason = "what an engine is made from")]
    fn memory(&self, config: &Config) -> Result<(Arc<Shared>, Arc<Region>, Vec<Buffer>), Error> {
        let memory = Shared::new(config, Clock::Simulated(self.net.hand()));
        memory.map_err(|why| Error::System { what: "memory for rings and buffers", why })
    }

    /// An engine takes its first turn soon, and goes on from there.
    fn join<H: Handler + 'static>(&mut self, mut engine: Engine<Sim, H>, sole: bool) -> Shareable<H> {
        let index = engine.driver().number();
        assert_eq!(index, self.members.len(), "whoever has a driver is a member");
        let engine = Rc::new(RefCell::new(engine));
        let mut member = Member::new(engine.clone(), Pace::draw(sole, &mut self.random));
        member.turn_after(0, index, &self.net);
        self.members.push(member);
        engine
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World").field("now", &self.now()).field("steps", &self.steps).finish_non_exhaustive()
    }
}
