//! What an engine goes by of its configuration.
#![forbid(unsafe_code)]

use std::time::Duration;

use crate::config::Config;
use crate::driver::Options;

/// What of a configuration an engine goes by.
pub(super) struct Limits {
    pub(super) message_max: u32,
    pub(super) handshake_timeout: Duration,
    pub(super) drain_timeout: Duration,
    pub(super) slow_peer_timeout: Option<Duration>,
    pub(super) batch_from: usize,
    /// This engine's share.
    pub(super) handshakes_max: usize,
    pub(super) options: Options,
}

impl Limits {
    pub(super) fn new(config: &Config, engine: usize) -> Limits {
        Limits {
            message_max: config.message_max as u32,
            handshake_timeout: config.handshake_timeout,
            drain_timeout: config.drain_timeout,
            slow_peer_timeout: config.slow_peer_timeout,
            batch_from: config.batch_from,
            handshakes_max: config.handshakes_of(engine),
            options: options(config),
        }
    }
}

/// What a configuration says of sockets.
pub(crate) fn options(config: &Config) -> Options {
    Options {
        peer_timeout: config.peer_timeout,
        send_buffer: config.socket_send_buffer,
        receive_buffer: config.socket_receive_buffer,
        congestion: config.congestion.clone(),
        busy_poll: config.busy_poll,
    }
}
