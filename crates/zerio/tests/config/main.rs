//! Every setting of a configuration does something: each test changes one and sees what changes. Values that
//! can't work are refused before anything starts. What looks at the system itself is for the system that
//! tells: `linux`, `memory` and `sockets` read Linux's `/proc`, `windows` asks Windows.

#[path = "../hostile/mod.rs"]
mod hostile;

mod bounds;
mod invalid;
mod limits;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
mod memory;
#[cfg(target_os = "linux")]
mod sockets;
mod threads;
mod times;
#[cfg(windows)]
mod windows;

use hostile::{Echo, Events};
use zerio::{Config, Server};

/// A server that echoes.
fn echo(config: Config) -> (Server, Events) {
    let events = Events::default();
    let server = Server::bind("127.0.0.1:0").unwrap().config(config).handler(Echo(events.clone()));
    (server.start().unwrap(), events)
}
