//! What `stat` and `top` share: which counters file is meant, what happened between two looks at it, and numbers that
//! fit into columns.
#![forbid(unsafe_code)]

use std::io;
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
    CountersFile::open(path).map_err(|error| Failure::new(unread(path, &error)))
}

/// Why a file was not read, and what to do.
fn unread(path: &Path, error: &CountersFileError) -> String {
    let hint = match error {
        CountersFileError::Io(error) => match error.kind() {
            io::ErrorKind::NotFound => "; does the server run, and does it write counters there?",
            io::ErrorKind::PermissionDenied => "; whoever runs the server may read it, so do it as that user",
            _ => "",
        },
        CountersFileError::Version(_) => "; take the `zerio` of the server's version",
        _ => "",
    };
    format!("can't read the counters in {}: {error}{hint}", path.display())
}

/// This user's files.
struct Files {
    read: Vec<CountersFile>,
    /// Why others were not.
    unread: Vec<String>,
}

impl Files {
    fn all() -> Result<Files, Failure> {
        let paths = CountersFile::list().map_err(|error| {
            Failure::new(format!("can't look into {}: {error}", CountersFile::folder().display()))
        })?;
        let mut files = Files { read: Vec::new(), unread: Vec::new() };
        for path in paths {
            match CountersFile::open(&path) {
                Ok(file) => files.read.push(file),
                // It has ended since.
                Err(CountersFileError::Io(error)) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => files.unread.push(unread(&path, &error)),
            }
        }
        Ok(files)
    }

    fn running(&self) -> impl Iterator<Item = &CountersFile> {
        self.read.iter().filter(|file| file.state() == WriterState::Running)
    }

    /// A line for each that runs, and for each that was not read.
    fn list(&self) -> String {
        let name = |file: &CountersFile| file.path().file_name().map(|name| name.display().to_string());
        let running = self.running().map(|file| {
            format!("\n  {}, file {}", describe(file), harmless(&name(file).unwrap_or_default()))
        });
        running.chain(self.unread.iter().map(|why| format!("\n  {why}"))).collect()
    }
}

fn named(which: &str) -> Result<CountersFile, Failure> {
    let is_meant = |file: &CountersFile| {
        let writer = file.writer();
        let name = file.path().file_name().and_then(|name| name.to_str());
        name == Some(which) || writer.address == which || writer.process.to_string() == which
    };
    let mut files = Files::all()?;
    let list = files.list();
    files.read.retain(is_meant);
    // One that runs is meant before one that has died, and a server before its clients.
    files.read.sort_by_key(|file| (file.state() != WriterState::Running, !file.writer().is_server));
    files.read.into_iter().next().ok_or_else(|| {
        let there = if list.is_empty() { "there are none of this user's" } else { "there are:" };
        Failure::new(format!(
            "nobody writes counters as {which:?}: give an address, a process id, a file's name or a path; {there}{list}"
        ))
    })
}

fn only() -> Result<CountersFile, Failure> {
    let mut files = Files::all()?;
    let list = files.list();
    files.read.retain(|file| file.state() == WriterState::Running);
    match (files.read.pop(), files.read.len()) {
        (Some(only), 0) => Ok(only),
        (Some(_), _) => {
            Err(Failure::new(format!("which one?{list}\nsay which: its address, process id or file")))
        }
        (None, _) => Err(Failure::new(format!(
            "no server of this user's runs that writes counters: start `zerio serve`, or give the path of a file{list}"
        ))),
    }
}

/// Who writes a file, in a line.
pub(crate) fn describe(file: &CountersFile) -> String {
    format!("{}, process {}", role(file), file.writer().process)
}

/// The same without its process.
pub(crate) fn role(file: &CountersFile) -> String {
    let writer = file.writer();
    let role = if writer.is_server { "server" } else { "client to" };
    format!("{role} {}", writer.address)
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
    fn a_file_that_is_not_read_says_why_and_what_to_do() {
        let why = |kind: io::ErrorKind| unread(Path::new("x"), &CountersFileError::Io(kind.into()));
        assert!(why(io::ErrorKind::NotFound).ends_with("does it write counters there?"));
        assert!(why(io::ErrorKind::PermissionDenied).ends_with("do it as that user"));
        assert!(
            unread(Path::new("x"), &CountersFileError::Version(9)).contains("x: its layout is version 9")
        );
    }

    #[test]
    fn the_default_name_is_one_on_every_system() {
        assert_eq!(default_name("127.0.0.1:7000".parse().unwrap()), Path::new("serve-127.0.0.1-7000"));
        assert_eq!(default_name("[::1]:7000".parse().unwrap()), Path::new("serve----1--7000"));
    }
}
