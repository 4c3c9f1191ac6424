//! The flags as the program needs them: units, wait strategies, and the library's `Config`.
#![forbid(unsafe_code)]

use std::net::SocketAddr;
use std::time::Duration;

use zerio::tls::TlsServer;
use zerio::{Builder, Config, DriverKind, Listen, Server, WaitStrategy};

use crate::args::{Driver, SameId, ServerSettings, Settings};
use crate::failure::Failure;

/// `HOST:PORT`. Whether the host exists is found out later; nonsense is told here.
pub(crate) fn address(text: &str) -> Result<String, String> {
    let instead = "give HOST:PORT, as in 127.0.0.1:7000 or [::1]:7000";
    let Some((host, port)) = text.rsplit_once(':') else {
        return Err(format!("it has no port; {instead}"));
    };
    if port.parse::<u16>().is_err() {
        return Err(format!("{port:?} is no port, 0 to 65535; {instead}"));
    }
    if host.is_empty() || (host.contains(':') && !host.starts_with('[')) {
        return Err(format!("{host:?} is no host; {instead}"));
    }
    Ok(text.to_owned())
}

/// Where to listen: `HOST:PORT`, or a port, of this machine alone.
pub(crate) fn listening(text: &str) -> Result<String, String> {
    match text.parse::<u16>() {
        Ok(port) => Ok(format!("127.0.0.1:{port}")),
        Err(_) => address(text).map_err(|why| format!("{why}, or PORT for this machine alone, as in 7000")),
    }
}

/// A number, as it is or in units of 1024: `4096`, `4k`, `1M`.
pub(crate) fn bytes(text: &str) -> Result<usize, String> {
    let (digits, unit) = split(text);
    let shift = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kib" => 10,
        "m" | "mib" => 20,
        "g" | "gib" => 30,
        _ => return Err(format!("{unit:?} is no unit; give a number, or one with k, M or G (4k is 4096)")),
    };
    let number: usize = digits.parse().map_err(|_| "give a number, as in 4096 or 4k".to_owned())?;
    number.checked_mul(1 << shift).ok_or_else(|| "it is too large; give less".to_owned())
}

/// A size that `bench` can measure: its messages carry a mark, and no configuration allows longer ones.
pub(crate) fn measured_bytes(text: &str) -> Result<usize, String> {
    match bytes(text)? {
        0 => Err("its messages carry a mark; give 1 or more".to_owned()),
        size if size > 1 << 28 => Err("no message is longer than 256M; give less".to_owned()),
        size => Ok(size),
    }
}

/// The longest time that can be given. A clock's reading and twice as much is still one.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// A time with its unit: `20us`, `500ms`, `2s`, `1m`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    if text.starts_with('-') {
        return Err("a time is 0 or longer".to_owned());
    }
    let (digits, unit) = split(text);
    let instead = "give a number and its unit (ns, us, ms, s, m), as in 500ms";
    let seconds = match unit {
        "ns" => 1e-9,
        "us" | "µs" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "" => return Err(format!("{text} has no unit; {instead}")),
        _ => return Err(format!("{unit:?} is no unit of time; {instead}")),
    };
    let number: f64 = digits.parse().map_err(|_| instead.to_owned())?;
    let time = Duration::try_from_secs_f64(number * seconds).ok().filter(|time| *time <= LONGEST);
    time.ok_or_else(|| format!("{text} is too long; a year is the most"))
}

/// The most messages to a burst.
pub(crate) const BURST_MAX: u32 = 1_000_000;

/// From one burst of messages to the next.
pub(crate) fn delay(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        time if time < Duration::from_micros(1) => {
            Err("bursts come one after the other; give 1us or more".into())
        }
        time => Ok(time),
    }
}

/// From one look to the next: engines tell what they count ten times a second.
pub(crate) fn interval(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        time if time < Duration::from_millis(100) => {
            Err("nothing is new more often; give 100ms or more".into())
        }
        time if time > Duration::from_secs(3600) => Err("it is too long; give an hour or less".into()),
        time => Ok(time),
    }
}

/// The same behind `--watch`, which may stand without a time: then whoever is to be watched must not stand in its place.
pub(crate) fn watching(text: &str) -> Result<Duration, String> {
    let not_a_time = |why| format!("{why}; the server stands first: zerio stat WHICH --watch");
    duration(text).map_err(not_a_time).and_then(|_| interval(text))
}

