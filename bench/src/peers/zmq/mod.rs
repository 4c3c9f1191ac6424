//! libzmq: a ROUTER for the server, a DEALER with an identity for each client, as its guide has it. It has a wire of
//! its own, so its clients are its own everywhere. A message shorter than any that counts is a client's greeting,
//! which goes back.
#![forbid(unsafe_code)]

mod many;
mod server;
mod single;

use zmq::{Context, Message, Socket};

use crate::failure::Failure;
use crate::job::{Job, Outcome, Task};
use crate::measure::GRACE;
use crate::script;
use crate::wire;

/// How many messages may wait on either side of a connection. libzmq's 1,000 make a stream stop and go.
const HIGH_WATER: i32 = 10_000;

/// Shorter than every other message.
const GREETING_MAX: usize = 16;

pub(crate) fn serve(job: &Job) -> Result<(), Failure> {
    server::serve(job)
}

pub(crate) fn play(job: &Job) -> Result<Outcome, Failure> {
    match job.task {
        Task::RoundTrip => single::round_trip(job),
        Task::Stream => single::stream(job),
        Task::Paced => single::paced(job),
        Task::Crowd => many::echoed(job),
        Task::Fan => many::receive(job),
        Task::Connect => many::connect(job),
        Task::Hold => many::hold(job),
    }
}

/// A client of this number, which the server does not know yet.
fn dealer(context: &Context, job: &Job, client: usize) -> Result<Socket, Failure> {
    let socket = context.socket(zmq::DEALER)?;
    socket.set_identity(wire::id(client).as_bytes())?;
    socket.set_sndhwm(HIGH_WATER)?;
    socket.set_rcvhwm(HIGH_WATER)?;
    // So that a run whose other side is stuck ends.
    socket.set_rcvtimeo(GRACE.as_millis() as i32)?;
    socket.set_sndtimeo(GRACE.as_millis() as i32)?;
    socket.set_linger(0)?;
    socket.connect(&format!("tcp://{}", job.address()?))?;
    Ok(socket)
}

fn greet(socket: &Socket, client: usize) -> Result<(), Failure> {
    socket.send(wire::id(client).as_bytes(), 0)?;
    Ok(())
}

fn greeted(socket: &Socket, client: usize) -> Result<(), Failure> {
    let mut answer = Message::new();
    socket.recv(&mut answer, 0)?;
    if *answer == *wire::id(client).as_bytes() { Ok(()) } else { Err(script::wrong("the server's greeting")) }
}

/// Receives, if there is something at hand.
fn try_recv(socket: &Socket, message: &mut Message) -> Result<bool, Failure> {
    match socket.recv(message, zmq::DONTWAIT) {
        Ok(()) => Ok(true),
        Err(zmq::Error::EAGAIN) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
