//! Names and runs engines; picks the driver, once. The only file that reads a clock.
#![forbid(unsafe_code)]

use std::any::Any;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use socket2::Socket;

#[cfg(any(target_os = "linux", windows))]
mod explain;
mod place;

use crate::config::{Config, ConfigError, DriverKind};
use crate::counters::Counters;
use crate::counters::file::{self, About, Lines};
use crate::cursor::ProcessBarrier;
use crate::driver::poll::Poll;
#[cfg(any(windows, feature = "rio-model"))]
use crate::driver::rio::Rio;
#[cfg(feature = "rio-model")]
use crate::driver::rio::model::Model;
#[cfg(windows)]
use crate::driver::rio::windows::Windows;
#[cfg(target_os = "linux")]
use crate::driver::uring::Uring;
use crate::driver::{Corrupt, Driver, FEW};
use crate::engine::{Core, Engine, Outcome, Report as Left, Role};
use crate::error::{EngineFailure, Error};
use crate::handler::Handler;
use crate::recv::buffer::Buffer;
use crate::region::Region;
use crate::send::Sole;
use crate::session::Shared;
use crate::session::inbox::Inboxes;
use crate::time::{Clock, Time};
use crate::wait::{Idler, Next};

/// What time it is.
#[inline]
pub(crate) fn now() -> Time {
    static START: OnceLock<Instant> = OnceLock::new();
    Time::from_nanos(START.get_or_init(Instant::now).elapsed().as_nanos() as u64)
}

/// Which driver an engine has, and why not a better one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DriverInfo {
    /// Its name: `poll`, `uring` or `rio`.
    pub name: &'static str,
    /// Why `auto` could not take the one that it tries first; `None` where it could, or where this one
    /// was asked for.
    pub fallback: Option<String>,
}

impl DriverInfo {
    /// Of a driver that is not in place of another.
    pub(crate) fn of(name: &'static str) -> DriverInfo {
        DriverInfo { name, fallback: None }
    }

    /// Another engine has this one: the first that is in place of another tells.
    fn heed(&mut self, next: DriverInfo) {
        if self.fallback.is_none() {
            *self = next;
        }
    }
}

impl fmt::Display for DriverInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.fallback {
            None => f.write_str(self.name),
            Some(reason) => write!(f, "{} ({reason})", self.name),
        }
    }
}

/// The memory of an engine, as `Shared::new` makes it.
pub(crate) type Memory = (Arc<Shared>, Arc<Region>, Vec<Buffer>);

/// All that an engine is made from, but its handler.
pub(crate) struct Plan {
    pub(crate) config: Config,
    pub(crate) role: Role,
    pub(crate) memory: Memory,
    pub(crate) inboxes: Inboxes<Socket>,
    /// Where its counters go that other processes read.
    pub(crate) lines: Option<Lines>,
    pub(crate) listener: Option<Socket>,
    pub(crate) sole: Option<Sole>,
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<crate::tls::Side>,
}

/// The memory that an engine of this configuration needs, on the thread that starts it.
pub(crate) fn memory(config: &Config) -> Result<Memory, Error> {
    ProcessBarrier::prepare();
    Shared::new(config, Clock::System(now)).map_err(|why| match why.kind() {
        // What `madvise` says where the kernel was built without them; and what other systems have no call for.
        io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported if config.huge_pages => {
            let why = "this system has no transparent huge pages";
            ConfigError::new("huge_pages", true, why, "false would do").into()
        }
        // Each value is one that can be, and all of them together are more than there is.
        _ => Error::System {
            what: "memory for rings and buffers (`Config::memory` has the bill; less of sessions_max, send_ring or \
                   receive_buffer would do)",
            why,
        },
    })
}

