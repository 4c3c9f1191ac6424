//! zerio's servers, polled or on threads.
#![forbid(unsafe_code)]

use std::sync::Arc;

use zerio::tls::TlsServer;
use zerio::{Builder, Handler, Listen, PolledServer, SendError, Server};

use super::config;
use super::handlers::{Echo, Gather, Handover};
use crate::failure::Failure;
use crate::job::{Drive, Job, Said, Task};
use crate::measure::GRACE;
use crate::role::{rest, say};
use crate::script::{self, Sink, kind};
use crate::tls::Identity;
use crate::wire;

/// Any address of this machine, and a free port.
const ANY: &str = "0.0.0.0:0";

pub(super) fn serve(job: &Job) -> Result<(), Failure> {
    match job.task {
        Task::Fan if job.drive == Drive::Spin => fan_polled(job),
        Task::Fan => fan(job),
        Task::Stream | Task::Connect => with(job, |_| Sink::new(job)),
        Task::RoundTrip | Task::Paced | Task::Crowd | Task::Hold => with(job, |_| Echo),
    }
}

fn builder(job: &Job) -> Result<Builder<Listen>, Failure> {
    let builder = Server::bind(ANY)?.config(config(job));
    if !job.tls {
        return Ok(builder);
    }
    let identity = Identity::announced()?;
    let (certificate, key) = (identity.certificate(), identity.key());
    Ok(builder.tls(TlsServer::from_pem(certificate.as_bytes(), key.as_bytes())?))
}

/// Runs until the process ends.
fn with<H: Handler + Send + 'static>(job: &Job, make: impl Fn(usize) -> H) -> Result<(), Failure> {
    if job.drive == Drive::Spin {
        let mut server = polled(job, make(0))?;
        loop {
            server.poll()?;
        }
    }
    let server = builder(job)?.start_each(make)?;
    ready(server.local_addr().port(), server.driver().name);
    rest()
}

fn polled<H: Handler>(job: &Job, handler: H) -> Result<PolledServer<H>, Failure> {
    let server = builder(job)?.handler(handler).start_polled()?;
    ready(server.local_addr().port(), server.driver().name);
    Ok(server)
}

fn ready(port: u16, driver: &str) {
    say(&Said::Ready { port, driver: Some(driver.to_owned()) });
}

/// One call for each message and each client, by peer id. A loop that drives its server polls it now and then: here
/// after as many rounds as the control gathers messages before it writes them.
fn fan_polled(job: &Job) -> Result<(), Failure> {
    let ids: Vec<String> = (0..job.clients).map(wire::id).collect();
    let mut message = script::message(job.size, kind::COUNTED);
    let mut server = polled(job, Echo)?;
    while server.connected() < job.clients {
        server.poll()?;
    }
    for number in 0.. {
        script::set_number(&mut message, number);
        for id in &ids {
            loop {
                match server.try_send(id, &message) {
                    Ok(()) => break,
                    Err(SendError::Full) => server.poll()?,
                    // The clients have gone.
                    Err(_) => rest(),
                };
            }
        }
        if number % job.batch as u64 == 0 {
            server.poll()?;
        }
    }
    Ok(())
}

/// One call for each message and each client, from a thread of the user's, through handles.
fn fan(job: &Job) -> Result<(), Failure> {
    let mut message = script::message(job.size, kind::COUNTED);
    let all = Arc::new(Handover::default());
    let gather = Gather { peers: Vec::with_capacity(job.clients), all: all.clone() };
    let server = builder(job)?.handler(gather).start()?;
    ready(server.local_addr().port(), server.driver().name);
    let peers = all.take(GRACE)?;
    for number in 0.. {
        script::set_number(&mut message, number);
        for peer in &peers {
            if peer.send(&message).is_err() {
                // The clients have gone.
                rest();
            }
        }
    }
    Ok(())
}