/// A wait strategy, by the name that it is printed by.
pub(crate) fn wait(text: &str) -> Result<WaitStrategy, String> {
    let (name, time) = match text.split_once(':') {
        Some((name, time)) => (name, Some(duration(time)?)),
        None => (text, None),
    };
    match (name, time) {
        ("busy-spin", None) => Ok(WaitStrategy::BusySpin),
        ("spin-then-park", None) => Ok(WaitStrategy::default()),
        ("spin-then-park", Some(time)) => Ok(WaitStrategy::SpinThenPark(time)),
        ("yield", None) => Ok(WaitStrategy::Yield),
        ("sleep", Some(time)) => Ok(WaitStrategy::Sleep(time)),
        ("park", None) => Ok(WaitStrategy::Park),
        _ => Err("give busy-spin, spin-then-park:20us, yield, sleep:50us or park".into()),
    }
}

/// A seed, decimal or hexadecimal: `4660`, `0x1234`.
pub(crate) fn seed(text: &str) -> Result<u64, String> {
    let seed = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    seed.map_err(|_| format!("{text:?} is no seed; 4660 and 0x1234 are"))
}

/// A number of minutes, which may be a part of one: `10`, `0.5`.
pub(crate) fn minutes(text: &str) -> Result<f64, String> {
    let minutes = text.parse().ok().filter(|minutes| (0.0..1e6).contains(minutes) && *minutes > 0.0);
    minutes.ok_or_else(|| format!("{text:?} is no number of minutes; 10 and 0.5 are"))
}

/// A number and what stands behind it.
fn split(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    text.split_at(end)
}

/// The driver that a flag stands for.
pub(crate) fn driver(flag: Driver) -> DriverKind {
    match flag {
        Driver::Auto => DriverKind::Auto,
        Driver::Poll => DriverKind::Poll,
        Driver::Uring => DriverKind::Uring,
        Driver::Rio => DriverKind::Rio,
    }
}

impl Settings {
    /// A configuration with what was given, and the library's defaults for all else.
    pub(crate) fn config(&self, tls: bool) -> Config {
        let mut config = Config::default();
        config.tls = tls;
        // Longer messages take larger rings with them, unless somebody says how large.
        set(&mut config.message_max, self.message_max);
        make_room(&mut config);
        set(&mut config.send_ring, self.send_ring);
        set(&mut config.receive_buffer, self.receive_buffer);
        set(&mut config.wait, self.wait);
        set(&mut config.handshake_timeout, self.handshake_timeout);
        set(&mut config.peer_timeout, self.peer_timeout);
        set(&mut config.drain_timeout, self.drain_timeout);
        config.driver = driver(self.driver);
        config.cores = self.core.clone();
        config.socket_send_buffer = self.socket_send_buffer;
        config.socket_receive_buffer = self.socket_receive_buffer;
        config.congestion = self.congestion.clone();
        config.busy_poll = self.busy_poll;
        config.priority = self.priority;
        config.huge_pages = self.huge_pages;
        config
    }
}

impl ServerSettings {
    /// Adds what is a server's own.
    pub(crate) fn apply(&self, config: &mut Config) {
        set(&mut config.sessions_max, self.sessions_max);
        config.connections_per_address = self.connections_per_address;
        config.connections_per_second = self.connections_per_second;
        set(&mut config.connection_burst, self.connection_burst);
        config.handshakes_max = self.handshakes_max;
        config.slow_peer_timeout = self.slow_peer_timeout;
        config.same_id = match self.same_id {
            SameId::Refuse => zerio::SameId::RefuseNew,
            SameId::Replace => zerio::SameId::ReplaceOld,
        };
    }

    /// Binds a server to an address.
    pub(crate) fn bind(&self, address: &str, tls: Option<TlsServer>) -> Result<Builder<Listen>, Failure> {
        let server = Server::bind(address)?;
        if let Some(tls) = tls {
            return Ok(server.tls(tls));
        }
        not_everywhere(address, server.local_addr(), self.insecure_everywhere)?;
        Ok(server)
    }
}

/// Every interface of the machine is not an address to come by without TLS and without saying so. A name may stand for
/// it, and so may `0`, so it is looked at what was bound.
pub(crate) fn not_everywhere(given: &str, bound: SocketAddr, allowed: bool) -> Result<(), Failure> {
    if allowed || !bound.ip().to_canonical().is_unspecified() {
        return Ok(());
    }
    let port = given.rsplit(':').next().unwrap_or_default();
    Err(Failure::Usage(format!(
        "{given} is every interface of this machine, and without TLS whoever reaches its port may come \
         in as anybody, and whoever is on the way may read and change what is sent; give 127.0.0.1:{port} \
         for this machine alone, the address of one interface, TLS (where there is --tls-cert), or --insecure-everywhere where you trust all \
         networks that this machine is on"
    )))
}

