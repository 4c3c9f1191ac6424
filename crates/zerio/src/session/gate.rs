//! Who may connect at all: how many connections there may be from one address, and how fast they may come, over
//! all engines of a server. Its memory is given once: the table of addresses has a place for each connection that
//! there can be, so it is never full, and made for twice as many, so it never grows.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::used_once;
use crate::config::Config;
use crate::error::RefusalCode;
use crate::time::Time;

/// What one place of the table costs.
#[cfg(test)]
pub(crate) const BYTES_PER_ADDRESS: usize = size_of::<(u128, u32)>() + 1;

pub(crate) struct Gate {
    per_address: Option<usize>,
    /// `None` where nothing is bounded: then nobody takes its lock.
    seen: Option<Mutex<Seen>>,
}

struct Seen {
    /// Connections from each address that has one. The table's hashes are keyed by chance, because whoever has a
    /// whole IPv6 network may choose his address.
    connections: HashMap<u128, u32>,
    bucket: Option<Bucket>,
}

impl Gate {
    pub(crate) fn new(config: &Config) -> Gate {
        let bucket = config.connections_per_second.map(|rate| Bucket::new(rate, config.connection_burst));
        let bounded = config.connections_per_address.is_some() || bucket.is_some();
        let connections = HashMap::with_capacity(config.addresses());
        let seen = bounded.then(|| used_once(Mutex::new(Seen { connections, bucket })));
        Gate { per_address: config.connections_per_address, seen }
    }

    /// Counts a connection that has come, or tells why it can't stay. Each that was counted [leaves](Gate::leave)
    /// once.
    pub(crate) fn enter(&self, address: SocketAddr, now: Time) -> Result<(), RefusalCode> {
        let Some(mut seen) = self.seen() else { return Ok(()) };
        // Before it takes a token: what one address has too many of is to cost nobody else his.
        if let Some(most) = self.per_address
            && seen.connections.get(&counted_as(address)).is_some_and(|&count| count as usize >= most)
        {
            return Err(RefusalCode::TooManyFromAddress);
        }
        if let Some(bucket) = &mut seen.bucket
            && !bucket.take(now)
        {
            return Err(RefusalCode::TooManyPerSecond);
        }
        if self.per_address.is_some() {
            *seen.connections.entry(counted_as(address)).or_default() += 1;
        }
        Ok(())
    }

    /// A connection that was counted is over.
    pub(crate) fn leave(&self, address: SocketAddr) {
        if self.per_address.is_none() {
            return;
        }
        let Some(mut seen) = self.seen() else { return };
        let address = counted_as(address);
        match seen.connections.get_mut(&address) {
            Some(1) => drop(seen.connections.remove(&address)),
            Some(count) => *count -= 1,
            None => debug_assert!(false, "whoever leaves has entered"),
        }
    }

