//! The engines of a client or server on tokio: as tasks of the runtime where that can be had, on threads elsewhere.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use tokio::runtime::Handle;
use tokio::sync::oneshot;
#[cfg(target_os = "linux")]
use tokio::task::{JoinError, JoinHandle};

use super::inbox::Inbox;
use crate::config::{Config, ConfigError, DriverKind};
use crate::counters::Counters;
use crate::engine::Outcome;
use crate::error::{EngineFailure, Error};
use crate::handler::{Arrival, Refusal};
use crate::report::Report;
use crate::session::Shared;
use crate::thread::{self, DriverInfo, Ended, Plan};

pub(super) struct Running {
    engines: Vec<Arc<Shared>>,
    info: DriverInfo,
    hosts: Hosts,
}

/// What the engines run on.
enum Hosts {
    #[cfg(target_os = "linux")]
    Tasks(Vec<JoinHandle<Ended>>),
    Threads(thread::Running),
    /// They were stopped.
    None,
}

/// Whether engines of this configuration are tasks.
fn are_tasks(config: &Config) -> bool {
    cfg!(target_os = "linux") && matches!(config.driver, DriverKind::Auto | DriverKind::Poll)
}

/// Refuses what can't be said of a task.
pub(super) fn check(config: &Config) -> Result<(), Error> {
    if !are_tasks(config) {
        return Ok(());
    }
    let why = "on tokio the engine is a task, on whichever of the runtime's threads";
    let instead = "none, or driver = uring, would do";
    if !config.cores.is_empty() {
        return Err(ConfigError::new("cores", &config.cores, why, instead).into());
    }
    match config.priority {
        Some(priority) => Err(ConfigError::new("priority", priority, why, instead).into()),
        None => Ok(()),
    }
}

impl Running {
    /// Starts the engines, inside a runtime. A client's outcome comes through `outcome`.
    pub(super) fn start<A>(
        name: &str,
        plans: Vec<Plan>,
        inboxes: Vec<Inbox<A>>,
        outcome: Option<oneshot::Sender<Outcome>>,
    ) -> Result<Running, Error>
    where
        A: FnMut(&Arrival<'_>) -> Result<(), Refusal> + Send + 'static,
    {
        let outside = "there is no runtime here: call it inside one, as in `Runtime::block_on`";
        let runtime = Handle::try_current().map_err(|_| Error::Runtime { why: outside })?;
        #[cfg(target_os = "linux")]
        if plans.iter().all(|plan| are_tasks(&plan.config)) {
            return Running::start_tasks(&runtime, plans, inboxes, outcome);
        }
        let hand_on = outcome.map(|outcome| {
            let (sender, receiver) = sync_channel(1);
            runtime.spawn_blocking(move || thread::await_outcome(&receiver).map(|what| outcome.send(what)));
            sender
        });
        let threads = thread::Running::start(name, plans, inboxes, hand_on)?;
        let (engines, info) = (threads.engines.clone(), threads.info.clone());
        Ok(Running { engines, info, hosts: Hosts::Threads(threads) })
    }

    #[cfg(target_os = "linux")]
    fn start_tasks<A>(
        runtime: &Handle,
        plans: Vec<Plan>,
        inboxes: Vec<Inbox<A>>,
        mut outcome: Option<oneshot::Sender<Outcome>>,
    ) -> Result<Running, Error>
    where
        A: FnMut(&Arrival<'_>) -> Result<(), Refusal> + Send + 'static,
    {
        use super::task::{DRIVER, Task};
        let engines = plans.iter().map(|plan| plan.memory.0.clone()).collect();
        let made = plans.into_iter().zip(inboxes);
        let made = made.map(|(plan, inbox)| Task::new(plan, inbox, outcome.take()));
        let made = made.collect::<Result<Vec<_>, _>>()?;
        let tasks = made.into_iter().map(|task| runtime.spawn(task.run())).collect();
        Ok(Running { engines, info: DriverInfo::of(DRIVER), hosts: Hosts::Tasks(tasks) })
    }

    pub(super) fn info(&self) -> &DriverInfo {
        &self.info
    }

    pub(super) fn counters(&self) -> Counters {
        self.engines.iter().fold(Counters::default(), |mut sum, engine| {
            sum.add(&engine.counters());
            sum
        })
    }

    /// Stops the engines and waits for their end. Dropping this does not keep them from it.
    pub(super) async fn stop(mut self) -> Report {
        self.engines.iter().for_each(|engine| engine.stop());
        Report::new(self.ended().await, self.engines.len())
    }

    /// Waits for the end of the engines.
    pub(super) async fn ended(&mut self) -> Vec<Ended> {
        match std::mem::replace(&mut self.hosts, Hosts::None) {
            #[cfg(target_os = "linux")]
            Hosts::Tasks(tasks) => {
                let mut ended = Vec::with_capacity(tasks.len());
                for (task, engine) in tasks.into_iter().zip(&self.engines) {
                    ended.push(task.await.unwrap_or_else(|error| abandoned(engine, why(error))));
                }
                ended
            }
            Hosts::Threads(mut threads) => {
                // Not on a thread of the runtime's, which may have ended.
                let (sender, ended) = oneshot::channel();
                in_background(move || drop(sender.send(threads.stop())));
                match ended.await {
                    Ok(ended) => ended,
                    // It could not be waited for.
                    Err(_) => self.engines.iter().map(|engine| abandoned(engine, INTERRUPTED)).collect(),
                }
            }
            Hosts::None => Vec::new(),
        }
    }
}

const INTERRUPTED: EngineFailure = EngineFailure::DriverFailed(std::io::ErrorKind::Interrupted);

/// The runtime has ended before a task; or what `admit` has kept has panicked as it was dropped.
#[cfg(target_os = "linux")]
fn why(error: JoinError) -> EngineFailure {
    match error.try_into_panic() {
        Ok(panic) => EngineFailure::HandlerPanicked(thread::panic_message(panic.as_ref())),
        Err(_) => INTERRUPTED,
    }
}

/// Of this engine there is nothing to be had but what it has counted.
fn abandoned(engine: &Shared, failure: EngineFailure) -> Ended {
    Ended { left: Default::default(), failure: Some(failure), counters: engine.counters() }
}

/// Waits for an end, which a task must not.
fn in_background(end: impl FnOnce() + Send + 'static) {
    // Where there can be no thread, the closure is dropped, and with it whose end it is.
    let _ = std::thread::Builder::new().name("zerio-ending".into()).spawn(end);
}

impl Drop for Running {
    fn drop(&mut self) {
        self.engines.iter().for_each(|engine| engine.stop());
        if let Hosts::Threads(threads) = std::mem::replace(&mut self.hosts, Hosts::None) {
            in_background(move || drop(threads));
        }
    }
}