fn set<T>(setting: &mut T, given: Option<T>) {
    if let Some(given) = given {
        *setting = given;
    }
}

/// The longest record of TLS, which must have room beside the longest message.
const RECORD: usize = 16_645;

/// Makes rings and buffers as large as the longest message needs, and no smaller than they were.
pub(crate) fn make_room(config: &mut Config) {
    let frame = config.message_max.saturating_add(4);
    let ring = frame.saturating_mul(3);
    config.send_ring = config.send_ring.max(ring.checked_next_power_of_two().unwrap_or(ring));
    let record = if config.tls { RECORD } else { 0 };
    config.receive_buffer = config.receive_buffer.max(frame.saturating_add(record));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_needs_a_host_and_a_port() {
        for good in ["127.0.0.1:0", "localhost:65535", "[::1]:7000"] {
            assert!(address(good).is_ok(), "{good}");
        }
        for bad in ["", "7000", "localhost", "localhost:65536", ":7000", "::1:7000", "a:b"] {
            assert!(address(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_port_alone_is_one_of_this_machine() {
        assert_eq!(listening("7000").as_deref(), Ok("127.0.0.1:7000"));
        assert_eq!(listening("[::1]:0").as_deref(), Ok("[::1]:0"));
        for bad in ["", "65536", ":7000", "localhost"] {
            assert!(listening(bad).is_err_and(|why| why.contains("PORT for this machine alone")), "{bad}");
        }
    }

    #[test]
    fn units_are_understood_and_nonsense_is_not() {
        assert_eq!(bytes("4096"), Ok(4096));
        assert_eq!(bytes("4k"), Ok(4096));
        assert_eq!(bytes("1MiB"), Ok(1 << 20));
        for bad in ["", "k", "4x", "-1", "99999999999999999999", "99999999999999999G"] {
            assert!(bytes(bad).is_err(), "{bad}");
        }
        assert_eq!(duration("20us"), Ok(Duration::from_micros(20)));
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("0ms"), Ok(Duration::ZERO));
        assert_eq!(interval("100ms"), Ok(Duration::from_millis(100)));
        assert_eq!(interval("60m"), Ok(Duration::from_secs(3600)));
        assert!(["99ms", "61m"].iter().all(|text| interval(text).is_err()));
        assert_eq!(watching("5s"), Ok(Duration::from_secs(5)));
        assert!(watching("127.0.0.1:7000").is_err_and(|why| why.contains("zerio stat WHICH --watch")));
        assert!(watching("1ms").is_err_and(|why| why.contains("100ms or more") && !why.contains("WHICH")));
        for bad in ["", "5", "s", "5h", "-1s", "1.2.3s"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
        assert_eq!(duration("31536000s"), Ok(LONGEST));
        // With the first a clock's reading went over its end, the second is no time of std's.
        for bad in ["31536001s", "10000000000000000000s", "99999999999999999999999s"] {
            assert_eq!(duration(bad), Err(format!("{bad} is too long; a year is the most")));
        }
    }

    #[test]
    fn seeds_and_minutes_are_understood_and_nonsense_is_not() {
        assert_eq!((seed("4660"), seed("0x1234")), (Ok(4660), Ok(4660)));
        assert!(["", "-1", "1234h", "0xg"].iter().all(|text| seed(text).is_err()));
        assert_eq!((minutes("10"), minutes("0.5")), (Ok(10.0), Ok(0.5)));
        assert!(["", "0", "-1", "NaN", "inf"].iter().all(|text| minutes(text).is_err()));
    }

    #[test]
    fn a_wait_strategy_is_read_as_it_is_printed() {
        let spin = WaitStrategy::SpinThenPark(Duration::from_micros(7));
        let sleep = WaitStrategy::Sleep(Duration::from_micros(50));
        for strategy in [WaitStrategy::BusySpin, spin, WaitStrategy::Yield, sleep, WaitStrategy::Park] {
            assert_eq!(wait(&strategy.to_string()), Ok(strategy));
        }
        for bad in ["", "spin", "sleep", "park:1us", "sleep:1"] {
            assert!(wait(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn room_is_made_for_long_messages() {
        for tls in [false, true] {
            let mut config = Config::default();
            (config.message_max, config.tls) = (1 << 20, tls);
            assert!(config.memory().is_err());
            make_room(&mut config);
            config.memory().unwrap();
        }
    }
}
