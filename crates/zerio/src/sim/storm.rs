//! A storm: servers, clients and hostile peers that do all they may, in an order and with faults that a seed
//! draws, and an oracle that checks each step. First chaos, then a calm in which everything that was accepted must
//! arrive, then the end, after which nothing may be left.
#![forbid(unsafe_code)]

use std::any::Any;
use std::cell::RefCell;
use std::fmt;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::ledger::{Ledger, Limits, Rings};
use super::raw::Raw;
use super::reach::Reach;
use super::witness::{Habits, Witness};
use super::{FREE_TOKEN, Shareable, World};
use crate::config::{Config, SameId};
use crate::driver::SlotId;
use crate::driver::sim::{End, Faults, Random, take_allocations};
use crate::error::Error;
use crate::session::directory::Directory;
use crate::session::peer::Peer;
use crate::wire::PeerId;

mod acts;
mod drawn;
mod ending;

use acts::ACTIONS;
use drawn::draw_config;

/// What a storm did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Figures {
    /// Events that happened.
    pub steps: u64,
    /// Sessions that began, each side counted.
    pub sessions: u64,
    /// Messages that handlers heard, each checked.
    pub messages: u64,
    /// Messages that were told to be undelivered.
    pub undelivered: u64,
    /// A number that is given by everything that happened.
    pub trace: u64,
    /// What of all that can happen did.
    pub reach: Reach,
}

/// What went wrong in a storm, and how to see it again.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// How many steps of chaos were asked for.
    pub steps: u64,
    /// Whether it was one under TLS.
    pub tls: bool,
    /// The step at which it was found.
    pub step: u64,
    /// What was found.
    pub what: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let &Failure { seed, steps, tls, step, ref what } = self;
        write!(f, "seed {seed:#x}, step {step}: {what}\nagain with: {}", Again { seed, steps, tls })
    }
}

/// The command that lets the storm of a seed happen again.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "they are a storm's arguments")]
#[doc(hidden)]
pub struct Again {
    pub seed: u64,
    pub steps: u64,
    pub tls: bool,
}

impl fmt::Display for Again {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What an assertion of the library's has seen, only a build with assertions sees again.
        let tool = if cfg!(debug_assertions) { "cargo run -p zerio-cli -- sim" } else { "zerio sim" };
        write!(f, "{tool} --seed {:#x} --steps {}", self.seed, self.steps)?;
        f.write_str(if self.tls { " --tls" } else { "" })
    }
}

impl std::error::Error for Failure {}

/// Lets a storm of so many steps happen, and checks each of them.
///
/// # Errors
///
/// What was not as it must be: a fault of the library.
pub fn storm(seed: u64, steps: u64) -> Result<Figures, Failure> {
    storm_of(seed, steps, false, |_| {})
}

/// A storm, under TLS or not, in a world that is made ready for it.
pub(super) fn storm_of(
    seed: u64,
    steps: u64,
    tls: bool,
    prepare: impl FnOnce(&mut World),
) -> Result<Figures, Failure> {
    let mut storm = Storm::new(seed, tls);
    prepare(&mut storm.world);
    #[cfg(feature = "tls")]
    storm.speak_tls();
    happen(storm, seed, steps)
}

fn happen(mut storm: Storm, seed: u64, steps: u64) -> Result<Figures, Failure> {
    let tls = storm.tls;
    let outcome = catch_unwind(AssertUnwindSafe(|| storm.run(steps)));
    let step = storm.world.steps;
    match outcome {
        Ok(Ok(figures)) => Ok(figures),
        Ok(Err(what)) => Err(Failure { seed, steps, tls, step, what }),
        Err(panic) => {
            // What panicked in the middle of something may do so again while it is taken down.
            std::mem::forget(storm);
            Err(Failure { seed, steps, tls, step, what: format!("a panic: {}", message(panic.as_ref())) })
        }
    }
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "without a message".into())
}

