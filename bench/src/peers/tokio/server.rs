//! tokio's servers: a task for each connection.
#![forbid(unsafe_code)]

use std::cell::RefCell;
use std::rc::Rc;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpListener;
use tokio::task::LocalSet;
use tokio_rustls::TlsAcceptor;

use super::{Connection, accepted, at_hand, framed, owned};
use crate::failure::Failure;
use crate::job::{Job, Said, Task};
use crate::role::say;
use crate::script::{self, Sink, kind};
use crate::system;
use crate::tls::Identity;

pub(super) async fn serve(job: &Job) -> Result<(), Failure> {
    let listener = system::listen()?;
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let acceptor = if job.tls { Some(TlsAcceptor::from(Identity::announced()?.server()?)) } else { None };
    say(&Said::Ready { port: listener.local_addr()?.port(), driver: None });
    if job.task == Task::Fan {
        return fan(listener, job, acceptor.as_ref()).await;
    }
    let sink = match job.task {
        Task::Stream | Task::Connect => Some(Rc::new(RefCell::new(Sink::new(job)))),
        _ => None,
    };
    let tasks = LocalSet::new();
    tasks
        .run_until(async {
            loop {
                let (stream, _) = listener.accept().await?;
                let (job, sink, acceptor) = (job.clone(), sink.clone(), acceptor.clone());
                tokio::task::spawn_local(async move {
                    // An error here is the client's end.
                    let Ok(stream) = accepted(stream, acceptor.as_ref()).await else { return };
                    let framed = framed(stream, &job);
                    let _ = match sink {
                        Some(sink) => take(framed, &sink).await,
                        None => echo(framed).await,
                    };
                });
            }
        })
        .await
}

/// Sends each message back, the greeting too: all that one read has brought goes back with one write.
async fn echo(mut framed: Connection) -> Result<(), Failure> {
    loop {
        let next = match at_hand(&mut framed) {
            Some(next) => next,
            None => {
                SinkExt::<Bytes>::flush(&mut framed).await?;
                framed.next().await
            }
        };
        let Some(message) = next else { return Ok(()) };
        framed.feed(message?.freeze()).await?;
    }
}

async fn take(mut framed: Connection, sink: &RefCell<Sink>) -> Result<(), Failure> {
    if let Some(hello) = framed.next().await {
        framed.send(hello?.freeze()).await?;
    }
    while let Some(message) = framed.next().await {
        let answer = sink.borrow_mut().take(&message?);
        if let Some(answer) = answer {
            framed.send(owned(&answer)).await?;
        }
    }
    Ok(())
}

/// Feeds each message to each client; the codec's buffer is written when it is full.
async fn fan(listener: TcpListener, job: &Job, acceptor: Option<&TlsAcceptor>) -> Result<(), Failure> {
    let mut clients = Vec::with_capacity(job.clients);
    while clients.len() < job.clients {
        let mut framed = framed(accepted(listener.accept().await?.0, acceptor).await?, job);
        if let Some(hello) = framed.next().await {
            framed.send(hello?.freeze()).await?;
        }
        clients.push(framed);
    }
    let mut message = script::message(job.size, kind::COUNTED);
    for number in 0.. {
        script::set_number(&mut message, number);
        let bytes = Bytes::copy_from_slice(&message);
        for client in &mut clients {
            if client.feed(bytes.clone()).await.is_err() {
                // The clients have gone.
                return Ok(());
            }
        }
    }
    Ok(())
}
