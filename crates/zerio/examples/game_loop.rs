//! A game's loop in polled mode: no thread of zerio runs on the server. Each tick takes what players have done, moves
//! the world, and tells everybody where all are.
//!
//! ```console
//! $ cargo run --example game_loop
//! ```
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

use zerio::{Client, Context, Disconnection, Handler, Server};

const TICK: Duration = Duration::from_millis(10);
const TICKS: u32 = 50;
const PLAYERS: u32 = 3;

struct Player {
    id: String,
    /// Where he is, and where he goes.
    place: i32,
    step: i32,
}

// ANCHOR: world
/// The world, which only the loop touches: handlers run inside `poll`.
#[derive(Default)]
struct World(Vec<Player>);

impl Handler for World {
    fn on_connected(&mut self, peer: &mut Context<'_>) {
        self.0.push(Player { id: peer.id().to_owned(), place: 0, step: 0 });
    }

    fn on_message(&mut self, peer: &mut Context<'_>, message: &[u8]) {
        let player = self.0.iter_mut().find(|player| player.id == peer.id());
        match (player, message) {
            (Some(player), b"left") => player.step = -1,
            (Some(player), b"right") => player.step = 1,
            _ => peer.disconnect(),
        }
    }

    fn on_disconnected(&mut self, peer: &mut Context<'_>, _: &Disconnection) {
        self.0.retain(|player| player.id != peer.id());
    }
}
// ANCHOR_END: world

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut server = Server::bind("127.0.0.1:0")?.handler(World::default()).start_polled()?;
    let address = server.local_addr();
    let players = (0..PLAYERS).map(|n| std::thread::spawn(move || play(address, n)));
    let players: Vec<_> = players.collect();

    // ANCHOR: loop
    let (mut due, mut tick, mut late) = (Instant::now(), 0, 0);
    while tick < TICKS {
        server.poll()?; // takes what has come, and hands over what was sent
        if Instant::now() < due {
            std::thread::sleep(Duration::from_millis(1)); // or draw a frame; who wants microseconds spins
            continue;
        }
        due += TICK;
        late += u32::from(Instant::now() > due);
        let mut world = std::mem::take(&mut server.handler().0);
        world.iter_mut().for_each(|player| player.place += player.step);
        let state: Vec<u8> = world.iter().flat_map(|player| player.place.to_le_bytes()).collect();
        for player in &world {
            // Who does not keep up misses a state; the next one has all that he needs.
            let _ = server.try_send(&player.id, &state);
        }
        server.handler().0 = world;
        tick += u32::from(server.connected() == PLAYERS as usize); // the game begins when all are here
    }
    // ANCHOR_END: loop
    println!("{TICKS} ticks, {late} late; {}", server.stop());
    for player in players {
        println!("{}", player.join().map_err(|_| "a player panicked")??);
    }
    Ok(())
}

/// Goes right at each state that it hears, until the server ends the game.
fn play(address: std::net::SocketAddr, n: u32) -> Result<String, zerio::Error> {
    let heard = Arc::new(AtomicU32::new(0));
    let states = heard.clone();
    let player = Client::connect(address, &format!("player-{n}"))?.on_message(move |peer, _| {
        states.fetch_add(1, Relaxed);
        let _ = peer.send(b"right");
    });
    let player = player.start()?;
    while player.is_connected() {
        std::thread::sleep(TICK);
    }
    Ok(format!("player-{n} heard {} states", heard.load(Relaxed)))
}
