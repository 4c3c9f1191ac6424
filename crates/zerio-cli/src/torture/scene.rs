//! One driver's turn: the server and its peers are started, things are done to them second by second, and what
//! each has counted is compared.
#![forbid(unsafe_code)]

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use zerio::{Config, EngineTotals, SendError, Server};

use super::child::Process;
use super::ledger::{Echo, Ledger};
use super::report::Run;
use super::system::{self, Resident};
use super::victims::Streaming;
use super::{PATIENCE, clients, misbehave};
use crate::args::{self, Role};
use crate::failure::Failure;
use crate::interrupt;

/// How often it is looked what is due.
const TICK: Duration = Duration::from_millis(50);

/// How long a victim stays stopped, less than the server puts up with; and how often.
const STOPPED: Duration = Duration::from_secs(1);
const STOP_EVERY: Duration = Duration::from_secs(4);

/// How long after it was let in a victim is killed, and the next one started.
const KILL_AFTER: Duration = Duration::from_millis(300);

/// How long there are no descriptors left, and how often.
const EXHAUSTED: Duration = Duration::from_secs(1);
const EXHAUST_EVERY: Duration = Duration::from_secs(5);

pub(super) fn play(args: &args::Torture, config: &Config, bar: &ProgressBar) -> Result<Run, Failure> {
    let ledger = Arc::new(Ledger::default());
    let (victims, victims_come) = sync_channel(64);
    let echo = Echo { ledger: ledger.clone(), next: vec![0; args.clients()], victims };
    let server = Server::bind("127.0.0.1:0")?.config(config.clone()).handler(echo).start()?;
    let streaming = Streaming::start(victims_come)?;
    let address = server.local_addr();
    let flags = [
        format!("--clients={}", args.clients),
        format!("--misbehaving={}", args.misbehaving()),
        format!("--churn={}", args.churn),
        format!("--driver={}", config.driver),
    ];
    let start = |role| Process::start(role, address, &flags);
    let ready = |role| {
        let mut process = start(role)?;
        match process.hear()?.as_str() {
            "ready" => Ok(process),
            other => Err(Failure::new(format!("the process of {role:?} was not ready: {other:?}"))),
        }
    };
    let goods = ready(Role::Clients)?;
    let stopped = ready(Role::Stopped)?;
    let bads = ready(Role::Peers)?;

    let mut scene = Scene {
        ledger: &ledger,
        server: &server,
        resident: Resident::open(),
        // As many as there are descriptors: this process's memory is watched.
        files: Vec::with_capacity(1 << 16),
        run: Run::default(),
    };
    scene.run.driver = server.driver().name;
    scene.act(args, &stopped, || start(Role::Killed), bar)?;
    let Scene { mut run, .. } = scene;

    // The clients end last: until then those that misbehave have somebody to disturb.
    let bads: misbehave::Outcome = parse(&bads.finish("the peers that misbehave")?)?;
    ledger.ending.store(true, Ordering::Release);
    let goods: clients::Outcome = parse(&goods.finish("the clients")?)?;
    let streamed = streaming.finish();
    let stopped = stopped.finish("the victim that was stopped")?;
    let counted = all_have_left(&server);
    let report = server.stop();

    let checked = ledger.checked.load(Ordering::Relaxed);
    ledger.compare(&bads, &counted);
    run.faults.extend(ledger.take_faults());
    run.faults.extend(goods.faults);
    run.faults.extend(bads.faults);
    run.faults.extend(streamed.fault);
    if report.failure.is_some() {
        run.faults.push(report.to_string());
    }
    if (checked, goods.checked) != (goods.sent, goods.sent) {
        let (sent, back) = (goods.sent, goods.checked);
        run.faults.push(format!("{sent} messages sent, {checked} came to the server, {back} came back"));
    }
    if stopped != format!("{} true", streamed.to_stopped) {
        run.faults.push(format!("the stopped victim had {stopped}, of {}", streamed.to_stopped));
    }
    run.messages_checked = checked + goods.checked + streamed.to_stopped;
    run.messages_lost = goods.sent - goods.checked.min(goods.sent);
    run.too_long = goods.too_long;
    run.to_stopped_victim = streamed.to_stopped;
    run.full_rings = streamed.full;
    run.to_departed = streamed.to_departed;
    run.misbehaved = bads.done;
    run.turned_away = bads.turned_away;
    (run.came_and_went, run.churned_ms) = (bads.came_and_went, bads.churned_ms);
    run.slow_peers = ledger.slow_peers.load(Ordering::Relaxed);
    run.kills_heard = ledger.killed.load(Ordering::Relaxed);
    run.clients_resident_kib = goods.resident_kib;
    run.judge(args);
    Ok(run)
}