/// The counters file, where the configuration wants one: the lines of each engine.
pub(crate) fn counters_file(
    config: &Config,
    server: bool,
    address: SocketAddr,
) -> Result<Vec<Option<Lines>>, Error> {
    let Some(path) = &config.counters_file else {
        return Ok((0..config.engines).map(|_| None).collect());
    };
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let started = since_1970.as_nanos() as u64;
    let about = About {
        server,
        address: address.to_string(),
        started,
        clock: started.saturating_sub(now().nanos()),
        engines: config.engines,
        slots: config.slots_per_engine(),
        sessions_max: config.sessions_max,
        send_ring: config.send_ring,
        receive_buffer: config.receive_buffer,
        message_max: config.message_max,
    };
    match file::make(path, &about) {
        Ok(lines) => Ok(lines.into_iter().map(Some).collect()),
        Err(why) => Err(Error::CountersFile { path: path.clone(), why }),
    }
}

/// An engine on the driver that was picked for it.
#[allow(clippy::large_enum_variant, reason = "there is one an engine")]
pub(crate) enum Driven<H> {
    Poll(Engine<Poll, H>),
    #[cfg(target_os = "linux")]
    Uring(Engine<Uring, H>),
    #[cfg(windows)]
    Rio(Engine<Rio<Windows>, H>),
    #[cfg(feature = "rio-model")]
    RioModel(Engine<Rio<Model>, H>),
}

/// The same for an engine on whichever driver.
macro_rules! each {
    ($driven:expr, $engine:ident => $what:expr) => {
        match $driven {
            Driven::Poll($engine) => $what,
            #[cfg(target_os = "linux")]
            Driven::Uring($engine) => $what,
            #[cfg(windows)]
            Driven::Rio($engine) => $what,
            #[cfg(feature = "rio-model")]
            Driven::RioModel($engine) => $what,
        }
    };
}

impl<H: Handler> Driven<H> {
    /// Picks the driver, and begins to listen or to connect. To be called on the thread that will drive.
    pub(crate) fn new(plan: Plan, handler: H) -> Result<(Driven<H>, DriverInfo), Error> {
        let made = Driven::pick(plan, handler);
        #[cfg(feature = "tracing")]
        if let Ok((_, info)) = &made {
            crate::trace::driven(info.name, info.fallback.as_deref());
        }
        made
    }

    fn pick(plan: Plan, handler: H) -> Result<(Driven<H>, DriverInfo), Error> {
        // With more sessions io_uring gains nothing.
        let few = plan.config.sessions_max <= FEW * plan.config.engines;
        match plan.config.driver {
            DriverKind::Auto if few || !cfg!(target_os = "linux") => Driven::best(plan, handler),
            DriverKind::Auto | DriverKind::Poll => {
                Ok((Driven::Poll(on_poll(plan, handler)?), DriverInfo::of(Poll::NAME)))
            }
            #[cfg(target_os = "linux")]
            DriverKind::Uring => match make::<Uring>(&plan) {
                Ok(driver) => Ok((Driven::Uring(begin(plan, driver, handler)?), DriverInfo::of(Uring::NAME))),
                Err(error) => Err(Error::Driver { driver: Uring::NAME, why: explain::uring(&error) }),
            },
            #[cfg(not(target_os = "linux"))]
            DriverKind::Uring => {
                Err(Error::Driver { driver: "uring", why: "io_uring is Linux's".to_owned() })
            }
            #[cfg(windows)]
            DriverKind::Rio => match make::<Rio<Windows>>(&plan) {
                Ok(driver) => {
                    Ok((Driven::Rio(begin(plan, driver, handler)?), DriverInfo::of(Rio::<Windows>::NAME)))
                }
                Err(error) => Err(Error::Driver { driver: Rio::<Windows>::NAME, why: explain::rio(&error) }),
            },
            #[cfg(not(windows))]
            DriverKind::Rio => {
                Err(Error::Driver { driver: "rio", why: "only Windows has Registered I/O".to_owned() })
            }
            #[cfg(feature = "rio-model")]
            DriverKind::RioModel => {
                let what = "a model of Registered I/O";
                let driver = make::<Rio<Model>>(&plan).map_err(|why| Error::System { what, why })?;
                Ok((Driven::RioModel(begin(plan, driver, handler)?), DriverInfo::of(Rio::<Model>::NAME)))
            }
        }
    }

