//! One DEALER: round trips, a stream, and an open loop.
#![forbid(unsafe_code)]

use zmq::{Context, Message, Socket};

use super::{dealer, greet, greeted, try_recv};
use crate::failure::Failure;
use crate::job::{Job, Outcome, Said};
use crate::measure::GRACE;
use crate::role::say;
use crate::script::{self, Arrivals, Pace, Pinger, Way, kind};

fn connect(context: &Context, job: &Job) -> Result<Socket, Failure> {
    let socket = dealer(context, job, 0)?;
    greet(&socket, 0)?;
    greeted(&socket, 0)?;
    say(&Said::Connected);
    Ok(socket)
}

pub(super) fn round_trip(job: &Job) -> Result<Outcome, Failure> {
    let context = Context::new();
    let socket = connect(&context, job)?;
    let (mut pinger, mut answer) = (Pinger::new(job)?, Message::new());
    pinger.start(job);
    loop {
        socket.send(pinger.message(), 0)?;
        socket.recv(&mut answer, 0)?;
        if !pinger.answered(&answer)? {
            return pinger.outcome();
        }
    }
}

struct Dealer(Socket);

impl Way for Dealer {
    #[inline]
    fn send(&mut self, message: &[u8]) -> Result<(), Failure> {
        Ok(self.0.send(message, 0)?)
    }

    fn answer(&mut self) -> Result<u64, Failure> {
        let mut answer = Message::new();
        self.0.recv(&mut answer, 0)?;
        script::counted(&answer)
    }
}

pub(super) fn stream(job: &Job) -> Result<Outcome, Failure> {
    let context = Context::new();
    script::stream(job, &mut Dealer(connect(&context, job)?))
}

/// A socket of libzmq's is one thread's, so what is due comes to it through another one, within the process.
pub(super) fn paced(job: &Job) -> Result<Outcome, Failure> {
    const DUE: &str = "inproc://due";
    let context = Context::new();
    let socket = connect(&context, job)?;
    let (put, due) = (context.socket(zmq::PAIR)?, context.socket(zmq::PAIR)?);
    put.set_linger(0)?;
    due.bind(DUE)?;
    put.connect(DUE)?;
    let pace = Pace::new(job);
    let arrivals = Arrivals::new(job, pace)?;
    std::thread::scope(|scope| {
        let io = scope.spawn(move || exchange(&socket, &due, arrivals));
        let mut message = script::message(job.size, kind::ECHO);
        for number in 0..pace.total {
            pace.wait(number);
            script::set_number(&mut message, number);
            put.send(&message[..], 0)?;
        }
        io.join().unwrap_or_else(|_| Err(Failure::new("the sockets' thread panicked")))
    })
}

/// Sends what is due, and takes answers, until there are no more to come.
fn exchange(socket: &Socket, due: &Socket, mut arrivals: Arrivals) -> Result<Outcome, Failure> {
    let mut message = Message::new();
    loop {
        let mut items = [socket.as_poll_item(zmq::POLLIN), due.as_poll_item(zmq::POLLIN)];
        if zmq::poll(&mut items, GRACE.as_millis() as i64)? == 0 {
            return Err(Failure::new("no answer came for a long time"));
        }
        while try_recv(due, &mut message)? {
            socket.send(std::mem::replace(&mut message, Message::new()), 0)?;
        }
        while try_recv(socket, &mut message)? {
            if !arrivals.take(&message)? {
                return Ok(arrivals.outcome());
            }
        }
    }
}
