//! `zerio send` and `zerio listen`: lines of text as messages, from standard input and to standard output.
//! A message may be any bytes; here its end is a newline.
#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::io::{self, BufRead, BufWriter, IsTerminal, Read, Stdout, Write, stdin, stdout};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use indicatif::ProgressBar;
use serde_json::json;
use zerio::{Client, Context, Disconnection, Handler, Peer, Reason, Rejections, SendError};

use crate::args;
use crate::counters::harmless;
use crate::failure::{Failure, after_the_end};
use crate::interrupt;
use crate::terminal::{self, counted};

/// How often it is looked whether the engine lives, and how far sending has come.
const LOOK: Duration = Duration::from_secs(1);

/// How long the end of an input that nobody types may take to come when the session has ended: a server that has
/// heard all that it wanted may leave before this side has read that there is no more.
const LAST_LINE: Duration = Duration::from_secs(5);

/// What the main thread is told.
enum Event {
    /// All lines were accepted, or why not.
    Sent(Result<(), Failure>),
    /// The client's session has ended.
    Ended(Disconnection),
    /// Standard output can't be written to.
    Output(io::Error),
    /// There were as many messages as were asked for.
    Enough,
    Interrupted,
}

pub(crate) fn send(args: &args::Send) -> Result<(), Failure> {
    let tls = args.tls.settings()?;
    let mut config = args.settings.config(tls.is_some());
    config.send_timeout = args.send_timeout;
    let message_max = config.message_max;
    let (events, happened) = channel();
    let interrupts = events.clone();
    interrupt::catch(move || drop(interrupts.send(Event::Interrupted)))?;
    let id = args.id.clone().unwrap_or_else(|| format!("send-{}", std::process::id()));
    let ends = events.clone();
    let connecting = format!("connecting to {}", args.address);
    let client = terminal::patiently(&connecting, || {
        let mut client = Client::connect(args.address.clone(), &id)?.config(config);
        if let Some(tls) = tls {
            client = client.tls(tls);
        }
        client.on_disconnected(move |_, why| drop(ends.send(Event::Ended(*why)))).start()
    })?;

    // Reading can't be interrupted: a thread does it, which is left behind at a Ctrl-C.
    let (peer, lines) = (client.peer(), Arc::new(AtomicU64::new(0)));
    let sent = lines.clone();
    std::thread::spawn(move || {
        let outcome = send_lines(&peer, message_max, &sent);
        drop(events.send(Event::Sent(outcome)));
    });

    let progress = ProgressBar::new_spinner();
    let mut ended = None;
    let outcome = loop {
        match happened.recv_timeout(LOOK) {
            Ok(Event::Sent(outcome)) => break outcome,
            Ok(Event::Ended(why)) => {
                ended = Some(why);
                let patience = if stdin().is_terminal() { Duration::ZERO } else { LAST_LINE };
                break match happened.recv_timeout(patience) {
                    Ok(Event::Sent(outcome)) => outcome,
                    _ => {
                        let next = after_the_end(why.reason);
                        Err(Failure::new(format!("the server ended the session: {why}{next}")))
                    }
                };
            }
            Ok(Event::Interrupted) => break Ok(()),
            Ok(Event::Output(_) | Event::Enough) => {}
            Err(_) => {
                progress.set_message(format!("{} lines accepted", lines.load(Ordering::Relaxed)));
                progress.tick();
            }
        }
    };
    progress.finish_and_clear();
    let report = terminal::patiently("handing over what was accepted", || client.stop());
    let told = happened.try_iter().find_map(|event| match event {
        Event::Ended(why) => Some(why),
        _ => None,
    });
    let ended = ended.or(told).map(|why| why.reason);
    // A session that ended while lines were accepted is the better reason than their refusal; that this side
    // has stopped it is none.
    let better = ended
        .filter(|reason| *reason != Reason::Stopped)
        .map(|reason| (reason.to_string(), after_the_end(reason)));
    let ended = ended.map(|reason| reason.to_string());
    let undelivered = report.undelivered;
    if args.json {
        let line = json!({
            "delivered": report.delivered, "undelivered_messages": undelivered.messages,
            "undelivered_bytes": undelivered.bytes, "reason": ended,
        });
        writeln!(stdout(), "{line}").map_err(Failure::output)?;
    } else {
        terminal::note(&report);
    }
    match outcome {
        Err(Failure::Failed(what)) => match better {
            Some((why, next)) if !what.contains(&why) => Err(Failure::new(format!("{what}: {why}{next}"))),
            _ => Err(Failure::Failed(what)),
        },
        Err(other) => Err(other),
        Ok(()) if !undelivered.is_empty() => Err(Failure::new(
            "not all was delivered; send again what is missing, or give more --drain-timeout",
        )),
        Ok(()) => Ok(()),
    }
}