    /// The best driver that this machine allows.
    fn best(plan: Plan, handler: H) -> Result<(Driven<H>, DriverInfo), Error> {
        #[cfg(target_os = "linux")]
        let fallback = match make::<Uring>(&plan) {
            Ok(driver) => {
                return Ok((Driven::Uring(begin(plan, driver, handler)?), DriverInfo::of(Uring::NAME)));
            }
            Err(error) => Some(format!("io_uring: {}, using epoll", explain::uring(&error))),
        };
        #[cfg(windows)]
        let fallback = match make::<Rio<Windows>>(&plan) {
            Ok(driver) => {
                let info = DriverInfo::of(Rio::<Windows>::NAME);
                return Ok((Driven::Rio(begin(plan, driver, handler)?), info));
            }
            Err(error) => Some(format!("Registered I/O: {}, using poll", explain::rio(&error))),
        };
        #[cfg(not(any(target_os = "linux", windows)))]
        let fallback = None;
        Ok((Driven::Poll(on_poll(plan, handler)?), DriverInfo { name: Poll::NAME, fallback }))
    }

    #[inline]
    pub(crate) fn core(&mut self) -> &mut Core {
        each!(self, engine => engine.core())
    }

    pub(crate) fn handler(&mut self) -> &mut H {
        each!(self, engine => engine.handler())
    }

    pub(crate) fn is_finished(&self) -> bool {
        each!(self, engine => engine.is_finished())
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        each!(self, engine => engine.shared())
    }

    pub(crate) fn take_report(&mut self) -> Left {
        each!(self, engine => engine.take_report())
    }

    #[inline]
    pub(crate) fn turn(&mut self, now: Time) -> io::Result<usize> {
        each!(self, engine => engine.turn(now))
    }

    /// A turn that began then has done so much work, and is over.
    #[inline]
    pub(crate) fn turned(&mut self, begun: Time, ended: Time, work: usize) {
        each!(self, engine => engine.turned(begun, ended, work));
    }

    /// The handler has panicked: the engine ends, without it.
    pub(crate) fn end_without_handler(&mut self) {
        each!(self, engine => engine.end_without_handler());
        self.finish();
    }

    /// The driver has failed: the engine ends.
    pub(crate) fn end_without_driver(&mut self, kind: io::ErrorKind) {
        each!(self, engine => engine.end_without_driver(kind));
    }

    /// Turns until an engine that was stopped is finished. Each of its sessions has a deadline, after which it is
    /// closed, and then it waits for the driver's `Closed` alone, which the contract promises.
    pub(crate) fn finish(&mut self) {
        while !self.is_finished() {
            let begun = now();
            let outcome = each!(self, engine => engine.turn(begun).and_then(|work| {
                let ended = now();
                engine.turned(begun, ended, work);
                if work == 0 && !engine.is_finished() { engine.park(ended) } else { Ok(()) }
            }));
            if let Err(error) = outcome {
                self.end_without_driver(error.kind());
            }
        }
    }
}

/// A driver for an engine's memory.
fn make<D: Driver>(plan: &Plan) -> io::Result<D> {
    D::new(plan.memory.1.clone(), plan.memory.0.slots.len())
}

pub(crate) fn on_poll<H: Handler>(plan: Plan, handler: H) -> Result<Engine<Poll, H>, Error> {
    let driver = make(&plan).map_err(|why| Error::System { what: "a selector (epoll, kqueue, AFD)", why })?;
    begin(plan, driver, handler)
}

fn begin<D, H>(plan: Plan, driver: D, handler: H) -> Result<Engine<D, H>, Error>
where
    D: Driver<Socket = Socket>,
    H: Handler,
{
    let client = matches!(plan.role, Role::Client(_));
    let mut engine =
        Engine::new(&plan.config, driver, handler, plan.role, plan.memory, plan.inboxes, plan.sole);
    #[cfg(feature = "tls")]
    if let Some(side) = plan.tls {
        engine.secure(side);
    }
    if let Some(listener) = plan.listener {
        engine
            .listen(listener)
            .map_err(|why| Error::System { what: "to watch the listening socket", why })?;
    }
    if let Some(lines) = plan.lines {
        engine.observe(lines);
    }
    if client {
        engine.connect(now());
    }
    Ok(engine)
}

