//! The counters file of a process, for those who write it: made anew at start, or in place of a stale one, and gone
//! at the end. Each engine writes lines of its own; nothing is allocated after the start.
#![forbid(unsafe_code)]

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Seek, Write};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::histogram::Recorder;
use super::layout::{self, Layout, entry, header, state};
use super::map::{self, Map};
use crate::cursor::{Line, Word};

/// How often it is tried to make a file, or to lock one. A reader who looks whether its writer lives has it locked for
/// a moment; nobody waits here, and so many looks take less than a millisecond.
const ATTEMPTS: usize = 1000;

/// So many files of dead processes stay in the folder.
const DEAD_MAX: usize = 8;

/// What a file says of its writer.
#[derive(Clone, Debug)]
pub(crate) struct About {
    pub(crate) server: bool,
    /// Where it listens, or connects to.
    pub(crate) address: String,
    /// In nanoseconds since 1970: now, and when the clock was 0 by which its engines tell the time.
    pub(crate) started: u64,
    pub(crate) clock: u64,
    pub(crate) engines: usize,
    pub(crate) slots: usize,
    pub(crate) sessions_max: usize,
    pub(crate) send_ring: usize,
    pub(crate) receive_buffer: usize,
    pub(crate) message_max: usize,
}

/// The file. When the last of its engines has let go of it, it says that it has ended, and is removed.
#[derive(Debug)]
struct Owned {
    path: PathBuf,
    /// Open, and so locked, as long as this process writes it.
    file: File,
    map: Arc<Map>,
}

impl Drop for Owned {
    fn drop(&mut self) {
        self.map.words()[header::STATE].publish(state::ENDED);
        if map::is_at(&self.file, &self.path) {
            // Where it can't be removed it is a stale one, as after a crash.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// The lines of one engine.
#[derive(Debug)]
pub(crate) struct Lines {
    owned: Arc<Owned>,
    layout: Layout,
    engine: usize,
}

impl Lines {
    /// The engine's own line, whose one writer is its thread.
    pub(crate) fn engine(&self) -> Line<'_> {
        Line::new(&self.words()[self.layout.engine(self.engine)])
    }

    /// That of its session in a slot.
    pub(crate) fn session(&self, slot: usize) -> Line<'_> {
        Line::new(&self.words()[self.layout.session(self.engine, slot)])
    }

    /// One of its histograms.
    pub(crate) fn histogram(&self, which: usize) -> Recorder {
        Recorder::new(self.owned.map.clone(), self.layout.histogram(self.engine, which))
    }

    fn words(&self) -> &[Word] {
        self.owned.map.words()
    }
}

/// Makes the file, and gives each engine its lines. A name without a folder is one in the user's own for such files.
pub(crate) fn make(path: &Path, about: &About) -> io::Result<Vec<Lines>> {
    let path = full_path(path)?;
    let layout = Layout::new(about.engines, about.slots);
    let mut file = place(&path)?;
    let made = fill(&mut file, layout.bytes()).and_then(|()| Map::to_write(&file));
    let map = Arc::new(made.inspect_err(|_| drop(fs::remove_file(&path)))?);
    describe(map.words(), &layout, about);
    let owned = Arc::new(Owned { path, file, map });
    Ok((0..about.engines).map(|engine| Lines { owned: owned.clone(), layout, engine }).collect())
}

fn full_path(path: &Path) -> io::Result<PathBuf> {
    let mut parts = path.components();
    match (parts.next(), parts.next()) {
        (Some(Component::Normal(name)), None) => {
            let folder = map::make_folder()?;
            sweep(&folder);
            Ok(folder.join(name))
        }
        _ => Ok(path.to_owned()),
    }
}

/// Removes what dead processes have left in the folder, but for the last few of them: their last counts may still be
/// asked for. What can't be removed stays.
fn sweep(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let mut dead: Vec<_> = entries
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let mut file = map::open_to_replace(&path).ok()?;
            // One that has no first word yet is not locked yet either.
            let is_dead = first_word(&mut file).ok()? == Some(layout::MAGIC) && map::lock(&file).ok()?;
            let made = file.metadata().and_then(|about| about.modified()).ok()?;
            is_dead.then_some((made, path, file))
        })
        .collect();
    dead.sort_by_key(|(made, ..)| std::cmp::Reverse(*made));
    for (_, path, file) in dead.into_iter().skip(DEAD_MAX) {
        if map::is_at(&file, &path) {
            // Windows removes no file that is open.
            #[cfg(windows)]
            drop(file);
            let _ = fs::remove_file(path);
        }
    }
}