pub(super) struct Storm {
    pub(super) world: World,
    tls: bool,
    pub(super) ledger: Rc<RefCell<Ledger>>,
    pub(super) random: Random,
    config: Config,
    habits: Habits,
    weights: [u64; ACTIONS.len()],
    /// The longest time between two actions, in nanoseconds.
    gap: u64,
    ids: u64,
    clients_max: usize,
    address: SocketAddr,
    server: Option<ServerSide>,
    servers: usize,
    clients: Vec<ClientSide>,
    raws: Vec<Raw>,
    paused: Rc<RefCell<Vec<(End, Peer)>>>,
    /// Where there are no handles.
    paused_ids: Vec<String>,
    /// Handles on sessions that may be over.
    handles: Vec<(End, Peer)>,
    /// An action's time came while another one was being done.
    acts: bool,
    /// Somebody keeps a claim.
    holds: bool,
    scratch: Vec<u8>,
}

struct ServerSide {
    engines: Vec<Shareable<Witness>>,
    nodes: Vec<usize>,
    directory: Arc<Directory>,
}

struct ClientSide {
    engine: Shareable<Witness>,
    node: usize,
    id: PeerId,
    end: End,
    session: Option<SlotId>,
    /// It has been told whether there is one.
    concluded: bool,
}

impl Storm {
    fn new(seed: u64, tls: bool) -> Storm {
        let mut random = Random::new(seed);
        let faults = Faults::draw(&mut random);
        let listen_errors = if random.happens(400) { random.of_any_size(1, 500) as u32 } else { 0 };
        let mut faults = Faults { listen_errors, ..faults };
        // Only Linux is, and is told.
        let hasty = random.happens(200) && faults.direct_sends && cfg!(target_os = "linux");
        if hasty {
            // Its engines look every 50 ms, and may be some ms late.
            let gives_up = Duration::from_nanos(random.between(65_000_000, 150_000_000));
            (faults.hasty, faults.gives_up, faults.cuts) = (true, gives_up, 0);
            faults.room = faults.room.min(4096);
        }
        let world = World::with(random.fork(), faults.clone());
        let ledger = Rc::new(RefCell::new(Ledger::new(world.net.clone())));
        let mut config = draw_config(&mut random, tls);
        if hasty {
            // Nobody else has enough of a peer that does not read.
            (config.peer_timeout, config.slow_peer_timeout) = (faults.gives_up, None);
        }
        let mut some = |likely: u32, most: u64| match random.happens(likely) {
            true => random.of_any_size(1, most) as u32,
            false => 0,
        };
        let habits = Habits {
            answer: some(700, 1000),
            claim: some(500, 1000),
            pass_on: some(400, 300),
            pause: some(300, 60),
            disconnect: some(300, 30),
            panic: some(200, 200),
            refuse: some(300, 300),
            message_max: config.message_max,
            sole: some(300, 1) > 0,
        };
        let weights = ACTIONS.map(|(_, likely, most)| match random.happens(likely) {
            true => random.of_any_size(1, most),
            false => 0,
        });
        {
            let mut ledger = ledger.borrow_mut();
            ledger.replaces = config.same_id == SameId::ReplaceOld;
            ledger.hurries = config.slow_peer_timeout;
            ledger.drain_timeout = config.drain_timeout;
            ledger.handshake_timeout = config.handshake_timeout;
            ledger.connects_fail = faults.connect_errors > 0;
            ledger.limits = Limits::new(&config);
            ledger.rings = Rings::new(&config);
            ledger.under_tls = tls;
        }
        Storm {
            address: world.net.free_address(),
            // What takes long must have the time to happen.
            gap: random.of_any_size(1_000, 200_000).max(if hasty { 3_000_000 } else { 0 }),
            ids: random.between(2, 10),
            clients_max: if random.happens(100) { random.between(9, 40) } else { random.between(1, 8) }
                as usize,
            world,
            tls,
            ledger,
            random,
            config,
            habits,
            weights,
            server: None,
            servers: 0,
            clients: Vec::new(),
            raws: Vec::new(),
            paused: Rc::default(),
            paused_ids: Vec::new(),
            handles: Vec::new(),
            acts: false,
            holds: false,
            scratch: Vec::new(),
        }
    }

