//! A feed of prices, and a consumer that stops reading for a while. Nobody waits for it: prices that find no room in
//! its ring are replaced by newer ones until there is room again.
//!
//! ```console
//! $ cargo run --example market_data
//! ```
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use zerio::{Client, Config, Peer, SendError, Server};

const INSTRUMENTS: usize = 8;
const TICKS: u64 = 50_000;

// ANCHOR: conflation
/// A consumer as the feed sees it: which instruments it has not been told the newest price of.
struct Consumer {
    peer: Peer,
    stale: [bool; INSTRUMENTS],
    replaced: u64,
}

impl Consumer {
    /// Hands over what it has not been told; what finds no room stays for the next time.
    fn tell(&mut self, prices: &[u64; INSTRUMENTS]) -> Result<(), SendError> {
        for (instrument, stale) in self.stale.iter_mut().enumerate().filter(|(_, stale)| **stale) {
            let mut claim = match self.peer.try_claim(16) {
                Err(SendError::Full) => break, // its own ring: nobody else's has less room for it
                claim => claim?,
            };
            claim[..8].copy_from_slice(&(instrument as u64).to_le_bytes());
            claim[8..].copy_from_slice(&prices[instrument].to_le_bytes());
            claim.commit()?;
            *stale = false;
        }
        Ok(())
    }

    fn ticked(&mut self, instrument: usize) {
        // One that was stale already has now lost a price, and will be told a newer one.
        self.replaced += u64::from(std::mem::replace(&mut self.stale[instrument], true));
    }
}
// ANCHOR_END: conflation

/// What a client has heard: how many prices, and the newest.
type Heard = Arc<[AtomicU64; 2]>;

fn listener(server: &Server, id: &str, config: &Config) -> Result<(Client, Heard), zerio::Error> {
    let heard = Heard::default();
    let writer = heard.clone();
    let client =
        Client::connect(server.local_addr(), id)?.config(config.clone()).on_message(move |_, message| {
            writer[0].fetch_add(1, Relaxed);
            let price = message.last_chunk().map_or(0, |price| u64::from_le_bytes(*price));
            writer[1].fetch_max(price, Relaxed);
        });
    Ok((client.start()?, heard))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut config = Config::default();
    (config.send_ring, config.message_max) = (64 * 1024, 16);
    // What the kernel may keep for a consumer that does not read is old before it gets there.
    (config.socket_send_buffer, config.socket_receive_buffer) = (Some(32 * 1024), Some(32 * 1024));
    let server = Server::bind("127.0.0.1:0")?.config(config.clone()).start()?;
    let (_quick, quick_heard) = listener(&server, "quick", &config)?;
    let (slow, slow_heard) = listener(&server, "slow", &config)?;
    slow.pause()?; // it reads no more, and TCP pushes back

    let consumer =
        |id| server.peer(id).map(|peer| Consumer { peer, stale: [false; INSTRUMENTS], replaced: 0 });
    let (mut consumers, mut prices) = ([consumer("quick")?, consumer("slow")?], [0; INSTRUMENTS]);
    for tick in 1..=TICKS {
        let instrument = (tick % INSTRUMENTS as u64) as usize;
        prices[instrument] = tick;
        for consumer in &mut consumers {
            consumer.ticked(instrument);
            consumer.tell(&prices)?;
        }
        if tick % 500 == 0 {
            std::thread::sleep(Duration::from_millis(1)); // a feed has its pace
        }
    }
    slow.resume()?;
    while [&quick_heard, &slow_heard].iter().any(|heard| heard[1].load(Relaxed) < TICKS) {
        consumers.iter_mut().try_for_each(|consumer| consumer.tell(&prices))?;
        std::thread::sleep(Duration::from_millis(1));
    }
    for (consumer, heard) in consumers.iter().zip([&quick_heard, &slow_heard]) {
        let (id, replaced, heard) = (consumer.peer.id(), consumer.replaced, heard[0].load(Relaxed));
        println!("{id}: heard {heard} of {TICKS} prices, the newest among them; {replaced} were replaced");
    }
    Ok(())
}
