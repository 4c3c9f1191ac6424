//! How a storm's servers and clients are set up.
#![forbid(unsafe_code)]

use std::time::Duration;

use crate::config::{Config, SEALED_RECORD_MAX, SameId};
use crate::driver::sim::Random;
use crate::sim::ledger::LONGEST;

/// How many sessions there may be where that is more than one word of the doorbell has bits for.
const WIDE: (usize, usize) = (64, 128);

pub(super) fn draw_config(random: &mut Random, tls: bool) -> Config {
    let millis = |random: &mut Random, least: u64, most: u64| {
        Duration::from_micros(random.of_any_size(least * 1000, most * 1000))
    };
    let engines = if random.happens(300) { random.between(2, 3) as usize } else { 1 };
    let message_max = random.of_any_size(16, LONGEST as u64 / 2) as usize;
    let frame = message_max + crate::wire::HEADER;
    let mut send_ring = 4096;
    while send_ring - send_ring / 16 < 2 * frame {
        send_ring *= 2;
    }
    if tls {
        // Sometimes more than one record is made at once.
        send_ring <<= random.below(3);
    }
    let record = if tls { SEALED_RECORD_MAX } else { 0 };
    let same_id = if random.happens(300) { SameId::ReplaceOld } else { SameId::RefuseNew };
    Config {
        engines,
        message_max,
        send_ring,
        receive_buffer: frame.max(4096) + random.of_any_size(1, 4096) as usize + record,
        // Sometimes more than one word of the doorbell has bits for.
        sessions_max: match random.happens(250) {
            true => random.between(WIDE.0 as u64, WIDE.1 as u64) as usize,
            false => random.between(engines as u64, 10) as usize,
        },
        batch_from: random.between(1, 8) as usize,
        connections_per_address: random.happens(300).then(|| random.between(1, 6) as usize),
        // Slow enough to be reached, and fast enough that there is a token when all is calm.
        connections_per_second: random.happens(300).then(|| random.of_any_size(20, 2000) as u32),
        connection_burst: random.of_any_size(1, 50) as u32,
        handshakes_max: random.happens(300).then(|| random.between(engines as u64, 8) as usize),
        handshake_timeout: millis(random, 5, 200),
        drain_timeout: millis(random, 200, 1000),
        slow_peer_timeout: random.happens(500).then(|| millis(random, 2, 30)),
        // Far away, but where its looks matter: they wake engines that nobody else has woken.
        peer_timeout: Duration::from_secs(10_000),
        same_id,
        ..Config::default()
    }
}