/// A new file at the path, locked. One that stands there and that nobody writes is removed first.
fn place(path: &Path) -> io::Result<File> {
    let mut busy = None;
    for _ in 0..ATTEMPTS {
        match map::create(path) {
            // Somebody else may have taken it for a stale one before it was locked.
            Ok(file) if map::lock(&file)? && map::is_at(&file, path) => return Ok(file),
            Ok(_) => continue,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        match map::open_to_replace(path) {
            Ok(mut file) => {
                let begins = first_word(&mut file)?;
                if begins.is_some_and(|word| word != layout::MAGIC) {
                    let why = "there is a file that is no counters file, and it stays; choose another path";
                    return Err(io::Error::new(ErrorKind::AlreadyExists, why));
                }
                if !map::lock(&file)? {
                    busy = Some(busy.unwrap_or_else(|| writer(&mut file)));
                    continue;
                }
                if map::is_at(&file, path) {
                    // Windows removes no file that is open.
                    #[cfg(windows)]
                    drop(file);
                    fs::remove_file(path)?;
                }
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) if error.kind() == ErrorKind::ResourceBusy => {
                let process = || map::open_to_read(path).map_or(0, |mut file| writer(&mut file));
                busy = Some(busy.unwrap_or_else(process));
            }
            Err(error) => return Err(error),
        }
    }
    let who = match busy {
        Some(0) | None => "another process writes it".to_owned(),
        Some(process) => format!("process {process} writes it"),
    };
    Err(io::Error::new(ErrorKind::ResourceBusy, format!("{who}, and lives; choose another path")))
}

/// What a file begins with; `None` where it has not even that, as one whose writer died just after making it.
fn first_word(file: &mut File) -> io::Result<Option<u64>> {
    let mut word = [0; size_of::<u64>()];
    match file.read_exact(&mut word) {
        Ok(()) => Ok(Some(u64::from_ne_bytes(word))),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

/// The number of the process that writes a file, 0 where it does not say.
fn writer(file: &mut File) -> u64 {
    let at = header::PROCESS * size_of::<u64>();
    let word = file.seek(io::SeekFrom::Start(at as u64)).and_then(|_| first_word(file));
    word.ok().flatten().unwrap_or(0)
}

/// Gives a new file its first word and its length. All of it is written: a page that there is no room for is an error
/// here, and would be the end of the process later.
fn fill(file: &mut File, bytes: usize) -> io::Result<()> {
    let magic = layout::MAGIC.to_ne_bytes();
    file.write_all(&magic)?;
    let zeros = [0; 64 * 1024];
    let mut left = bytes - magic.len();
    while left > 0 {
        let piece = left.min(zeros.len());
        file.write_all(&zeros[..piece])?;
        left -= piece;
    }
    file.flush()
}

/// Writes the header and the table of fields.
fn describe(words: &[Word], layout: &Layout, about: &About) {
    let bytes = |words: usize| (words * size_of::<u64>()) as u64;
    for (at, value) in [
        (header::VERSION, layout::VERSION),
        (header::PROCESS, u64::from(std::process::id())),
        (header::ROLE, if about.server { 1 } else { 2 }),
        (header::STARTED, about.started),
        (header::CLOCK, about.clock),
        (header::LENGTH, layout.bytes() as u64),
        (header::ENGINES, about.engines as u64),
        (header::SLOTS, about.slots as u64),
        (header::FIELDS, bytes(layout.table())),
        (header::FIELDS + 1, bytes(entry::WORDS)),
        (header::ENGINE_LINES, bytes(layout.engine_lines())),
        (header::ENGINE_LINES + 1, bytes(layout::ENGINE_WORDS)),
        (header::SESSION_LINES, bytes(layout.session_lines())),
        (header::SESSION_LINES + 1, bytes(layout::SESSION_WORDS)),
        (header::HISTOGRAMS, bytes(layout.histograms())),
        (header::HISTOGRAMS + 1, bytes(layout::HISTOGRAMS * super::histogram::WORDS)),
        (header::FIELD_COUNT, layout::fields().len() as u64),
        (header::HISTOGRAM_COUNT, layout::HISTOGRAMS as u64),
        (header::PRECISION, u64::from(super::histogram::PRECISION)),
        (header::BUCKETS, super::histogram::BUCKETS as u64),
        (header::BUCKETS_AT, bytes(super::histogram::HEAD)),
        (header::SESSIONS_MAX, about.sessions_max as u64),
        (header::SEND_RING, about.send_ring as u64),
        (header::RECEIVE_BUFFER, about.receive_buffer as u64),
        (header::MESSAGE_MAX, about.message_max as u64),
    ] {
        words[at].set(value);
    }
    layout::put_text(&words[header::ADDRESS], about.address.as_bytes());
    layout::put_text(&words[header::LIBRARY], concat!("zerio ", env!("CARGO_PKG_VERSION")).as_bytes());
    let table = words[layout.table()..layout.engine_lines()].chunks(entry::WORDS);
    for (words, field) in table.zip(layout::fields()) {
        let scope = layout::SCOPES.iter().position(|&scope| scope == field.scope);
        let kind = layout::KINDS.iter().position(|&kind| kind == field.kind);
        words[entry::SCOPE].set(scope.map_or(0, |at| at as u64 + 1));
        words[entry::KIND].set(kind.map_or(0, |at| at as u64 + 1));
        words[entry::AT].set(bytes(field.at));
        words[entry::LEN].set(bytes(field.words));
        layout::put_text(&words[entry::UNIT], field.unit().as_bytes());
        layout::put_text(&words[entry::LABEL], field.label.as_bytes());
        layout::put_text(&words[entry::MEANING], field.meaning.as_bytes());
    }
    // Last: who finds that it runs finds all of the above.
    words[header::STATE].publish(state::RUNNING);
}
