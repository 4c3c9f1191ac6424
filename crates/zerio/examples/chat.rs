//! A chat in terminals: one runs the room, each of the others a guest. What a guest types, all others read.
//!
//! ```console
//! $ cargo run --example chat -- 127.0.0.1:7000          # the room; it ends when its input does (Ctrl-D)
//! $ cargo run --example chat -- 127.0.0.1:7000 ada      # a guest, in another terminal
//! ```
#![forbid(unsafe_code)]

use std::io::{BufRead, stdin};

use zerio::{Client, Context, Disconnection, Handler, Server};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match &arguments[..] {
        [address] => room(address),
        [address, name] => guest(address.clone(), name),
        _ => Err("usage: chat ADDRESS [NAME]".into()),
    }
}

// ANCHOR: room
/// Who is here. It is the engine's own: no lock, because everything that it hears it hears on one thread.
#[derive(Default)]
struct Room(Vec<String>);

impl Room {
    /// Says something to everybody but the peer himself.
    fn say(&self, peer: &mut Context<'_>, line: &str) {
        for guest in &self.0 {
            if guest == peer.id() {
                continue;
            }
            // A guest that reads more slowly than the others talk misses lines, and nobody waits for him.
            if let Err(why) = peer.send_to(guest, line.as_bytes()) {
                println!("{guest} missed a line: {why}");
            }
        }
    }
}

impl Handler for Room {
    fn on_connected(&mut self, peer: &mut Context<'_>) {
        self.0.push(peer.id().to_owned());
        let line = format!("* {} is here", peer.id());
        self.say(peer, &line);
        println!("{} is here, from {}", peer.id(), peer.address());
    }

    fn on_message(&mut self, peer: &mut Context<'_>, message: &[u8]) {
        let line = format!("{}: {}", peer.id(), String::from_utf8_lossy(message));
        self.say(peer, &line);
    }

    fn on_disconnected(&mut self, peer: &mut Context<'_>, why: &Disconnection) {
        self.0.retain(|guest| guest != peer.id());
        let line = format!("* {} left", peer.id());
        self.say(peer, &line);
        println!("{} left: {why}", peer.id());
    }
}
// ANCHOR_END: room

fn room(address: &str) -> Result<(), Box<dyn std::error::Error>> {
    let room = Server::bind(address)?.handler(Room::default()).start()?;
    println!("listening on {}", room.local_addr());
    stdin().lock().lines().for_each(drop);
    println!("{}", room.stop());
    Ok(())
}

fn guest(address: String, name: &str) -> Result<(), Box<dyn std::error::Error>> {
    let guest = Client::connect(address, name)?
        .on_message(|_, line| println!("{}", String::from_utf8_lossy(line)))
        // Nothing else would tell somebody who listens and does not type; and to read a line can't be given up.
        .on_disconnected(|_, why| {
            println!("* the chat is over: {why}");
            std::process::exit(0);
        })
        .start()?;
    for line in stdin().lock().lines() {
        guest.send(line?.as_bytes())?;
    }
    guest.stop();
    Ok(())
}
