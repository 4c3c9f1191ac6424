//! `zerio serve`: an echo server that prints who comes and goes, and counts.
#![forbid(unsafe_code)]

use std::io::{IsTerminal, Write, stdout};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use serde_json::json;
use zerio::tls::TlsServer;
use zerio::{Config, Context, Disconnection, Error, Handler, Rejections, Server};

use crate::args;
use crate::counters::{self, default_name};
use crate::failure::Failure;
use crate::interrupt;
use crate::metrics;
use crate::terminal::{self, counted};

/// How often it is looked whether the engines live, and how many looks there are to a line of counts.
const LOOK: Duration = Duration::from_secs(1);
const LOOKS_PER_COUNT: u32 = 5;

pub(crate) fn run(args: &args::Serve) -> Result<(), Failure> {
    let tls = args.tls.settings()?;
    let mut config = args.settings.config(tls.is_some());
    args.server.apply(&mut config);
    config.engines = args.engines;
    if args.explain {
        config.counters_file = (!args.no_counters).then(|| args.counters.clone().unwrap_or_default());
        return explain(&config, args.json);
    }
    let (events, happened) = channel();
    let interrupts = events.clone();
    interrupt::catch(move || drop(interrupts.send(Event::Interrupted)))?;

    let unanswered = Arc::new(AtomicU64::new(0));
    let echo = |_| Echo { events: events.clone(), unanswered: unanswered.clone() };
    let (server, counters) = start(args, config, tls, echo)?;
    let metrics = args.metrics.as_deref().map(|address| scraped(address, counters)).transpose()?;
    drop(events);
    let mut log = Log { json: args.json };
    log.listening(&server)?;
    if let Some(address) = metrics {
        log.scraped(address)?;
    }

    let (mut looks, mut counted) = (0, None);
    let mut next_look = Instant::now() + LOOK;
    loop {
        match happened.recv_timeout(next_look.saturating_duration_since(Instant::now())) {
            Ok(Event::Interrupted) | Err(RecvTimeoutError::Disconnected) => break,
            Ok(event) => log.event(event)?,
            Err(RecvTimeoutError::Timeout) => {}
        }
        // By the clock: where something happens all the time, nothing else would tell when.
        if Instant::now() < next_look {
            continue;
        }
        next_look = Instant::now() + LOOK;
        if !server.is_running() {
            break;
        }
        looks += 1;
        if looks % LOOKS_PER_COUNT == 0 && !args.json && stdout().is_terminal() {
            log.counts(&server, &mut counted)?;
        }
    }
    stop(server, &happened, &mut log, unanswered.load(Ordering::Relaxed))
}

/// Starts it, with a file of counters unless it is to have none.
fn start(
    args: &args::Serve,
    mut config: Config,
    tls: Option<TlsServer>,
    echo: impl Fn(usize) -> Echo,
) -> Result<(Server, Option<PathBuf>), Failure> {
    let bound = args.server.bind(&args.address, tls.clone())?;
    let address = bound.local_addr();
    config.counters_file = match &args.counters {
        _ if args.no_counters => None,
        Some(path) => Some(path.clone()),
        None => Some(default_name(address)),
    };
    match bound.config(config.clone()).start_each(&echo) {
        // Nobody asked for it: a machine without shared memory serves all the same.
        Err(error @ Error::CountersFile { .. }) if args.counters.is_none() => {
            terminal::note(format_args!("zerio: {error}; serving without (`zerio stat` won't find it)"));
            config.counters_file = None;
            Ok((args.server.bind(&address.to_string(), tls)?.config(config).start_each(echo)?, None))
        }
        outcome => Ok((outcome?, config.counters_file)),
    }
}

/// Lets scrapers have what is counted.
fn scraped(address: &str, counters: Option<PathBuf>) -> Result<SocketAddr, Failure> {
    match counters {
        Some(path) => metrics::serve(address, counters::open(&path)?),
        None => Err(Failure::new("--metrics reads the file of counters; give it a place by --counters PATH")),
    }
}

/// Prints what the settings cost in memory, and what they ask of the system for speed's sake.
fn explain(config: &Config, as_json: bool) -> Result<(), Failure> {
    let memory = config.memory()?;
    let (busy_poll, priority, huge_pages) = (config.busy_poll, config.priority, config.huge_pages);
    let text = if as_json {
        let (pinned, unpinned) = (memory.pinned, memory.unpinned());
        json!({
            "slots": memory.slots, "send_rings": memory.send_rings, "receive_buffers": memory.receive_buffers,
            "handshakes": memory.handshakes, "sealed": memory.sealed, "tables": memory.tables,
            "addresses": memory.addresses, "counters_file": memory.counters_file,
            "total": memory.total(), "pinned": pinned, "unpinned": unpinned,
            "busy_poll_us": busy_poll.map(|time| time.as_micros() as u64), "priority": priority, "huge_pages": huge_pages,
        })
        .to_string()
    } else {
        let busy_poll = busy_poll.map_or("-".into(), |time| format!("{time:?}"));
        let priority = priority.map_or("-".into(), |priority| priority.to_string());
        let pages = if huge_pages { "huge" } else { "small" };
        format!(
            "{memory}\n{pages:>16}  pages\n{busy_poll:>16}  busy poll\n{priority:>16}  real-time priority"
        )
    };
    writeln!(stdout(), "{text}").map_err(Failure::output)
}