/// Sends each line of standard input, waiting for room.
fn send_lines(peer: &Peer, message_max: usize, accepted: &AtomicU64) -> Result<(), Failure> {
    let mut input = stdin().lock();
    let mut line = Vec::new();
    loop {
        line.clear();
        // One byte more than fits, and a newline: enough to tell that a line is too long.
        let read = (&mut input).take(message_max as u64 + 2).read_until(b'\n', &mut line);
        if read.map_err(|error| Failure::new(format!("can't read standard input: {error}")))? == 0 {
            return Ok(());
        }
        if line.last() == Some(&b'\n') {
            line.pop();
        }
        let number = accepted.load(Ordering::Relaxed) + 1;
        if line.len() > message_max {
            let what = format!(
                "line {number} and what follows it were not sent: it is longer than {message_max} bytes"
            );
            return Err(Failure::new(format!("{what}; give a higher --message-max, here and at the server")));
        }
        peer.send(&line).map_err(|error| refused(error, number))?;
        accepted.store(number, Ordering::Relaxed);
    }
}

/// Why a line was not accepted, and what to do.
fn refused(error: SendError, number: u64) -> Failure {
    let next = match error {
        SendError::TimedOut => "; the server reads too slowly: give a longer --send-timeout",
        _ => "",
    };
    Failure::new(format!("line {number} and what follows it were not sent: {error}{next}"))
}

pub(crate) fn listen(args: &args::Listen) -> Result<(), Failure> {
    let tls = args.tls.settings()?;
    let mut config = args.settings.config(tls.is_some());
    args.server.apply(&mut config);
    let (events, happened) = channel();
    let interrupts = events.clone();
    interrupt::catch(move || drop(interrupts.send(Event::Interrupted)))?;
    let for_eyes = stdout().is_terminal();
    let shape = if args.json { Shape::Json } else { Shape::Line { for_eyes } };
    let (out, counts) = (BufWriter::new(stdout()), Arc::new(Counts::default()));
    let (left, failed) = (args.count, false);
    let writer = Writer { out, shape, counts: counts.clone(), events, left, failed };
    let server = args.server.bind(&args.address, tls)?.config(config).handler(writer).start()?;
    terminal::note(format_args!(
        "listening on {}, driver {}; Ctrl-C ends it",
        server.local_addr(),
        server.driver()
    ));

    let outcome = loop {
        match happened.recv_timeout(LOOK) {
            Ok(Event::Interrupted | Event::Enough) => break Ok(()),
            Ok(Event::Output(error)) => break Err(Failure::output(error)),
            Ok(Event::Sent(_) | Event::Ended(_)) => {}
            Err(RecvTimeoutError::Timeout) if server.is_running() => {}
            Err(_) => break Err(Failure::new("the server's engine has ended; start it again")),
        }
    };
    let report = terminal::patiently("closing the sessions", || server.stop());
    let outcome = match report.failure {
        Some(failure) => Err(Failure::new(format!("the server's engine has failed: {failure}"))),
        None => outcome,
    };
    if let Err(Failure::NobodyReads) = outcome {
        return outcome;
    }
    let [messages, sessions] =
        [&counts.messages, &counts.sessions].map(|count| count.load(Ordering::Relaxed));
    if args.json {
        let reason = outcome.as_ref().err().map(Failure::text);
        let line = json!({ "messages": messages, "sessions": sessions, "reason": reason });
        outcome.and(writeln!(stdout(), "{line}").map_err(Failure::output))
    } else {
        terminal::note(format_args!("{} of {}", counted(messages, "message"), counted(sessions, "session")));
        outcome
    }
}