    fn run(&mut self, steps: u64) -> Result<Figures, String> {
        self.set_up_server();
        self.world.net.alarm(0, FREE_TOKEN);
        while self.world.steps < steps {
            self.step()?;
            self.act_if_it_is_time()?;
        }
        self.calm_down()?;
        self.let_one_in()?;
        self.end()?;
        let mut figures = self.ledger.borrow().figures;
        (figures.steps, figures.trace) = (self.world.steps, self.world.trace);
        self.world
            .net
            .happened()
            .into_iter()
            .for_each(|(what, often)| figures.reach.add("fault", what, often));
        Ok(figures)
    }

    fn act_if_it_is_time(&mut self) -> Result<(), String> {
        if std::mem::take(&mut self.acts) {
            self.act()?;
            let later = self.random.of_any_size(100, self.gap);
            self.world.net.alarm(self.world.net.now() + later, FREE_TOKEN);
        }
        Ok(())
    }

    /// One step of the world, checked.
    fn step(&mut self) -> Result<(), String> {
        match self.world.advance() {
            Some(Some(_)) => self.acts = true,
            Some(None) => {}
            // Everybody is gone, and nobody comes: only an action can follow.
            None => self.acts = true,
        }
        // Who has turned is looked at; at everybody, now and then.
        match self.world.turned {
            _ if self.world.steps.is_multiple_of(16) => self.look_around()?,
            Some(index) => self.look_at(index)?,
            None => {}
        }
        if let Some(node) = self.world.turned {
            self.ledger.borrow_mut().check_turn(node);
        }
        // A client's user is told when there is something to tell.
        if let Some(node) = self.world.turned
            && let Some(at) = self.clients.iter().position(|client| client.node == node)
        {
            self.hear_outcome(at);
        }
        match self.ledger.borrow_mut().failure.take().or_else(take_allocations) {
            Some(what) => Err(what),
            None => Ok(()),
        }
    }

    /// What can be seen at any time: cursors in their order, and nobody at a socket that is closed.
    fn look_around(&mut self) -> Result<(), String> {
        if let Some(what) = self.world.net.misuse() {
            return Err(what);
        }
        (0..self.world.members.len()).try_for_each(|index| self.look_at(index))?;
        self.ledger.borrow_mut().check_slow_peers();
        self.bury()
    }

    fn look_at(&self, index: usize) -> Result<(), String> {
        let what = self.world.members[index].fault();
        what.map_or(Ok(()), |what| Err(format!("engine {index}: {what}")))
    }

    // Who is there.

    fn witness(&mut self, node: usize, server: bool, sole: bool) -> Witness {
        Witness {
            ledger: self.ledger.clone(),
            node,
            server,
            habits: Habits { sole, ..self.habits.clone() },
            random: self.random.fork(),
            paused: self.paused.clone(),
            scratch: Vec::new(),
            ids: self.ids,
        }
    }

    /// Until one can listen: without a server there is no storm.
    fn set_up_server(&mut self) {
        while !self.try_to_set_up_server() {}
    }

    fn try_to_set_up_server(&mut self) -> bool {
        let first = self.world.members.len();
        let nodes: Vec<usize> = (first..first + self.config.engines).collect();
        let sole = self.habits.sole && self.config.engines == 1;
        let handlers = nodes.iter().map(|&node| self.witness(node, true, sole)).collect();
        self.servers += 1;
        self.ledger.borrow_mut().server_begins(self.servers);
        for &node in &nodes {
            self.ledger.borrow_mut().book(node).server = self.servers;
        }
        let made = self.world.add_server(&self.config, self.address, handlers, sole);
        let (engines, directory) = match made {
            Ok(made) => made,
            Err(Error::System { .. }) if self.world.faults().listen_errors > 0 => return false,
            Err(error) => panic!("the configuration is a valid one: {error}"),
        };
        for engine in &engines {
            engine.borrow_mut().shuffle_slots(|end| self.random.below(end as u64) as usize);
        }
        self.server = Some(ServerSide { engines, nodes, directory });
        true
    }

