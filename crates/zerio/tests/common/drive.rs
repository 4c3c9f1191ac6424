//! Servers and clients that a test uses in the same way, whether the library drives them or the test does.
//! Where the test drives, each has a thread that makes it, polls it, and does between two polls what the
//! test asks for.
#![forbid(unsafe_code)]

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Sender as Jobs, TryRecvError, channel, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use zerio::tls::{TlsClient, TlsServer};
use zerio::{
    Client, Config, Counters, Error, Peer, PolledClient, PolledServer, Report, Sender, Server,
    SessionCounters,
};

use super::{Drive, Recorder};

/// So many polls without work, then the loop rests, so that many of them get on on few cores.
const IDLE_POLLS: u32 = 200;

/// How long it rests.
const REST: Duration = Duration::from_micros(100);

type Job<T> = Box<dyn FnOnce(&mut Option<T>) + Send>;

/// A thread that polls something that must not leave it.
pub struct Loop<T: 'static> {
    jobs: Option<Jobs<Job<T>>>,
    thread: Option<JoinHandle<()>>,
}

impl<T: 'static> Loop<T> {
    fn spawn(
        make: impl FnOnce() -> Result<T, Error> + Send + 'static,
        poll: impl Fn(&mut T) -> Result<usize, Error> + Send + 'static,
    ) -> Result<Loop<T>, Error> {
        let (jobs, to_do) = channel::<Job<T>>();
        let (made, is_made) = sync_channel(1);
        let thread = std::thread::spawn(move || {
            let mut polled = match make() {
                Ok(polled) => Some(polled),
                Err(error) => return drop(made.send(Err(error))),
            };
            let _ = made.send(Ok(()));
            let (mut idle, mut ended) = (0, false);
            while polled.is_some() {
                let job = match ended {
                    true => to_do.recv().map_err(|_| TryRecvError::Disconnected),
                    false => to_do.try_recv(),
                };
                match job {
                    Ok(job) => job(&mut polled),
                    Err(TryRecvError::Empty) => {}
                    Err(TryRecvError::Disconnected) => return,
                }
                let Some(polled) = &mut polled else { return };
                // A handler's panic comes through `poll`; the next one tells that the engine has ended.
                let turn = catch_unwind(AssertUnwindSafe(|| poll(polled)));
                match turn {
                    Ok(Ok(0)) => idle += 1,
                    Ok(Ok(_)) | Err(_) => idle = 0,
                    Ok(Err(_)) => ended = true,
                }
                if idle > IDLE_POLLS {
                    std::thread::sleep(REST);
                }
            }
        });
        is_made.recv().expect("the loop tells")?;
        Ok(Loop { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Does something between two polls.
    pub fn ask<R: Send + 'static>(&self, job: impl FnOnce(&mut T) -> R + Send + 'static) -> R {
        self.submit(|polled| job(polled.as_mut().expect("not taken yet")))
    }

    /// Takes it out of its loop, which ends.
    fn take<R: Send + 'static>(self, job: impl FnOnce(T) -> R + Send + 'static) -> R {
        self.submit(|polled| job(polled.take().expect("not taken yet")))
    }

    fn submit<R: Send + 'static>(&self, job: impl FnOnce(&mut Option<T>) -> R + Send + 'static) -> R {
        let (result, is_done) = sync_channel(1);
        let job: Job<T> = Box::new(move |polled| drop(result.send(job(polled))));
        let jobs = self.jobs.as_ref().expect("open until dropped");
        assert!(jobs.send(job).is_ok(), "the loop runs");
        is_done.recv().expect("the loop has done it")
    }
}

impl<T: 'static> Drop for Loop<T> {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            if !std::thread::panicking() {
                ended.expect("the loop ends well");
            }
        }
    }
}

/// A server, however it is driven. Dropping it drops the library's.
pub struct TestServer {
    address: SocketAddr,
    inner: ServerInner,
}

enum ServerInner {
    Thread(Server),
    Polled(Loop<PolledServer<Recorder>>),
}

