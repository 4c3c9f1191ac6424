//! Telemetry from many small senders: fifty sensors, turned in one loop, and a server that adds up what they say.
//! A reading is written straight into the ring; the server does its work once a batch, not once a reading.
//!
//! ```console
//! $ cargo run --example telemetry
//! ```
#![forbid(unsafe_code)]

use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use zerio::{Client, Config, Context, Disconnection, Handler, SendError, Server};

const SENSORS: usize = 50;
const READINGS: u64 = 2000;

// ANCHOR: totals
/// What was read, kept by the engine that hears it, without a lock.
#[derive(Debug, Default)]
struct Totals {
    readings: u64,
    sum: u64,
    batches: u64,
    gone: usize,
}

struct Collector {
    totals: Totals,
    done: Sender<Totals>,
}

impl Handler for Collector {
    fn on_message(&mut self, peer: &mut Context<'_>, message: &[u8]) {
        let Ok(reading) = message.try_into().map(u32::from_le_bytes) else { return peer.disconnect() };
        self.totals.readings += 1;
        self.totals.sum += u64::from(reading);
        if peer.is_batch_end() {
            self.totals.batches += 1; // here would stand the write to a file or a database
        }
    }

    fn on_disconnected(&mut self, _: &mut Context<'_>, _: &Disconnection) {
        self.totals.gone += 1;
        if self.totals.gone == SENSORS {
            let _ = self.done.send(std::mem::take(&mut self.totals));
        }
    }
}
// ANCHOR_END: totals

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut config = Config::default();
    // Readings are short, so rings can be: this is the whole bill for their memory.
    (config.message_max, config.send_ring, config.receive_buffer) = (64, 4096, 4096);
    config.sessions_max = SENSORS;
    println!("{}", config.memory()?);

    let (done, totals) = channel();
    let collector = Collector { totals: Totals::default(), done };
    let server = Server::bind("127.0.0.1:0")?.config(config.clone()).handler(collector).start()?;

    let sensor = |n| {
        let id = format!("sensor-{n}");
        Client::connect(server.local_addr(), &id)?.config(config.clone()).start_polled()
    };
    let mut sensors = (0..SENSORS).map(sensor).collect::<Result<Vec<_>, _>>()?;
    while !sensors.iter().all(|sensor| sensor.is_connected()) {
        sensors.iter_mut().try_for_each(|sensor| sensor.poll().map(drop))?;
    }
    // ANCHOR: polled
    let mut left = [READINGS; SENSORS];
    while left.iter().any(|left| *left > 0) {
        for (sensor, left) in sensors.iter_mut().zip(&mut left) {
            while *left > 0 {
                match sensor.try_claim(4) {
                    Ok(mut claim) => {
                        claim.copy_from_slice(&(*left as u32).to_le_bytes());
                        claim.commit()?;
                    }
                    Err(SendError::Full) => break, // it goes on when the kernel has taken some
                    Err(why) => return Err(why.into()),
                }
                *left -= 1;
            }
            sensor.poll()?;
        }
    }
    // ANCHOR_END: polled
    let undelivered: u64 = sensors.into_iter().map(|sensor| sensor.stop().undelivered.messages).sum();
    let Totals { readings, sum, batches, .. } = totals.recv_timeout(Duration::from_secs(30))?;
    println!(
        "{readings} readings of {SENSORS} sensors in {batches} batches, {undelivered} undelivered, sum {sum}"
    );
    Ok(())
}
