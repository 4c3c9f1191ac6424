//! Every setting of a configuration does something: each test changes one and sees what changes. Values that
//! can't work are refused before anything starts. What looks at the system itself is for Linux.

#[path = "../hostile/mod.rs"]
mod hostile;

mod bounds;
mod invalid;
#[cfg(target_os = "linux")]
mod memory;
#[cfg(target_os = "linux")]
mod sockets;
#[cfg(target_os = "linux")]
mod threads;
mod times;

use hostile::{Echo, Events};
use zerio::{Config, Server};

/// A server that echoes.
fn echo(config: Config) -> (Server, Events) {
    let events = Events::default();
    let server = Server::bind("127.0.0.1:0").unwrap().config(config).handler(Echo(events.clone()));
    (server.start().unwrap(), events)
}