    fn client_joins(&mut self, text: String) -> End {
        let id = PeerId::new(&text).expect("it is a good id");
        let node = self.world.members.len();
        let witness = self.witness(node, false, self.habits.sole);
        self.ledger.borrow_mut().book(node);
        let made = self.world.add_client(&self.config, self.address, id, witness, self.habits.sole);
        let engine = made.expect("the configuration is a valid one");
        let connection = engine.borrow_mut().driver().made().expect("it connects at once");
        self.reads_along(connection);
        self.ledger.borrow_mut().book(node).connection = Some(connection);
        let end = End { connection, side: 0 };
        self.ledger.borrow_mut().comes(end, node, text);
        self.clients.push(ClientSide { engine, node, id, end, session: None, concluded: false });
        end
    }

    /// Under TLS the oracle goes by the records that pass, whatever the library says of them.
    fn reads_along(&self, connection: u32) {
        if self.tls {
            self.world.net.read_records(connection);
        }
    }

    /// Lets go of engines that have ended, after a look at what they leave.
    fn bury(&mut self) -> Result<(), String> {
        let receive_buffer = self.config.receive_buffer;
        (0..self.clients.len()).for_each(|at| self.hear_outcome(at));
        let mut gone = Vec::new();
        let members = &self.world.members;
        self.clients.retain(|client| {
            let ended = members[client.node].is_finished();
            if ended {
                if !client.concluded {
                    let what =
                        format!("{:?} is over, and its user was never told whether it began", client.end);
                    self.ledger.borrow_mut().fail(what);
                }
                gone.push((client.node, client.engine.clone(), false));
            }
            !ended
        });
        if let Some(server) = &self.server
            && server.nodes.iter().all(|&node| members[node].is_finished())
        {
            gone.extend(
                server.nodes.iter().copied().zip(server.engines.iter().cloned()).map(|(n, e)| (n, e, true)),
            );
            if !server.directory.gate.is_empty() {
                return Err("a server has ended, and counts connections as there".into());
            }
            if !server.directory.is_empty() {
                return Err("a server has ended, and keeps ids".into());
            }
            self.server = None;
        }
        for (node, engine, server) in gone {
            let mut engine = engine.borrow_mut();
            let failed = self.world.members[node].has_failed();
            self.ledger.borrow_mut().close_book(node, &engine.shared().counters(), server, failed);
            if let Some(what) = engine.slot_left() {
                return Err(format!("engine {node} has ended: {what}"));
            }
            if !failed {
                if let Some(what) = engine.fault_at_rest(receive_buffer) {
                    return Err(format!("engine {node} has ended: {what}"));
                }
                if !engine.driver().is_at_rest() {
                    return Err(format!("engine {node} has ended, and its driver has not"));
                }
            }
            self.world.members[node].bury();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_how_to_see_it_again() {
        let failure = Failure { seed: 0x1f, steps: 500, tls: false, step: 7, what: "something".into() };
        let printed = failure.to_string();
        let (what, again) = printed.split_once("\nagain with: ").unwrap();
        assert_eq!(what, "seed 0x1f, step 7: something");
        assert!(again.ends_with("sim --seed 0x1f --steps 500"), "{again}");
    }

    #[test]
    fn what_a_failure_prints_lets_it_happen_again() {
        // Nothing is wrong with the library: it is the oracle that was told wrongly.
        let misled = |seed, steps| {
            let storm = Storm::new(seed, false);
            storm.ledger.borrow_mut().replaces = false;
            happen(storm, seed, steps)
        };
        let first = (0..).find_map(|seed| misled(seed, 3000).err()).unwrap();
        let printed = first.to_string();
        let mut words = printed.lines().last().unwrap().split(' ').rev();
        let steps = words.next().unwrap().parse().unwrap();
        let seed = words.nth(1).unwrap().strip_prefix("0x").unwrap();
        let again = misled(u64::from_str_radix(seed, 16).unwrap(), steps).unwrap_err();
        assert_eq!(again.to_string(), printed);
        assert!(storm(first.seed, 3000).is_ok(), "{printed}");
    }
}
