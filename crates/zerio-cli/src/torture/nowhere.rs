//! Clients that are started where no server answers: each must hear why, within its deadline.
#![forbid(unsafe_code)]

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};
use zerio::{Client, Config, Error};

use super::PATIENCE;
use super::misbehave::Wrong;
use crate::failure::Failure;

pub(super) const DEAD: &str = "a client to an address where nobody listens";
pub(super) const SILENT: &str = "a client to an address that says nothing";

/// How long a client waits for an answer.
const DEADLINE: Duration = Duration::from_millis(300);

/// Two addresses that stay what they are as long as this is kept.
pub(super) struct Nowhere {
    /// It has the address, and does not listen there.
    dead: Socket,
    /// It accepts nobody. When its queue is full it does not even connect, which comes to the same.
    silent: TcpListener,
    config: Config,
}

impl Nowhere {
    pub(super) fn new(config: &Config) -> Result<Nowhere, Failure> {
        let dead = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        dead.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
        let mut config = config.clone();
        (config.handshake_timeout, config.sessions_max) = (DEADLINE, 1);
        Ok(Nowhere { dead, silent: TcpListener::bind("127.0.0.1:0")?, config })
    }

    pub(super) fn dead(&self) -> Result<(), Wrong> {
        let address = self.dead.local_addr()?.as_socket();
        let address = address.ok_or_else(|| Wrong::Fault("a socket without an address".into()))?;
        self.client(address, |error| {
            matches!(error, Error::Connect { why, .. } if why.kind() == std::io::ErrorKind::ConnectionRefused)
        })
    }

    pub(super) fn silent(&self) -> Result<(), Wrong> {
        self.client(self.silent.local_addr()?, |error| matches!(error, Error::TimedOut { .. }))
    }

    fn client(&self, address: SocketAddr, is_right: impl Fn(&Error) -> bool) -> Result<(), Wrong> {
        let begun = Instant::now();
        let client = Client::connect(address, "nowhere").map(|client| client.config(self.config.clone()));
        match client.and_then(|client| client.start()) {
            Err(error) if !is_right(&error) => Err(Wrong::Fault(format!("it heard: {error}"))),
            Err(_) if begun.elapsed() > PATIENCE => {
                Err(Wrong::Fault(format!("it heard after {:?}", begun.elapsed())))
            }
            Err(_) => Ok(()),
            Ok(_) => Err(Wrong::Fault("it has a session".into())),
        }
    }
}
