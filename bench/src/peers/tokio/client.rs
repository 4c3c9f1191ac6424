//! tokio's clients.
#![forbid(unsafe_code)]

use std::time::Instant;

use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt, StreamExt};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::{Connection, framed, owned, runtime};
use crate::failure::Failure;
use crate::job::{Job, Outcome, Said};
use crate::role::say;
use crate::script::{self, Arrivals, Course, Pace, Pinger, kind};
use crate::wire;

async fn connect(job: &Job) -> Result<Connection, Failure> {
    let mut framed = framed(super::connect(job).await?, job);
    let id = wire::id(0);
    framed.send(owned(id.as_bytes())).await?;
    if next(&mut framed).await? != id.as_bytes() {
        return Err(script::wrong("the server's greeting"));
    }
    say(&Said::Connected);
    Ok(framed)
}

async fn next(framed: &mut Connection) -> Result<BytesMut, Failure> {
    match framed.next().await {
        Some(message) => Ok(message?),
        None => Err(script::ended()),
    }
}

pub(super) async fn round_trip(job: &Job) -> Result<Outcome, Failure> {
    let mut framed = connect(job).await?;
    let mut pinger = Pinger::new(job)?;
    pinger.start(job);
    loop {
        framed.send(owned(pinger.message())).await?;
        let answer = next(&mut framed).await?;
        if !pinger.answered(&answer)? {
            return pinger.outcome();
        }
    }
}

pub(super) async fn stream(job: &Job) -> Result<Outcome, Failure> {
    let mut framed = connect(job).await?;
    let message = |kind| Bytes::from(script::message(job.size, kind));
    let (counts, end) = (message(kind::COUNTED), message(kind::END));
    send_for(job.warm_up, &mut framed, &counts).await?;
    framed.send(message(kind::WARM_UP_END)).await?;
    script::counted(&next(&mut framed).await?)?;

    let course = Course::begin(job);
    let sent = send_for(job.run, &mut framed, &counts).await?;
    framed.send(end).await?;
    let counted = script::counted(&next(&mut framed).await?)?;
    course.end(job, counted, &[sent])
}

/// Feeds messages for so long, in bursts; tells how many. The codec's buffer is written when it is full.
async fn send_for(
    time: std::time::Duration,
    framed: &mut Connection,
    message: &Bytes,
) -> Result<u64, Failure> {
    let (begun, burst) = (Instant::now(), script::burst(message.len()));
    let mut sent = 0;
    while begun.elapsed() < time {
        for _ in 0..burst {
            framed.feed(message.clone()).await?;
        }
        sent += burst;
    }
    Ok(sent)
}

/// A thread that hands what is due to the runtime, through a channel: tokio's own timers have a resolution of a
/// millisecond.
pub(super) fn paced(job: &Job) -> Result<Outcome, Failure> {
    let (runtime, (sender, due)) = (runtime()?, unbounded_channel());
    let framed = runtime.block_on(connect(job))?;
    let pace = Pace::new(job);
    let arrivals = Arrivals::new(job, pace)?;
    std::thread::scope(|scope| {
        let io = scope.spawn(move || runtime.block_on(exchange(framed, due, arrivals)));
        let mut message = script::message(job.size, kind::ECHO);
        for number in 0..pace.total {
            pace.wait(number);
            script::set_number(&mut message, number);
            if sender.send(owned(&message)).is_err() {
                break;
            }
        }
        io.join().unwrap_or_else(|_| Err(Failure::new("the runtime's thread panicked")))
    })
}

/// Sends what the channel has, and takes answers, until there are no more to come.
async fn exchange(
    framed: Connection,
    mut due: UnboundedReceiver<Bytes>,
    mut arrivals: Arrivals,
) -> Result<Outcome, Failure> {
    let (mut write, mut read) = framed.split();
    let send = async {
        let mut some = Vec::with_capacity(64);
        while due.recv_many(&mut some, 64).await > 0 {
            for message in some.drain(..) {
                write.feed(message).await?;
            }
            write.flush().await?;
        }
        // All is sent; what is left are answers.
        std::future::pending::<Result<Outcome, Failure>>().await
    };
    let receive = async {
        while let Some(answer) = read.next().await {
            if !arrivals.take(&answer?)? {
                return Ok(arrivals.outcome());
            }
        }
        Err(script::ended())
    };
    futures_util::pin_mut!(send, receive);
    match futures_util::future::select(send, receive).await {
        futures_util::future::Either::Left((outcome, _)) => outcome,
        futures_util::future::Either::Right((outcome, _)) => outcome,
    }
}
