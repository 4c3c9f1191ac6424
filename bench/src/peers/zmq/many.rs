//! Many DEALERs in one process, which zmq_poll looks at together.
#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

use zmq::{Context, Message, Socket};

use super::{dealer, greet, greeted, try_recv};
use crate::failure::Failure;
use crate::job::{Job, Outcome, Said};
use crate::measure::{Counts, GRACE, Window, histogram, latency, nanos};
use crate::role::say;
use crate::script::{self, kind};
use crate::system;

/// How many messages one client may take before the others have their turn.
const TURN: usize = 256;

fn join(context: &Context, job: &Job) -> Result<Vec<Socket>, Failure> {
    let sockets: Vec<Socket> =
        (0..job.clients).map(|client| dealer(context, job, client)).collect::<Result<_, _>>()?;
    for (client, socket) in sockets.iter().enumerate() {
        greet(socket, client)?;
    }
    for (client, socket) in sockets.iter().enumerate() {
        greeted(socket, client)?;
    }
    Ok(sockets)
}

/// Waits until at least one of them has something; which ones do.
fn poll(sockets: &[Socket], ready: &mut Vec<usize>) -> Result<(), Failure> {
    let mut items: Vec<_> = sockets.iter().map(|socket| socket.as_poll_item(zmq::POLLIN)).collect();
    if zmq::poll(&mut items, GRACE.as_millis() as i64)? == 0 {
        return Err(Failure::new("no message came for a long time"));
    }
    ready.clear();
    ready.extend(items.iter().enumerate().filter(|(_, item)| item.is_readable()).map(|(index, _)| index));
    Ok(())
}

pub(super) fn echoed(job: &Job) -> Result<Outcome, Failure> {
    let context = Context::new();
    let sockets = join(&context, job)?;
    say(&Said::Connected);
    let (mut latencies, mut window) = (histogram()?, Window::new(job));
    let mut clients = vec![(0, Instant::now()); sockets.len()];
    let mut sent = script::message(job.size, kind::ECHO);
    for socket in &sockets {
        socket.send(&sent[..], 0)?;
    }
    let (mut ready, mut answer) = (Vec::with_capacity(sockets.len()), Message::new());
    loop {
        poll(&sockets, &mut ready)?;
        for &index in &ready {
            let (number, due) = &mut clients[index];
            if !try_recv(&sockets[index], &mut answer)? {
                continue;
            }
            let now = Instant::now();
            script::set_number(&mut sent, *number);
            if !script::same(&answer, &sent) {
                return Err(script::wrong("an answer"));
            }
            match window.look(now)? {
                Counts::Not => {}
                Counts::Yes => latencies.saturating_record(nanos(*due, now)),
                Counts::Over => {
                    let messages = latencies.len();
                    let bytes = messages * job.size as u64;
                    let closed = window.close()?;
                    return Ok(Outcome { messages, bytes, latency: Some(latency(&latencies)), ..closed });
                }
            }
            (*number, *due) = (*number + 1, now);
            script::set_number(&mut sent, *number);
            sockets[index].send(&sent[..], 0)?;
        }
    }
}

pub(super) fn receive(job: &Job) -> Result<Outcome, Failure> {
    let context = Context::new();
    let sockets = join(&context, job)?;
    say(&Said::Connected);
    let mut window = Window::new(job);
    let (mut next, mut shares) = (vec![0; sockets.len()], vec![0; sockets.len()]);
    let mut expected = script::message(job.size, kind::COUNTED);
    let (mut ready, mut message) = (Vec::with_capacity(sockets.len()), Message::new());
    loop {
        poll(&sockets, &mut ready)?;
        let counts = window.look(Instant::now())?;
        if counts == Counts::Over {
            break;
        }
        for &index in &ready {
            for _ in 0..TURN {
                if !try_recv(&sockets[index], &mut message)? {
                    break;
                }
                script::set_number(&mut expected, next[index]);
                if !script::same(&message, &expected) {
                    return Err(script::wrong("a message"));
                }
                next[index] += 1;
                shares[index] += u64::from(counts == Counts::Yes);
            }
        }
    }
    let messages = shares.iter().sum();
    Ok(Outcome { messages, bytes: messages * job.size as u64, shares, ..window.close()? })
}

pub(super) fn connect(job: &Job) -> Result<Outcome, Failure> {
    let context = Context::new();
    let message = script::message(job.size, kind::COUNTED);
    say(&Said::Connected);
    let (mut latencies, mut window) = (histogram()?, Window::new(job));
    let mut connected = 0;
    let mut due = Instant::now();
    loop {
        let socket = dealer(&context, job, connected)?;
        // Closing is not to throw away what was sent.
        socket.set_linger(GRACE.as_millis() as i32)?;
        greet(&socket, connected)?;
        greeted(&socket, connected)?;
        socket.send(&message[..], 0)?;
        drop(socket);
        connected += 1;
        let now = Instant::now();
        match window.look(now)? {
            Counts::Not => {}
            Counts::Yes => latencies.saturating_record(nanos(due, now)),
            Counts::Over => break,
        }
        due = now;
    }
    let messages = latencies.len();
    let outcome = Outcome { messages, latency: Some(latency(&latencies)), ..window.close()? };
    all_arrived(&context, job, connected)?;
    Ok(outcome)
}

/// Asks the server until it has counted all messages.
fn all_arrived(context: &Context, job: &Job, sent: usize) -> Result<(), Failure> {
    let socket = dealer(context, job, sent)?;
    let end = script::message(job.size, kind::END);
    let (begun, mut answer) = (Instant::now(), Message::new());
    loop {
        socket.send(&end[..], 0)?;
        socket.recv(&mut answer, 0)?;
        let counted = script::counted(&answer)?;
        if counted == sent as u64 {
            return Ok(());
        }
        if counted > sent as u64 || begun.elapsed() > GRACE {
            return Err(Failure::new(format_args!("{sent} messages were sent, and {counted} arrived")));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub(super) fn hold(job: &Job) -> Result<Outcome, Failure> {
    let process = job.listening()?.process;
    let before = system::resident_of(process)?;
    let context = Context::new();
    let sockets = join(&context, job)?;
    say(&Said::Connected);
    std::thread::sleep(job.warm_up.max(Duration::from_millis(50)));
    let after = system::resident_of(process)?;
    let (begun, cpu) = (Instant::now(), system::cpu_of(process)?);
    std::thread::sleep(job.run);
    let server_cpu = Some(system::cpu_of(process)?.saturating_sub(cpu));
    let seconds = begun.elapsed().as_secs_f64();
    drop(sockets);
    Ok(Outcome { seconds, server_cpu, resident: Some((before, after)), ..Outcome::default() })
}
