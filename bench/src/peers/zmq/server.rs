//! The ROUTER.
#![forbid(unsafe_code)]

use zmq::{Context, Message, Socket};

use super::{GREETING_MAX, HIGH_WATER};
use crate::failure::Failure;
use crate::job::{Job, Said, Task};
use crate::role::say;
use crate::script::{self, Sink, kind};

pub(super) fn serve(job: &Job) -> Result<(), Failure> {
    let context = Context::new();
    let router = context.socket(zmq::ROUTER)?;
    router.set_sndhwm(HIGH_WATER)?;
    router.set_rcvhwm(HIGH_WATER)?;
    router.set_backlog(4096)?;
    // A ROUTER drops what a client has no room for, unless it is told to wait.
    router.set_router_mandatory(true)?;
    router.set_linger(0)?;
    router.bind("tcp://0.0.0.0:*")?;
    say(&Said::Ready { port: port(&router)?, driver: None });
    match job.task {
        Task::Stream | Task::Connect => take(&router, &mut Sink::new(job)),
        Task::Fan => fan(&router, job),
        Task::RoundTrip | Task::Paced | Task::Crowd | Task::Hold => echo(&router),
    }
}

fn port(router: &Socket) -> Result<u16, Failure> {
    let endpoint = router.get_last_endpoint()?.unwrap_or_default();
    let port = endpoint.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
    port.ok_or_else(|| Failure::new(format_args!("libzmq listens at {endpoint:?}, which has no port")))
}

fn echo(router: &Socket) -> Result<(), Failure> {
    loop {
        let (mut id, mut message) = (Message::new(), Message::new());
        router.recv(&mut id, 0)?;
        router.recv(&mut message, 0)?;
        answer(router, id, message)?;
    }
}

/// An answer to a client that has gone meanwhile is nobody's.
fn answer(router: &Socket, id: Message, message: Message) -> Result<(), Failure> {
    match router.send(id, zmq::SNDMORE).and_then(|()| router.send(message, 0)) {
        Ok(()) | Err(zmq::Error::EHOSTUNREACH) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn take(router: &Socket, sink: &mut Sink) -> Result<(), Failure> {
    let (mut id, mut message) = (Message::new(), Message::new());
    loop {
        router.recv(&mut id, 0)?;
        router.recv(&mut message, 0)?;
        if message.len() < GREETING_MAX {
            answer(
                router,
                std::mem::replace(&mut id, Message::new()),
                std::mem::replace(&mut message, Message::new()),
            )?;
        } else if let Some(counted) = sink.take(&message) {
            answer(router, std::mem::replace(&mut id, Message::new()), Message::from(&counted[..]))?;
        }
    }
}

/// One call for each message and each client, after all have said who they are.
fn fan(router: &Socket, job: &Job) -> Result<(), Failure> {
    let mut ids = Vec::with_capacity(job.clients);
    while ids.len() < job.clients {
        let (mut id, mut greeting) = (Message::new(), Message::new());
        router.recv(&mut id, 0)?;
        router.recv(&mut greeting, 0)?;
        ids.push(id.to_vec());
        answer(router, id, greeting)?;
    }
    let mut message = script::message(job.size, kind::COUNTED);
    for number in 0.. {
        script::set_number(&mut message, number);
        for id in &ids {
            answer(router, Message::from(&id[..]), Message::from(&message[..]))?;
        }
    }
    Ok(())
}