/// What an error of a driver's means for its engine.
pub(crate) fn failure(error: &io::Error) -> EngineFailure {
    if error.get_ref().is_some_and(|inner| inner.is::<Corrupt>()) {
        return EngineFailure::QueueCorrupt;
    }
    EngineFailure::DriverFailed(error.kind())
}

/// How one engine ended.
#[derive(Debug, Default)]
pub(crate) struct Ended {
    pub(crate) left: Left,
    pub(crate) failure: Option<EngineFailure>,
    /// What it has done.
    pub(crate) counters: Counters,
}

impl Ended {
    /// Its thread ended with a panic that nothing has caught.
    fn badly(engine: &Shared, panic: &(dyn Any + Send)) -> Ended {
        let failure = Some(EngineFailure::HandlerPanicked(panic_message(panic)));
        Ended { left: Left::default(), failure, counters: engine.counters() }
    }
}

/// Engines on threads of their own.
pub(crate) struct Running {
    pub(crate) engines: Vec<Arc<Shared>>,
    pub(crate) info: DriverInfo,
    threads: Vec<JoinHandle<Ended>>,
}

impl Running {
    /// Starts a thread for each plan, and returns when every engine has its driver. A client's outcome
    /// comes through `outcome`.
    pub(crate) fn start<H: Handler + Send + 'static>(
        name: &str,
        plans: Vec<Plan>,
        handlers: Vec<H>,
        outcome: Option<SyncSender<Outcome>>,
    ) -> Result<Running, Error> {
        let mut running = Running {
            engines: Vec::with_capacity(plans.len()),
            info: DriverInfo::of(Poll::NAME),
            threads: Vec::with_capacity(plans.len()),
        };
        for (engine, (plan, handler)) in plans.into_iter().zip(handlers).enumerate() {
            // On an error the engines that run already are stopped by dropping them.
            running.engines.push(plan.memory.0.clone());
            let (ready, is_ready) = sync_channel(1);
            let outcome = outcome.clone();
            let thread = std::thread::Builder::new()
                .name(format!("{name}-{engine}"))
                .spawn(move || run(engine, plan, handler, &ready, outcome))
                .map_err(|why| Error::System { what: "a thread", why })?;
            running.threads.push(thread);
            let info = is_ready.recv().unwrap_or_else(|_| Err(died()))?;
            running.info.heed(info);
        }
        Ok(running)
    }

    /// Whether every engine still runs.
    pub(crate) fn is_running(&self) -> bool {
        self.threads.iter().all(|thread| !thread.is_finished())
    }

    /// Stops the engines and waits for their end. From inside a handler it can't wait for that one's engine, which
    /// then ends by itself, and is not among those that it gives.
    pub(crate) fn stop(&mut self) -> Vec<Ended> {
        for engine in &self.engines {
            engine.stop();
        }
        let this = std::thread::current().id();
        let others = self.engines.iter().zip(self.threads.drain(..));
        let others = others.filter(|(_, thread)| thread.thread().id() != this);
        others
            .map(|(engine, thread)| {
                thread.join().unwrap_or_else(|panic| Ended::badly(engine, panic.as_ref()))
            })
            .collect()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
    }
}

fn died() -> Error {
    Error::System { what: "a thread that lives", why: io::ErrorKind::Other.into() }
}

/// Waits for a client's outcome, for which its engine has a deadline; `None` where that has died. It comes after
/// `on_connected`, which may take its time: a bound here would give a session up that stands.
pub(crate) fn await_outcome(outcome: &Receiver<Outcome>) -> Option<Outcome> {
    outcome.recv().ok()
}

/// Calls `resolve` on a thread of its own, and waits for it no longer than that: a resolver has no
/// deadline of its own.
pub(crate) fn within<T: Send + 'static>(
    bound: Duration,
    resolve: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<io::Result<T>, Error> {
    let (sender, receiver) = sync_channel(1);
    let thread = std::thread::Builder::new().name("zerio-resolve".into());
    let spawned = thread.spawn(move || drop(sender.send(resolve())));
    spawned.map_err(|why| Error::System { what: "a thread", why })?;
    Ok(receiver.recv_timeout(bound).unwrap_or_else(|why| {
        Err(match why {
            RecvTimeoutError::Timeout => io::ErrorKind::TimedOut.into(),
            RecvTimeoutError::Disconnected => io::Error::other("the resolver panicked"),
        })
    }))
}

