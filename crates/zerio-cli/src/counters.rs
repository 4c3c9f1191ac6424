//! What `stat` and `top` share: which counters file is meant, what happened between two looks at it, and numbers that
//! fit into columns.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use zerio::{CountersFile, CountersFileError, CountersRow, CountersSnapshot, WriterState};

use crate::failure::Failure;

/// The file that `which` names: by a path, an address, a process id or a file's name; without it the only one that is
/// written.
pub(crate) fn find(which: Option<&str>) -> Result<CountersFile, Failure> {
    match which {
        Some(path) if path.contains(std::path::MAIN_SEPARATOR) || path.contains('/') => open(Path::new(path)),
        Some(which) => named(which),
        None => only(),
    }
}

pub(crate) fn open(path: &Path) -> Result<CountersFile, Failure> {
    CountersFile::open(path).map_err(|error| {
        let hint = match &error {
            CountersFileError::Io(error) if error.kind() == std::io::ErrorKind::NotFound => {
                "; does the server run, and does it write counters there?"
            }
            _ => "",
        };
        Failure::new(format!("can't read the counters in {}: {error}{hint}", path.display()))
    })
}

/// This user's files that can be read.
fn all() -> Result<Vec<CountersFile>, Failure> {
    let paths = CountersFile::list().map_err(|error| {
        Failure::new(format!("can't look into {}: {error}", CountersFile::folder().display()))
    })?;
    Ok(paths.iter().filter_map(|path| CountersFile::open(path).ok()).collect())
}

fn named(which: &str) -> Result<CountersFile, Failure> {
    let is_meant = |file: &CountersFile| {
        let writer = file.writer();
        let name = file.path().file_name().and_then(|name| name.to_str());
        name == Some(which) || writer.address == which || writer.process.to_string() == which
    };
    let mut meant: Vec<CountersFile> = all()?.into_iter().filter(is_meant).collect();
    // One that runs is meant before one that has died, and a server before its clients.
    meant.sort_by_key(|file| (file.state() != WriterState::Running, !file.writer().is_server));
    match meant.into_iter().next() {
        Some(file) => Ok(file),
        None => Err(Failure::new(format!(
            "nobody writes counters as {which:?}: give an address, a process id, or a path; `zerio stat` lists who does"
        ))),
    }
}

fn only() -> Result<CountersFile, Failure> {
    let mut running: Vec<CountersFile> =
        all()?.into_iter().filter(|file| file.state() == WriterState::Running).collect();
    match running.len() {
        1 => Ok(running.remove(0)),
        0 => Err(Failure::new(
            "no server of this user's runs that writes counters: start `zerio serve`, or give the path of a file",
        )),
        _ => {
            let list: Vec<String> = running.iter().map(|file| format!("\n  {}", describe(file))).collect();
            Err(Failure::new(format!("which one?{}\nsay it: zerio stat ADDRESS", list.concat())))
        }
    }
}

/// Who writes a file, in a line.
pub(crate) fn describe(file: &CountersFile) -> String {
    let writer = file.writer();
    let role = if writer.is_server { "server" } else { "client to" };
    format!("{role} {}, process {}", writer.address, writer.process)
}

/// How long ago a moment was, in nanoseconds since 1970.
pub(crate) fn ago(moment: u64) -> Duration {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    now.saturating_sub(Duration::from_nanos(moment))
}

/// Which session a line is of.
pub(crate) fn key(session: &CountersRow) -> (usize, usize, Option<u64>) {
    (session.engine, session.slot, session.get("generation"))
}

/// How much a counter grew in a second from one look to the next, by the writer's own clock. `None` where nothing was
/// published in between.
pub(crate) fn rate(then: &CountersRow, now: &CountersRow, label: &str) -> Option<f64> {
    let published = |row: &CountersRow| row.get("published");
    let seconds = published(now)?.checked_sub(published(then)?).filter(|&time| time > 0)? as f64 / 1e9;
    Some(now.get(label)?.saturating_sub(then.get(label)?) as f64 / seconds)
}

