//! Clients and servers for a program on tokio (feature `tokio`): messages are a [`Stream`](futures_core::Stream), sends a
//! [`Sink`](futures_sink::Sink).
//!
//! `start_tokio()` of a builder gives the engine neither a thread nor your loop but a task. On Linux, with the driver
//! `auto` or `poll`, it is one of the runtime's own: it sleeps in the runtime's epoll, and between a socket and your
//! task is no other thread, unless the runtime moves a task to one. With another driver, and on other systems, the engine
//! has a thread of its own, and a message goes over to it and back.
//!
//! ```
//! use futures_util::{SinkExt, StreamExt};
//! use zerio::tokio::Event;
//! use zerio::{Client, Server};
//!
//! # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
//! # runtime.block_on(async {
//! let mut server = Server::bind("127.0.0.1:0")?.start_tokio()?;
//! let address = server.local_addr();
//! tokio::spawn(async move {
//!     while let Some(event) = server.next().await {
//!         match event {
//!             Event::Connected(peer) => println!("{} is here", peer.id()),
//!             Event::Message(peer, message) => drop(peer.send(&message).await), // an echo
//!             Event::Disconnected(peer, why) => println!("{} left: {why}", peer.id()),
//!             _ => {}
//!         }
//!     }
//! });
//!
//! let mut client = Client::connect(address, "client-1")?.start_tokio().await?;
//! client.feed("oui".into()).await.unwrap(); // as a sink, which keeps what the ring has no room for
//! client.flush().await.unwrap();
//! client.send(b"quoi").await.unwrap(); // by itself: waits until it is accepted
//! assert_eq!(client.next().await.unwrap(), "oui");
//! assert_eq!(client.next().await.unwrap(), "quoi");
//! println!("{}", client.stop().await);
//! # Ok::<(), zerio::Error>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Back-pressure
//!
//! A send waits while the session's ring has no room, without a bound of its own: `send_timeout` is for threads, and a
//! future is given up by dropping it. What comes and is not taken out of the stream waits in a queue as long as a
//! session's receive buffer; where that is full, a session is no longer read once it has something more, and TCP pushes
//! back on its peer. Then nobody new is let in either. A peer that ends while its session is not read ends it within
//! `drain_timeout`, as with [`pause`](crate::Context::pause): what it had sent is to be taken out by then.
//!
//! # Cancelling
//!
//! Any of these futures may be dropped at any time. A send has then happened whole or not at all, and what a stream has
//! not given is given next. A message that a sink has taken and the ring has not is kept by the sink, and goes first when
//! the sink is used again; `send` and `try_send`, which are no part of it, do not wait for that.
//!
//! # What it costs
//!
//! A task is woken for what the engine would do at once, a message is copied once more, and of each 64 KiB of them the
//! memory is allocated: none of these is in the other two ways to drive. Whoever keeps a message keeps the block in which
//! it stands.
#![forbid(unsafe_code)]

mod client;
mod inbox;
mod peer;
mod running;
mod server;
#[cfg(target_os = "linux")]
mod task;

pub use client::Client;
pub use inbox::Event;
pub use peer::Peer;
pub use server::{Sender, Server};
