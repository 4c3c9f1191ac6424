//! An echo server and a client of it, in one process: each word goes there and comes back.
//!
//! ```console
//! $ cargo run --example echo -- one two three
//! ```
#![forbid(unsafe_code)]

use std::sync::mpsc::channel;
use std::time::Duration;

use zerio::{Client, Server};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // ANCHOR: server
    let server = Server::bind("127.0.0.1:0")?
        .on_connected(|peer| println!("{} is here", peer.id()))
        .on_message(|peer, message| {
            // On the engine's thread nothing waits: a peer that does not read its echoes fills its own ring.
            if let Err(why) = peer.send(message) {
                eprintln!("{} gets no echo: {why}", peer.id());
            }
        })
        .on_disconnected(|peer, why| println!("{} left: {why}", peer.id()))
        .start()?;
    // ANCHOR_END: server

    // ANCHOR: client
    let (heard, echoes) = channel();
    let client = Client::connect(server.local_addr(), "talker")?
        // The bytes are lent until the handler returns: what is to be kept is copied.
        .on_message(move |_, message| drop(heard.send(message.to_vec())))
        .start()?; // returns when the session has begun

    for word in std::env::args().skip(1) {
        client.send(word.as_bytes())?; // waits for room, if it must
        let echo = echoes.recv_timeout(Duration::from_secs(5))?;
        println!("{word} came back as {}", String::from_utf8_lossy(&echo));
    }
    println!("the client: {}", client.stop());
    println!("the server: {}", server.stop());
    // ANCHOR_END: client
    Ok(())
}