/// The same for all engines together.
pub(crate) fn total_rate(then: &CountersSnapshot, now: &CountersSnapshot, label: &str) -> f64 {
    let pairs = then.engines.iter().zip(&now.engines);
    pairs.filter_map(|(then, now)| rate(then, now, label)).sum()
}

/// A number in at most five characters: `0`, `999`, `1.2k`, `123k`, `1.2M`.
pub(crate) fn short(number: f64) -> String {
    if number < 0.05 {
        return "0".to_owned();
    }
    if number < 9.95 && number.fract() >= 0.05 {
        return format!("{number:.1}");
    }
    let (mut number, mut unit) = (number, 0);
    let units = ["", "k", "M", "G", "T", "P", "E"];
    while number >= 999.5 && unit + 1 < units.len() {
        (number, unit) = (number / 1000.0, unit + 1);
    }
    if unit > 0 && number < 9.95 {
        format!("{number:.1}{}", units[unit])
    } else {
        format!("{number:.0}{}", units[unit])
    }
}

/// A time in at most six characters: `0`, `640ns`, `3.1µs`, `12ms`, `1.2s`, `3m`, `2h`, `12d`.
pub(crate) fn short_time(nanos: u64) -> String {
    let number = nanos as f64;
    let (value, unit) = match number {
        n if n < 0.5 => return "0".to_owned(),
        n if n < 999.5 => return format!("{n}ns"),
        n if n < 999.5e3 => (n / 1e3, "µs"),
        n if n < 999.5e6 => (n / 1e6, "ms"),
        n if n < 119.5e9 => (n / 1e9, "s"),
        n if n < 7170e9 => return format!("{:.0}m", n / 60e9),
        n if n < 172_800e9 => return format!("{:.0}h", n / 3600e9),
        n => return format!("{:.0}d", n / 86_400e9),
    };
    if value < 9.95 { format!("{value:.1}{unit}") } else { format!("{value:.0}{unit}") }
}

/// A session's state, by its number in the file.
pub(crate) fn state_name(session: &CountersRow) -> &'static str {
    match (session.get("state"), session.get("paused")) {
        (Some(1), _) => "connecting",
        (Some(2), _) => "handshake",
        (Some(3), Some(1)) => "paused",
        (Some(3), _) => "open",
        (Some(4), _) => "draining",
        (Some(5), _) => "closing",
        _ => "?",
    }
}

/// A text that comes from a peer, made harmless for a terminal.
pub(crate) fn harmless(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// Where the counters of `zerio serve` go on its own accord.
pub(crate) fn default_name(address: std::net::SocketAddr) -> PathBuf {
    let address: String = address
        .to_string()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' })
        .collect();
    format!("serve-{address}").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_fit_their_columns() {
        for (number, text) in [
            (0.0, "0"),
            (0.04, "0"),
            (0.5, "0.5"),
            (5.0, "5"),
            (12.4, "12"),
            (999.4, "999"),
            (999.6, "1.0k"),
            (1234.0, "1.2k"),
            (12_345.0, "12k"),
            (999_600.0, "1.0M"),
            (1e18, "1.0E"),
            (u64::MAX as f64, "18E"),
        ] {
            assert_eq!(short(number), text);
        }
        for power in 0..64 {
            for number in [(1u64 << power) as f64, (1u64 << power) as f64 * 1.3] {
                assert!(short(number).len() <= 5, "{number}: {}", short(number));
            }
            let time = short_time(1 << power);
            assert!(time.chars().count() <= 7, "{power}: {time}");
        }
        for (time, text) in [
            (0, "0"),
            (640, "640ns"),
            (3100, "3.1µs"),
            (999_400, "999µs"),
            (12_000_000, "12ms"),
            (1_200_000_000, "1.2s"),
            (119_000_000_000, "119s"),
            (120_000_000_000, "2m"),
            (7_200_000_000_000, "2h"),
        ] {
            assert_eq!(short_time(time), text);
        }
    }

    #[test]
    fn the_default_name_is_one_on_every_system() {
        assert_eq!(default_name("127.0.0.1:7000".parse().unwrap()), Path::new("serve-127.0.0.1-7000"));
        assert_eq!(default_name("[::1]:7000".parse().unwrap()), Path::new("serve----1--7000"));
    }
}
