//! The counters file of another process, for those who read it. Its writer does not notice.
#![forbid(unsafe_code)]

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use super::histogram::{self, Histogram};
use super::layout::{self, FieldKind, FieldScope, entry, header, state};
use super::map::{self, Map};
use crate::cursor::{Line, Word};

/// How often a line is read that its writer is just writing. A writer that has died in the middle never gets done.
const ATTEMPTS: usize = 100;

/// What can't be read as a counters file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CountersFileError {
    /// The system did not let it be read.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It is something else.
    #[error("it is no counters file of zerio's")]
    Foreign,
    /// Its process is just making it.
    #[error("it is just being made; try again")]
    Beginning,
    /// It was made by another version of zerio's, which lays it out in another way.
    #[error("its layout is version {0}, and this one reads version {own}", own = layout::VERSION)]
    Version(u64),
    /// What it says of itself can't be so.
    #[error("it is damaged: {0}")]
    Damaged(&'static str),
}

/// Whether somebody writes a counters file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WriterState {
    /// A process writes it.
    Running,
    /// It ended in order: these are its last counts.
    Ended,
    /// It ended without saying so, as one does that is killed.
    Died,
}

impl fmt::Display for WriterState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            WriterState::Running => "running",
            WriterState::Ended => "ended",
            WriterState::Died => "died",
        })
    }
}

/// A field of a line: a counter, or something else that its writer tells.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Field {
    /// What has it.
    pub scope: FieldScope,
    /// What kind of value it is.
    pub kind: FieldKind,
    /// In what it is counted: `ns`, `bytes`, `messages`, or nothing.
    pub unit: String,
    /// Its name.
    pub label: String,
    /// What it tells, in words.
    pub meaning: String,
    at: usize,
    words: usize,
}

/// Who writes a counters file, and what its configuration allows.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CountersWriter {
    /// Its process.
    pub process: u32,
    /// It is a server; otherwise a client.
    pub is_server: bool,
    /// Where it listens, or what it connects to.
    pub address: String,
    /// The library and its version.
    pub library: String,
    /// When it was started, in nanoseconds since 1970.
    pub started: u64,
    /// How many engines it has.
    pub engines: usize,
    /// How many sessions it has at the most.
    pub sessions_max: usize,
    /// Each session's send ring, in bytes.
    pub send_ring: u64,
    /// Each session's receive buffer, in bytes.
    pub receive_buffer: u64,
    /// The longest message, in bytes.
    pub message_max: u64,
}

/// The counters file of another process, or of this one, open to be read: see
/// [`Config::counters_file`](crate::Config::counters_file).
///
/// ```
/// use zerio::{CountersFile, Server};
///
/// # let path = std::env::temp_dir().join(format!("zerio-doc-{}", std::process::id()));
/// let mut config = zerio::Config::default();
/// config.counters_file = Some(path.clone());
/// let server = Server::bind("127.0.0.1:0")?.config(config).start()?;
///
/// // From here on it may as well be another process.
/// let file = CountersFile::open(&path)?;
/// println!("{} on {}", file.writer().library, file.writer().address);
/// for engine in &file.read().engines {
///     println!("{:?} turns", engine.get("turns"));
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct CountersFile {
    path: PathBuf,
    file: File,
    map: Map,
    writer: CountersWriter,
    clock: u64,
    fields: Vec<Field>,
    slots: usize,
    /// First word and words of each of the tables of lines.
    engine_lines: (usize, usize),
    session_lines: (usize, usize),
    histograms: (usize, usize),
}