    /// Whether nobody is counted.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn is_empty(&self) -> bool {
        self.seen().is_none_or(|seen| seen.connections.is_empty())
    }

    fn seen(&self) -> Option<MutexGuard<'_, Seen>> {
        Some(self.seen.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What an address counts as: of IPv4 all of it, also where IPv6 carries it; of IPv6 the network, because whoever is
/// given one may use each of its 2⁶⁴ addresses, and would be stopped by no count of them, but fill the table.
fn counted_as(address: SocketAddr) -> u128 {
    match address.ip().to_canonical() {
        // As IPv6 writes it: no network's number, since the lower half of those is zero.
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits() & !u128::from(u64::MAX),
    }
}

/// A bucket of tokens: each connection takes one, and so many come back in a second, up to what it holds. It counts
/// in nanoseconds of waiting, of which a token is worth the same number each.
struct Bucket {
    credit: u64,
    most: u64,
    token: u64,
    filled: Time,
}

impl Bucket {
    /// Full, as after a pause.
    fn new(per_second: u32, burst: u32) -> Bucket {
        let token = 1_000_000_000 / u64::from(per_second);
        let most = token * u64::from(burst);
        Bucket { credit: most, most, token, filled: Time::from_nanos(0) }
    }

    /// Takes a token, if there is one.
    fn take(&mut self, now: Time) -> bool {
        let waited = u64::try_from(now.since(self.filled).as_nanos()).unwrap_or(u64::MAX);
        self.credit = self.credit.saturating_add(waited).min(self.most);
        self.filled = now;
        let taken = self.credit >= self.token;
        if taken {
            self.credit -= self.token;
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn gate(change: impl FnOnce(&mut Config)) -> Gate {
        let mut config = Config::default();
        change(&mut config);
        Gate::new(&config)
    }

    fn from(ip: &str) -> SocketAddr {
        SocketAddr::new(ip.parse().unwrap(), 1)
    }

    const START: Time = Time::from_nanos(5_000_000_000);

    #[test]
    fn an_address_has_as_many_connections_as_it_may_and_others_are_not_its() {
        let gate = gate(|c| c.connections_per_address = Some(2));
        let enter = |ip| gate.enter(from(ip), START);
        assert_eq!((enter("192.0.2.1"), enter("192.0.2.1")), (Ok(()), Ok(())));
        assert_eq!(enter("192.0.2.1"), Err(RefusalCode::TooManyFromAddress));
        assert_eq!(enter("::ffff:192.0.2.1"), Err(RefusalCode::TooManyFromAddress), "the same, by IPv6");
        assert_eq!(enter("192.0.2.2"), Ok(()));
        gate.leave(from("192.0.2.1"));
        assert_eq!(enter("192.0.2.1"), Ok(()));
        assert_eq!(enter("192.0.2.1"), Err(RefusalCode::TooManyFromAddress));
    }

    #[test]
    fn a_network_of_ipv6_is_one_address() {
        let gate = gate(|c| c.connections_per_address = Some(1));
        let enter = |ip| gate.enter(from(ip), START);
        assert_eq!(enter("2001:db8:0:1::1"), Ok(()));
        assert_eq!(enter("2001:db8:0:1:ffff::2"), Err(RefusalCode::TooManyFromAddress));
        assert_eq!(enter("2001:db8:0:2::1"), Ok(()), "the next network is another");
        assert_eq!((enter("::1"), enter("127.0.0.1")), (Ok(()), Ok(())));
    }

    #[test]
    fn tokens_come_back_with_time_and_no_more_than_the_bucket_holds() {
        let gate = gate(|c| (c.connections_per_second, c.connection_burst) = (Some(10), 3));
        let enter = |millis| gate.enter(from("192.0.2.1"), START.after(Duration::from_millis(millis)));
        let refused = Err(RefusalCode::TooManyPerSecond);
        assert_eq!([enter(0), enter(0), enter(0), enter(0)], [Ok(()), Ok(()), Ok(()), refused]);
        assert_eq!((enter(99), enter(100), enter(100)), (refused, Ok(()), refused));
        assert_eq!((enter(199), enter(200)), (refused, Ok(())));
        // After any pause it is the burst again.
        let (long, mut let_in) = (1_000_000, 0);
        while enter(long).is_ok() {
            let_in += 1;
        }
        assert_eq!(let_in, 3);
    }

    #[test]
    fn what_one_address_has_too_many_of_costs_nobody_else_his_token() {
        let gate = gate(|c| {
            (c.connections_per_address, c.connections_per_second, c.connection_burst) = (Some(1), Some(1), 2);
        });
        let enter = |ip| gate.enter(from(ip), START);
        assert_eq!(enter("192.0.2.1"), Ok(()));
        (0..100).for_each(|_| assert_eq!(enter("192.0.2.1"), Err(RefusalCode::TooManyFromAddress)));
        assert_eq!(enter("192.0.2.2"), Ok(()));
        assert_eq!(enter("192.0.2.3"), Err(RefusalCode::TooManyPerSecond));
        // Who was refused for the rate is not counted as there.
        assert_eq!(gate.enter(from("192.0.2.3"), START.after(Duration::from_secs(1))), Ok(()));
    }

    #[test]
    fn a_gate_without_a_limit_counts_nothing() {
        let gate = gate(|_| {});
        (0..1000).for_each(|_| assert_eq!(gate.enter(from("192.0.2.1"), START), Ok(())));
        assert!(gate.seen.is_none());
    }

    #[test]
    fn addresses_that_come_and_go_never_make_the_table_grow() {
        let gate = gate(|c| (c.connections_per_address, c.sessions_max) = (Some(1), 1));
        let most = 2 * Config { sessions_max: 1, ..Config::default() }.slots_per_engine() as u32 + 1;
        let capacity = || gate.seen().unwrap().connections.capacity();
        let made = capacity();
        let address = |n: u32| SocketAddr::from((n.to_be_bytes(), 1));
        for n in 0..100_000 {
            if n >= most {
                gate.leave(address(n - most));
            }
            gate.enter(address(n), START).unwrap();
        }
        assert_eq!(capacity(), made);
    }

    #[test]
    fn the_bill_covers_the_table() {
        assert_eq!(BYTES_PER_ADDRESS, crate::config::ADDRESS_BYTES);
        for sessions_max in [1, 7, 100, 1000, 5000] {
            let config = Config { sessions_max, connections_per_address: Some(1), ..Config::default() };
            let seen = Gate::new(&config);
            let capacity = seen.seen().unwrap().connections.capacity();
            assert!(capacity >= config.addresses());
            // Its places are a power of two, of which 7 of 8 may be taken.
            let places = (capacity * 8).div_ceil(7);
            let bill = config.memory().unwrap().addresses;
            assert!(places * BYTES_PER_ADDRESS <= bill, "{places} places, {bill} on the bill");
        }
    }
}