/// The life of an engine's thread.
fn run<H: Handler>(
    engine: usize,
    plan: Plan,
    handler: H,
    ready: &SyncSender<Result<DriverInfo, Error>>,
    mut outcome: Option<SyncSender<Outcome>>,
) -> Ended {
    let strategy = plan.config.wait;
    place::wake_in_time();
    let placed = place::pin(&plan.config, engine).and_then(|()| place::set_priority(&plan.config));
    let mut driven = match placed.and_then(|()| Driven::new(plan, handler)) {
        Ok((driven, info)) => {
            let _ = ready.send(Ok(info));
            driven
        }
        Err(error) => {
            let _ = ready.send(Err(error));
            return Ended::default();
        }
    };
    let mut idler = Idler::new(strategy, now());
    let cycles = catch_unwind(AssertUnwindSafe(
        || each!(&mut driven, engine => cycle(engine, &mut idler, &mut outcome)),
    ));
    let failure = match cycles {
        Ok(Ok(())) => None,
        Ok(Err(error)) => {
            let kind = error.kind();
            if catch_unwind(AssertUnwindSafe(|| driven.end_without_driver(kind))).is_err() {
                driven.end_without_handler();
            }
            Some(failure(&error))
        }
        Err(panic) => {
            driven.end_without_handler();
            Some(EngineFailure::HandlerPanicked(panic_message(panic.as_ref())))
        }
    };
    let (left, counters) = (driven.take_report(), driven.shared().counters());
    // What drops a handler is its user's too.
    let dropped = catch_unwind(AssertUnwindSafe(|| drop(driven)));
    let panicked = |panic: Box<dyn Any + Send>| EngineFailure::HandlerPanicked(panic_message(panic.as_ref()));
    let failure = failure.or_else(|| dropped.err().map(panicked));
    #[cfg(feature = "tracing")]
    if let Some(failure) = &failure {
        crate::trace::failed(failure);
    }
    Ended { left, failure, counters }
}

/// Turns, and waits as its strategy says, until the engine is finished.
fn cycle<D: Driver, H: Handler>(
    engine: &mut Engine<D, H>,
    idler: &mut Idler,
    outcome: &mut Option<SyncSender<Outcome>>,
) -> io::Result<()> {
    let mut begun = now();
    while !engine.is_finished() || outcome.is_some() {
        let work = engine.turn(begun)?;
        let ended = now();
        if let (Some(sender), Some(what)) = (&outcome, engine.core().take_outcome()) {
            let _ = sender.send(what);
            *outcome = None;
        } else if engine.is_finished() {
            *outcome = None;
        }
        engine.turned(begun, ended, work);
        let next = if work > 0 {
            idler.worked(ended, engine.served_senders(), now)
        } else if !engine.is_finished() {
            idler.idle(ended, now)
        } else {
            Next::Turn(ended)
        };
        begun = match next {
            Next::Turn(now) => now,
            Next::Nap => engine.nap().map(|()| now())?,
            Next::Park => engine.park(ended).map(|()| now())?,
        };
    }
    Ok(())
}

pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "a panic without a message".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resolver_that_panicked_had_taken_too_long() {
        let panics = within(Duration::from_secs(60), || -> io::Result<()> { panic!("on purpose") });
        assert_eq!(panics.unwrap().unwrap_err().kind(), io::ErrorKind::Other);
        let hangs = within(Duration::from_millis(1), || {
            std::thread::sleep(Duration::from_secs(5));
            Ok(())
        });
        assert_eq!(hangs.unwrap().unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(within(Duration::from_secs(60), || Ok(())).unwrap().is_ok());
    }

    #[test]
    fn one_engine_of_several_that_had_to_fall_back_went_untold() {
        let fallen = DriverInfo { name: "poll", fallback: Some("why".into()) };
        for order in [[&fallen, &DriverInfo::of("uring")], [&DriverInfo::of("uring"), &fallen]] {
            let mut info = DriverInfo::of("poll");
            order.into_iter().for_each(|next| info.heed(next.clone()));
            assert_eq!(info, fallen);
        }
    }
}