impl CountersFile {
    /// Opens the file at a path, or the one of a name without a folder in [`folder`](CountersFile::folder).
    ///
    /// # Errors
    ///
    /// A [`CountersFileError`], where it is none that can be read.
    pub fn open(path: impl AsRef<Path>) -> Result<CountersFile, CountersFileError> {
        let path = path.as_ref();
        let is_name = path.components().count() == 1 && path.file_name().is_some() && !path.is_absolute();
        let path = if is_name { map::folder().join(path) } else { path.to_owned() };
        let file = map::open_to_read(&path)?;
        let length = file.metadata()?.len() as usize;
        if length < header::WORDS * size_of::<u64>() {
            return Err(if length == 0 { CountersFileError::Beginning } else { CountersFileError::Foreign });
        }
        let map = Map::to_read(&file, length)?;
        let words = map.words();
        if words[header::MAGIC].get() != layout::MAGIC {
            return Err(CountersFileError::Foreign);
        }
        if words[header::STATE].observe() == state::BEGINNING {
            return Err(CountersFileError::Beginning);
        }
        let number = |at: usize| words[at].get();
        if number(header::VERSION) != layout::VERSION {
            return Err(CountersFileError::Version(number(header::VERSION)));
        }
        let text = |range: std::ops::Range<usize>| layout::text(words[range].iter().map(Word::get));
        let writer = CountersWriter {
            process: number(header::PROCESS) as u32,
            is_server: number(header::ROLE) == 1,
            address: text(header::ADDRESS),
            library: text(header::LIBRARY),
            started: number(header::STARTED),
            engines: number(header::ENGINES) as usize,
            sessions_max: number(header::SESSIONS_MAX) as usize,
            send_ring: number(header::SEND_RING),
            receive_buffer: number(header::RECEIVE_BUFFER),
            message_max: number(header::MESSAGE_MAX),
        };
        let (clock, slots) = (number(header::CLOCK), number(header::SLOTS) as usize);
        let rows = |at: usize, count: usize, least: usize| table(words, at, count, least);
        let all_slots = writer.engines.saturating_mul(slots);
        let engine_lines = rows(header::ENGINE_LINES, writer.engines, 1)?;
        let session_lines = rows(header::SESSION_LINES, all_slots, 1)?;
        let histograms = rows(header::HISTOGRAMS, writer.engines, histogram::WORDS)?;
        let entries = rows(header::FIELDS, number(header::FIELD_COUNT) as usize, entry::WORDS)?;
        let entries = words[entries.0..].chunks(entries.1).take(number(header::FIELD_COUNT) as usize);
        let fields: Vec<Field> = entries.filter_map(field).collect();
        let fits = |field: &Field| {
            let (row, least) = match field.scope {
                FieldScope::Engine => (engine_lines.1, 1),
                FieldScope::Session => (session_lines.1, 1),
                FieldScope::Histogram => (histograms.1, histogram::WORDS),
            };
            field.words >= least && field.at.saturating_add(field.words) <= row
        };
        if !fields.iter().all(fits) {
            return Err(CountersFileError::Damaged("a field stands outside of its line"));
        }
        Ok(CountersFile {
            path,
            file,
            map,
            writer,
            clock,
            fields,
            slots,
            engine_lines,
            session_lines,
            histograms,
        })
    }

    /// Where the counters files of this user are that were given a name and no folder: `/dev/shm/zerio-UID` on Linux, and
    /// a folder among the temporary files elsewhere.
    pub fn folder() -> PathBuf {
        map::folder()
    }