/// Stops the server, prints what still happens and the report.
fn stop(
    server: Server,
    happened: &std::sync::mpsc::Receiver<Event>,
    log: &mut Log,
    unanswered: u64,
) -> Result<(), Failure> {
    // What it has counted by now; the report has what the stop itself still delivers.
    let counters = server.counters();
    let report = terminal::patiently("handing over what was accepted", || server.stop());
    while let Ok(event) = happened.try_recv() {
        log.event(event)?;
    }
    let (received, undelivered) = (counters.sessions.received, report.undelivered);
    let totals = counters.engine;
    if log.json {
        log.line(json!({
            "event": "stopped", "messages_in": received.messages_received,
            "messages_out": report.delivered, "undelivered_messages": undelivered.messages,
            "undelivered_bytes": undelivered.bytes, "unanswered": unanswered,
            "sessions": totals.connected, "refused": totals.refused,
            "failure": report.failure.as_ref().map(ToString::to_string),
        }))?;
    } else {
        let sessions = counted(totals.connected, "session");
        let messages = counted(received.messages_received, "message");
        log.line(format_args!("{sessions}, {messages} in; {report}"))?;
        if unanswered > 0 {
            let messages = counted(unanswered, "message");
            let why = "because who sent it did not read what came back";
            log.line(format_args!("not answered: {messages}, {why}"))?;
        }
    }
    match report.failure {
        Some(failure) => Err(Failure::new(format!("an engine has failed: {failure}; start it again"))),
        None => Ok(()),
    }
}

/// What the main thread is told.
enum Event {
    Connected { peer: String, address: SocketAddr },
    Disconnected { peer: String, address: SocketAddr, why: Disconnection },
    Rejected(Rejections),
    Interrupted,
}

/// Sends each message back; what happens it tells the main thread, which prints: an engine does not wait
/// for a terminal.
struct Echo {
    events: Sender<Event>,
    /// Messages that found no room to be sent back.
    unanswered: Arc<AtomicU64>,
}

impl Handler for Echo {
    fn on_connected(&mut self, peer: &mut Context<'_>) {
        let _ = self.events.send(Event::Connected { peer: peer.id().to_owned(), address: peer.address() });
    }

    #[inline]
    fn on_message(&mut self, peer: &mut Context<'_>, message: &[u8]) {
        if peer.send(message).is_err() {
            self.unanswered.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn on_disconnected(&mut self, peer: &mut Context<'_>, why: &Disconnection) {
        let (peer, address, why) = (peer.id().to_owned(), peer.address(), *why);
        let _ = self.events.send(Event::Disconnected { peer, address, why });
    }

    // Not each: nobody who knocks is to fill what the main thread has still to print.
    fn on_rejections(&mut self, some: &Rejections) {
        let _ = self.events.send(Event::Rejected(*some));
    }
}

/// What is printed: a line for each event, in words or in JSON.
struct Log {
    json: bool,
}

impl Log {
    fn line(&mut self, line: impl std::fmt::Display) -> Result<(), Failure> {
        writeln!(stdout(), "{line}").map_err(Failure::output)
    }

    fn listening(&mut self, server: &Server) -> Result<(), Failure> {
        let (address, driver) = (server.local_addr(), server.driver());
        if self.json {
            let (driver, fallback) = (driver.name, &driver.fallback);
            return self.line(json!({
                "event": "listening", "address": address, "driver": driver, "fallback": fallback,
            }));
        }
        self.line(format_args!("listening on {address}, driver {driver}; Ctrl-C ends it"))
    }

    fn scraped(&mut self, address: SocketAddr) -> Result<(), Failure> {
        if self.json {
            return self.line(json!({ "event": "metrics", "address": address }));
        }
        self.line(format_args!("metrics at http://{address}/metrics"))
    }

    fn event(&mut self, event: Event) -> Result<(), Failure> {
        if self.json {
            return match event {
                Event::Connected { peer, address } => {
                    self.line(json!({ "event": "connected", "peer": peer, "address": address }))
                }
                Event::Disconnected { peer, address, why } => self.line(json!({
                    "event": "disconnected", "peer": peer, "address": address,
                    "reason": why.reason.to_string(), "undelivered_messages": why.undelivered.messages,
                    "undelivered_bytes": why.undelivered.bytes,
                })),
                Event::Rejected(some) => self.line(json!({
                    "event": "rejected", "address": some.address, "reason": some.why.to_string(),
                    "others": some.others,
                })),
                Event::Interrupted => Ok(()),
            };
        }
        match event {
            Event::Connected { peer, address } => self.line(format_args!("{peer} ({address}) is here")),
            Event::Disconnected { peer, address, why } => {
                self.line(format_args!("{peer} ({address}) left: {why}"))
            }
            Event::Rejected(some) => self.line(some),
            Event::Interrupted => Ok(()),
        }
    }

    /// How many are connected and how much has come and gone, where that has changed.
    fn counts(&mut self, server: &Server, last: &mut Option<(u64, u64, u64)>) -> Result<(), Failure> {
        let counters = server.counters();
        let here = counters.engine.connected.saturating_sub(counters.engine.disconnected);
        let incoming = counters.sessions.received.messages_received;
        let outgoing = counters.sessions.sent.messages_accepted;
        if *last == Some((here, incoming, outgoing)) || (last.is_none() && incoming == 0) {
            return Ok(());
        }
        *last = Some((here, incoming, outgoing));
        let incoming = counted(incoming, "message");
        self.line(format_args!("{here} connected, {incoming} in, {outgoing} out"))
    }
}
