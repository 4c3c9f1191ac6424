//! What goes wrong on a simulated network, and how often.
#![forbid(unsafe_code)]

use std::time::Duration;

use super::random::Random;

/// What goes wrong on a simulated network. Whatever counts how often does so in a thousand times; 0 is never.
///
/// ```
/// use zerio::sim::Faults;
///
/// let mut faults = Faults::none();
/// faults.short_receives = 500; // every other receive brings less than it could
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Faults {
    /// The longest that bytes are on their way. Each takes its own time, and none overtakes another.
    pub latency: Duration,
    /// How many bytes a connection holds each way, between one side's send and the other's receive.
    pub room: usize,
    /// Receives that bring less than they could.
    pub short_receives: u32,
    /// Sends of which the kernel takes less than it could.
    pub short_sends: u32,
    /// Connections that are refused.
    pub refusals: u32,
    /// Connections that are never answered.
    pub silences: u32,
    /// Deliveries of bytes in the middle of which the connection is reset.
    pub resets: u32,
    /// Bytes sent with which their connection's link is cut, and nobody is told: for a time in which what is on its way
    /// waits and nothing is lost, or until each side's system gives the connection up.
    pub cuts: u32,
    /// How long a system waits for a sign of the other side before it gives a connection up, in place of
    /// `peer_timeout`.
    pub gives_up: Duration,
    /// Systems end a connection whose peer has had no room for so long, unless they are told to have patience with it, as
    /// Linux does. No seed draws it for a [`World`](crate::sim::World), whose engines would have to look in time.
    pub hasty: bool,
    /// Sends after which that direction of the connection is shut, and the other goes on.
    pub half_closes: u32,
    /// Attempts to connect that fail at once, before anything was sent.
    pub connect_errors: u32,
    /// Completions that come late, so that those of other sessions overtake them.
    pub late_completions: u32,
    /// Wake-ups of a sleeping engine that come late.
    pub late_wake_ups: u32,
    /// Wake-ups of a sleeping engine for nothing.
    pub idle_wake_ups: u32,
    /// The longest that a completion or a wake-up comes late.
    pub delay: Duration,
    /// Turns with which a time begins in which the kernel's ring takes next to no request.
    pub full_rings: u32,
    /// Accepts that fail.
    pub accept_errors: u32,
    /// Connections that were accepted and that the driver then fails to take.
    pub adopt_errors: u32,
    /// Attempts to listen that fail. No seed draws it for a [`World`](crate::sim::World): it would have no server.
    pub listen_errors: u32,
    /// Engines whose driver fails at some time within their first two seconds.
    pub driver_failures: u32,
    /// Whether senders may send without the driver, as on sockets; without it, as on Registered I/O.
    pub direct_sends: bool,
}

impl Faults {
    /// Nothing goes wrong: every byte arrives, 20 µs later at the most.
    pub fn none() -> Faults {
        Faults {
            latency: Duration::from_micros(20),
            room: 64 * 1024,
            short_receives: 0,
            short_sends: 0,
            refusals: 0,
            silences: 0,
            resets: 0,
            cuts: 0,
            gives_up: Duration::from_millis(100),
            hasty: false,
            half_closes: 0,
            connect_errors: 0,
            late_completions: 0,
            late_wake_ups: 0,
            idle_wake_ups: 0,
            delay: Duration::from_micros(500),
            full_rings: 0,
            accept_errors: 0,
            adopt_errors: 0,
            listen_errors: 0,
            driver_failures: 0,
            direct_sends: true,
        }
    }

    /// A drawing: first which faults there are at all, then how often each happens. A run in which everything
    /// goes wrong all the time gets nowhere, and finds less than one with a few faults.
    pub(crate) fn draw(random: &mut Random) -> Faults {
        let mut some = |in_a_thousand: u32, most: u64| match random.happens(in_a_thousand) {
            true => random.of_any_size(1, most) as u32,
            false => 0,
        };
        let faults = Faults {
            short_receives: some(500, 900),
            short_sends: some(500, 900),
            refusals: some(200, 300),
            silences: some(100, 100),
            resets: some(400, 20),
            cuts: some(250, 20),
            half_closes: some(300, 20),
            connect_errors: some(200, 200),
            late_completions: some(500, 800),
            late_wake_ups: some(500, 800),
            idle_wake_ups: some(300, 300),
            full_rings: some(300, 30),
            accept_errors: some(300, 300),
            adopt_errors: some(200, 200),
            driver_failures: some(300, 1000),
            ..Faults::none()
        };
        Faults {
            latency: Duration::from_nanos(random.of_any_size(100, 2_000_000)),
            room: random.of_any_size(64, 128 * 1024) as usize,
            // No longer than a storm's calm waits for what is to come.
            gives_up: Duration::from_nanos(random.of_any_size(5_000_000, 150_000_000)),
            delay: Duration::from_nanos(random.of_any_size(1_000, 3_000_000)),
            direct_sends: random.happens(700),
            ..faults
        }
    }
}