fn parse<T: serde::de::DeserializeOwned>(line: &str) -> Result<T, Failure> {
    serde_json::from_str(line).map_err(|error| Failure::new(format!("{error}: {line:?}")))
}

/// What the engine has counted when its last session has ended, or nothing more is to be hoped for: by now every peer
/// has closed its connection.
fn all_have_left(server: &Server) -> EngineTotals {
    let begun = Instant::now();
    loop {
        let counted = server.counters().engine;
        if counted.connected == counted.disconnected || begun.elapsed() > PATIENCE {
            return counted;
        }
        std::thread::sleep(TICK);
    }
}

struct Scene<'a> {
    ledger: &'a Ledger,
    server: &'a Server,
    resident: Resident,
    files: Vec<File>,
    run: Run,
}

impl Scene<'_> {
    /// Does what is due, until the time is over.
    fn act(
        &mut self,
        args: &args::Torture,
        stopped: &Process,
        victim: impl Fn() -> Result<Process, Failure>,
        bar: &ProgressBar,
    ) -> Result<(), Failure> {
        let begun = Instant::now();
        let lasts = Duration::from_secs(args.seconds);
        let mut killed = victim()?;
        let (mut born, mut due) = (Duration::ZERO, None);
        let (mut stop, mut exhaust) = (STOP_EVERY / 4, EXHAUST_EVERY / 2);
        let (mut goes_on, mut frees) = (None, None);
        let mut second = 1;
        while begun.elapsed() < lasts && !interrupt::seen() {
            std::thread::sleep(TICK);
            let now = begun.elapsed();
            if now >= Duration::from_secs(second) {
                second += 1;
                bar.inc(1);
                self.run.resident_kib.extend(self.resident.kib());
                self.send_to_nobody();
            }
            if goes_on.is_some_and(|when| now >= when) {
                system::stop(&stopped.child, false)?;
                goes_on = None;
            } else if now >= stop && (now + STOPPED < lasts || self.run.stops == 0) {
                // The first also where a busy machine comes to it late; the end cuts it short.
                system::stop(&stopped.child, true)?;
                self.run.stops += 1;
                (stop, goes_on) = (now + STOP_EVERY, Some(now + STOPPED));
            }
            if frees.is_some_and(|when| now >= when) {
                self.files.clear();
                frees = None;
            } else if now >= exhaust && now + EXHAUSTED < lasts {
                system::exhaust_descriptors(&mut self.files);
                self.run.exhaustions += 1;
                (exhaust, frees) = (now + EXHAUST_EVERY, Some(now + EXHAUSTED));
            }
            // Only one that has begun tells something by its end; nothing else waits for it meanwhile.
            if let Some(word) = killed.hear_now() {
                self.run.kills += u64::from(word == "ready");
                self.run.longest_start_ms = self.run.longest_start_ms.max((now - born).as_millis() as u64);
                due.get_or_insert(now + KILL_AFTER);
            }
            // A process can't be started without descriptors.
            if frees.is_none() && due.is_some_and(|due| now >= due) {
                drop(killed);
                killed = victim()?;
                (born, due) = (now, None);
            }
        }
        self.run.lasted_ms = begun.elapsed().as_millis() as u64;
        self.files.clear();
        if goes_on.is_some() {
            system::stop(&stopped.child, false)?;
        }
        self.run.accept_errors = self.server.counters().engine.accept_errors;
        if due.is_none() {
            self.kill_ready(killed);
        } else {
            drop(killed);
        }
        // A busy machine may have started none in the time that there was, and a full server may have let none in.
        while self.run.kills == 0 && begun.elapsed() < lasts + PATIENCE && !interrupt::seen() {
            self.kill_ready(victim()?);
            std::thread::sleep(TICK);
        }
        self.all_kills_are_told();
        Ok(())
    }

    /// Kills a victim once it is ready. One that a full server refuses ends without a word.
    fn kill_ready(&mut self, mut victim: Process) {
        self.run.kills += u64::from(victim.hear().is_ok_and(|word| word == "ready"));
    }

    fn all_kills_are_told(&self) {
        let begun = Instant::now();
        while self.ledger.killed.load(Ordering::Relaxed) < self.run.kills {
            if begun.elapsed() > PATIENCE {
                let heard = self.ledger.killed.load(Ordering::Relaxed);
                self.ledger.fault(format!("{} victims killed, {heard} ends told", self.run.kills));
                break;
            }
            std::thread::sleep(TICK);
        }
    }

    fn send_to_nobody(&self) {
        let outcome = self.server.try_send("nobody", b"is there somebody?");
        if outcome != Err(SendError::UnknownPeer) {
            self.ledger.fault(format!("a message to nobody came to {outcome:?}"));
        }
    }
}
