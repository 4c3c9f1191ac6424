//! Every setting of a configuration does something: each test changes one and sees what changes. Values that
//! can't work are refused before anything starts.

#[path = "../hostile/mod.rs"]
mod hostile;

mod bounds;
mod invalid;
mod memory;
mod sockets;
mod threads;
mod times;

use std::sync::mpsc::{Receiver, channel};

use hostile::{Echo, Events};
use zerio::{Config, Handler, Server};

/// A server that echoes.
fn echo(config: Config) -> (Server, Events) {
    let events = Events::default();
    (start(config, Echo(events.clone())), events)
}

fn start(config: Config, handler: impl Handler + Send + 'static) -> Server {
    Server::bind("127.0.0.1:0").unwrap().config(config).handler(handler).start().unwrap()
}

/// A server that runs `look` on its engine's thread when a peer comes, and tells what it gave.
fn looking<T: Send + 'static>(
    config: Config,
    look: impl Fn() -> T + Send + 'static,
) -> (Server, Receiver<T>) {
    let (sender, seen) = channel();
    let server = Server::bind("127.0.0.1:0")
        .unwrap()
        .config(config)
        .on_connected(move |_| sender.send(look()).unwrap())
        .start()
        .unwrap();
    (server, seen)
}