pub fn server(drive: Drive, address: &str, config: Config, recorder: Recorder) -> TestServer {
    server_under(drive, address, config, recorder, None)
}

pub fn server_under(
    drive: Drive,
    address: &str,
    config: Config,
    recorder: Recorder,
    tls: Option<TlsServer>,
) -> TestServer {
    let mut builder = Server::bind(address).expect("a port").config(config).handler(recorder);
    if let Some(tls) = tls {
        builder = builder.tls(tls);
    }
    let address = builder.local_addr();
    let inner = match drive {
        Drive::Thread => ServerInner::Thread(builder.start().expect("a server")),
        Drive::Polled => {
            let polled = Loop::spawn(move || builder.start_polled(), PolledServer::poll);
            ServerInner::Polled(polled.expect("a server"))
        }
    };
    TestServer { address, inner }
}

impl TestServer {
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// In a polled server the first call ends the time of the sole sender.
    pub fn sender(&self) -> Sender {
        match &self.inner {
            ServerInner::Thread(server) => server.sender(),
            ServerInner::Polled(server) => server.ask(|server| server.sender()),
        }
    }

    pub fn counters(&self) -> Counters {
        match &self.inner {
            ServerInner::Thread(server) => server.counters(),
            ServerInner::Polled(server) => server.ask(|server| server.counters()),
        }
    }

    pub fn stop(self) -> Report {
        match self.inner {
            ServerInner::Thread(server) => server.stop(),
            ServerInner::Polled(server) => server.take(PolledServer::stop),
        }
    }
}

/// A client, however it is driven. Dropping it drops the library's.
pub struct TestClient {
    inner: ClientInner,
}

enum ClientInner {
    Thread(Box<Client>),
    Polled(Loop<PolledClient<Recorder>>),
}

pub fn client(
    drive: Drive,
    address: SocketAddr,
    id: &str,
    config: Config,
    recorder: Recorder,
) -> Result<TestClient, Error> {
    client_under(drive, address, id, config, recorder, None)
}

pub fn client_under(
    drive: Drive,
    address: SocketAddr,
    id: &str,
    config: Config,
    recorder: Recorder,
    tls: Option<TlsClient>,
) -> Result<TestClient, Error> {
    let mut builder = Client::connect(address, id)?.config(config).handler(recorder);
    if let Some(tls) = tls {
        builder = builder.tls(tls);
    }
    let inner = match drive {
        Drive::Thread => ClientInner::Thread(Box::new(builder.start()?)),
        Drive::Polled => {
            let make = move || {
                let mut client = builder.start_polled()?;
                while !client.is_connected() {
                    client.poll()?;
                    std::thread::yield_now();
                }
                Ok(client)
            };
            ClientInner::Polled(Loop::spawn(make, PolledClient::poll)?)
        }
    };
    Ok(TestClient { inner })
}

impl TestClient {
    /// In a polled client the first call ends the time of the sole sender.
    pub fn peer(&self) -> Peer {
        match &self.inner {
            ClientInner::Thread(client) => client.peer(),
            ClientInner::Polled(client) => client.ask(|client| client.peer().expect("it is connected")),
        }
    }

    pub fn is_connected(&self) -> bool {
        match &self.inner {
            ClientInner::Thread(client) => client.is_connected(),
            ClientInner::Polled(client) => client.ask(|client| client.is_connected()),
        }
    }

    pub fn counters(&self) -> Counters {
        match &self.inner {
            ClientInner::Thread(client) => client.counters(),
            ClientInner::Polled(client) => client.ask(|client| client.counters()),
        }
    }

    pub fn session_counters(&self) -> SessionCounters {
        match &self.inner {
            ClientInner::Thread(client) => client.session_counters(),
            ClientInner::Polled(client) => client.ask(|client| client.session_counters()),
        }
    }

    pub fn stop(self) -> Report {
        match self.inner {
            ClientInner::Thread(client) => client.stop(),
            ClientInner::Polled(client) => client.take(PolledClient::stop),
        }
    }
}