/// How a message is printed.
#[derive(Clone, Copy)]
enum Shape {
    /// As it is, with a newline. To a terminal bytes may be commands, and Windows' refuses those that are no text.
    Line {
        for_eyes: bool,
    },
    Json,
}

/// What there was so far.
#[derive(Default)]
struct Counts {
    messages: AtomicU64,
    sessions: AtomicU64,
}

/// Writes each message as a line. It waits for standard output, and so does its engine: TCP then pushes
/// back on the senders, and nothing piles up here.
struct Writer {
    out: BufWriter<Stdout>,
    shape: Shape,
    counts: Arc<Counts>,
    events: Sender<Event>,
    /// How many are still to come; `None` for no end.
    left: Option<u64>,
    failed: bool,
}

impl Writer {
    fn write(&mut self, peer: &str, message: &[u8], batch_end: bool) -> io::Result<()> {
        match self.shape {
            Shape::Line { for_eyes } => self.out.write_all(&shown(message, for_eyes))?,
            Shape::Json => write!(self.out, "{}", described(peer, message))?,
        }
        self.out.write_all(b"\n")?;
        self.counts.messages.fetch_add(1, Ordering::Relaxed);
        if batch_end || self.left == Some(0) { self.out.flush() } else { Ok(()) }
    }
}

/// A message as a program reads it: text, or the bytes in hexadecimal where they are none.
fn described(peer: &str, message: &[u8]) -> serde_json::Value {
    match std::str::from_utf8(message) {
        Ok(text) => json!({ "peer": peer, "text": text }),
        Err(_) => {
            let hex = message.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
            json!({ "peer": peer, "hex": hex })
        }
    }
}

/// A message as a line has it.
fn shown(message: &[u8], for_eyes: bool) -> Cow<'_, [u8]> {
    if !for_eyes {
        return Cow::Borrowed(message);
    }
    let text = String::from_utf8_lossy(message);
    // A tab does no harm.
    let parts: Vec<String> = text.split('\t').map(harmless).collect();
    Cow::Owned(parts.join("\t").into_bytes())
}

impl Handler for Writer {
    fn on_connected(&mut self, peer: &mut Context<'_>) {
        self.counts.sessions.fetch_add(1, Ordering::Relaxed);
        terminal::note(format_args!("{} ({}) is here", peer.id(), peer.address()));
    }

    fn on_message(&mut self, peer: &mut Context<'_>, message: &[u8]) {
        if self.failed || self.left == Some(0) {
            return;
        }
        self.left = self.left.map(|left| left - 1);
        if let Err(error) = self.write(peer.id(), message, peer.is_batch_end()) {
            self.failed = true;
            let _ = self.events.send(Event::Output(error));
        } else if self.left == Some(0) {
            let _ = self.events.send(Event::Enough);
        }
    }

    fn on_disconnected(&mut self, peer: &mut Context<'_>, why: &Disconnection) {
        terminal::note(format_args!("{} ({}) left: {why}", peer.id(), peer.address()));
    }

    fn on_rejections(&mut self, some: &Rejections) {
        terminal::note(some);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_could_have_written_commands_to_a_terminal() {
        let message = b"a\xffb\t\xc3\xbc\x1b]0;title\x07\xc2\x9b2J";
        assert_eq!(*shown(message, false), *message);
        let seen = "a\u{fffd}b\t\u{fc}\u{fffd}]0;title\u{fffd}\u{fffd}2J";
        assert_eq!(*shown(message, true), *seen.as_bytes());
    }
}