    /// The files in that folder, stale ones included, by name.
    ///
    /// # Errors
    ///
    /// Where the folder can't be read. That there is none is no error, and no file.
    pub fn list() -> io::Result<Vec<PathBuf>> {
        let entries = match fs::read_dir(map::folder()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut paths =
            entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>()?;
        paths.sort();
        Ok(paths)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Who writes it.
    pub fn writer(&self) -> &CountersWriter {
        &self.writer
    }

    /// Whether he still does.
    pub fn state(&self) -> WriterState {
        if self.map.words()[header::STATE].observe() == state::ENDED {
            return WriterState::Ended;
        }
        match map::is_written(&self.file, &self.path) {
            Ok(false) if self.map.words()[header::STATE].observe() == state::ENDED => WriterState::Ended,
            Ok(false) => WriterState::Died,
            // What can't be found out is no reason to call somebody dead.
            Ok(true) | Err(_) => WriterState::Running,
        }
    }

    /// What it has fields for, in order.
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// What it says now: a copy. Each line is of one moment, and different lines are of moments up to a tenth of a
    /// second apart, or a second where little happens.
    pub fn read(&self) -> CountersSnapshot {
        let engines = 0..self.writer.engines;
        CountersSnapshot {
            engines: engines.clone().map(|engine| self.row(FieldScope::Engine, engine, 0)).collect(),
            sessions: engines.flat_map(|engine| self.sessions(engine)).collect(),
            histograms: self.histograms(),
        }
    }

    /// The sessions of one engine that its slots have now.
    fn sessions(&self, engine: usize) -> impl Iterator<Item = CountersRow> {
        let is_taken = |row: &CountersRow| row.get("state").is_some_and(|state| state != 0);
        (0..self.slots).map(move |slot| self.row(FieldScope::Session, engine, slot)).filter(is_taken)
    }

    fn row(&self, scope: FieldScope, engine: usize, slot: usize) -> CountersRow {
        let ((start, words), index) = match scope {
            FieldScope::Session => (self.session_lines, engine * self.slots + slot),
            FieldScope::Engine | FieldScope::Histogram => (self.engine_lines, engine),
        };
        let start = start + index * words;
        let line = Line::new(&self.map.words()[start..start + words]);
        let mut copy = vec![0; words];
        // One that is never whole belongs to a writer who has died in the middle: better that than nothing.
        let _ = (0..ATTEMPTS).any(|_| line.read(&mut copy[1..]));
        let values = self.fields.iter().filter(|field| field.scope == scope).map(|field| {
            let words = &copy[field.at..field.at + field.words];
            (field.label.clone(), self.value(field.kind, words))
        });
        CountersRow { engine, slot, values: values.collect() }
    }

    fn value(&self, kind: FieldKind, words: &[u64]) -> CountersValue {
        match (kind, words) {
            (FieldKind::Text, words) => CountersValue::Text(layout::text(words.iter().copied())),
            (FieldKind::Address, &[family_and_port, first, second]) => {
                address(family_and_port, first, second)
            }
            (FieldKind::Time, &[0]) => CountersValue::Number(0),
            (FieldKind::Time, &[time]) => CountersValue::Number(self.clock.wrapping_add(time)),
            (_, words) => CountersValue::Number(words.first().copied().unwrap_or(0)),
        }
    }

    /// The times of all engines together, by label.
    fn histograms(&self) -> Vec<(String, Histogram)> {
        let fields = self.fields.iter().filter(|field| field.scope == FieldScope::Histogram);
        let sum = |field: &Field| {
            let start = |engine: usize| self.histograms.0 + engine * self.histograms.1 + field.at;
            let copy =
                |engine| Histogram::copy(&self.map.words()[start(engine)..start(engine) + field.words]);
            let mut engines = (0..self.writer.engines).map(copy);
            let mut sum = engines.next()?;
            engines.for_each(|engine| sum.add(&engine));
            Some((field.label.clone(), sum))
        };
        fields.filter_map(sum).collect()
    }
}

/// The first word of a table and the words of one of its rows, which are checked to lie in the file.
fn table(words: &[Word], at: usize, rows: usize, least: usize) -> Result<(usize, usize), CountersFileError> {
    let (start, row) = (words[at].get() as usize, words[at + 1].get() as usize);
    if !start.is_multiple_of(size_of::<u64>()) || !row.is_multiple_of(size_of::<u64>()) {
        return Err(CountersFileError::Damaged("a table is not made of whole words"));
    }
    let (start, row) = (start / size_of::<u64>(), row / size_of::<u64>());
    let end = rows.checked_mul(row).and_then(|all| all.checked_add(start));
    if row < least || end.is_none_or(|end| end > words.len()) {
        return Err(CountersFileError::Damaged("a table does not lie in it"));
    }
    Ok((start, row))
}

/// An entry of the table of fields; `None` where this version does not know what kind it is.
fn field(words: &[Word]) -> Option<Field> {
    let number = |at: usize| words[at].get() as usize;
    let text = |range: std::ops::Range<usize>| layout::text(words[range].iter().map(Word::get));
    Some(Field {
        scope: *layout::SCOPES.get(number(entry::SCOPE).checked_sub(1)?)?,
        kind: *layout::KINDS.get(number(entry::KIND).checked_sub(1)?)?,
        unit: text(entry::UNIT),
        label: text(entry::LABEL),
        meaning: text(entry::MEANING),
        at: number(entry::AT) / size_of::<u64>(),
        words: number(entry::LEN) / size_of::<u64>(),
    })
}

fn address(family_and_port: u64, first: u64, second: u64) -> CountersValue {
    let [first, second] = [first, second].map(u64::to_ne_bytes);
    let port = family_and_port as u16;
    let ip = match family_and_port >> 32 {
        4 => IpAddr::from([first[0], first[1], first[2], first[3]]),
        6 => {
            let mut bytes = [0; 16];
            bytes[..8].copy_from_slice(&first);
            bytes[8..].copy_from_slice(&second);
            IpAddr::from(bytes)
        }
        _ => return CountersValue::Text(String::new()),
    };
    CountersValue::Text(SocketAddr::new(ip, port).to_string())
}

/// The value of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CountersValue {
    /// A number; of a moment, in nanoseconds since 1970, or 0 where there was none yet.
    Number(u64),
    /// Text, or an address.
    Text(String),
}

/// A line: what an engine or a session says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CountersRow {
    /// Which engine it is, or is of.
    pub engine: usize,
    /// The slot of a session; with its generation it tells sessions apart. 0 for an engine.
    pub slot: usize,
    /// Each field's label and value.
    pub values: Vec<(String, CountersValue)>,
}

impl CountersRow {
    /// A number, by its label.
    pub fn get(&self, label: &str) -> Option<u64> {
        match self.value(label) {
            Some(CountersValue::Number(number)) => Some(*number),
            _ => None,
        }
    }

    /// A text, by its label.
    pub fn text(&self, label: &str) -> Option<&str> {
        match self.value(label) {
            Some(CountersValue::Text(text)) => Some(text),
            _ => None,
        }
    }

    fn value(&self, label: &str) -> Option<&CountersValue> {
        self.values.iter().find(|(own, _)| own == label).map(|(_, value)| value)
    }
}

/// All that a counters file says at some moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CountersSnapshot {
    /// A line for each engine.
    pub engines: Vec<CountersRow>,
    /// A line for each connection, those included that are no session yet or any more.
    pub sessions: Vec<CountersRow>,
    /// The times of all engines together, by label.
    pub histograms: Vec<(String, Histogram)>,
}

impl CountersSnapshot {
    /// The sum of a counter over all engines.
    pub fn total(&self, label: &str) -> u64 {
        self.engines.iter().filter_map(|engine| engine.get(label)).fold(0, u64::wrapping_add)
    }

    /// The largest of a counter over all engines.
    pub fn most(&self, label: &str) -> u64 {
        self.engines.iter().filter_map(|engine| engine.get(label)).max().unwrap_or(0)
    }

    /// Times, by their label.
    pub fn histogram(&self, label: &str) -> Option<&Histogram> {
        self.histograms.iter().find(|(own, _)| own == label).map(|(_, histogram)| histogram)
    }
}
