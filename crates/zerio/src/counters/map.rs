//! A counters file as memory: mapped, locked by the process that writes it, and private to its user.
//!
//! The lock is the proof of life. The system takes it away when its process ends, however it does, so a file that
//! nobody has locked is stale, and no number of a process has to be looked up, which another process may have by now.
#![allow(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use memmap2::{MmapOptions, MmapRaw};

use crate::cursor::Word;

/// A file's words, mapped. One process writes them, any reads them.
#[derive(Debug)]
pub(crate) struct Map(MmapRaw);

impl Map {
    /// A file whose bytes this process writes.
    pub(crate) fn to_write(file: &File) -> io::Result<Map> {
        MmapOptions::new().map_raw(file).map(Map)
    }

    /// The first `bytes` of a file that another process writes.
    pub(crate) fn to_read(file: &File, bytes: usize) -> io::Result<Map> {
        MmapOptions::new().len(bytes).map_raw_read_only(file).map(Map)
    }

    #[inline]
    pub(crate) fn words(&self) -> &[Word] {
        if cfg!(loom) {
            unreachable!("loom's words are no words of memory, and no model has a file");
        }
        let words = self.0.len() / size_of::<Word>();
        // SAFETY: a mapping starts at a page and is so long, and lives as long as `self`. A `Word` is a `u64` of any
        // value that is read and written as a whole, by this process and by others, so it does not matter who
        // writes meanwhile; where the mapping is for reading, nobody is given a way to write: `reader`
        // gives copies. The file has all of its pages from the start and keeps its length: zerio never shortens one,
        // and nobody but its user may.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast::<Word>(), words) }
    }
}

/// Makes a file that does not exist yet, or tells that it does.
pub(crate) fn create(path: &Path) -> io::Result<File> {
    open(OpenOptions::new().read(true).write(true).create_new(true), path)
}

/// Opens a file that exists, as if to write it.
pub(crate) fn open_to_replace(path: &Path) -> io::Result<File> {
    open(OpenOptions::new().read(true).write(true), path)
}

#[cfg(unix)]
fn open(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    options.mode(0o600).open(path)
}

#[cfg(windows)]
fn open(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    use std::os::windows::fs::OpenOptionsExt;
    use windows_sys::Win32::Foundation::ERROR_SHARING_VIOLATION;
    // Who has it open to write is the only one: that is the lock.
    options.share_mode(SHARE_READ | SHARE_DELETE).open(path).map_err(|error| match error.raw_os_error() {
        Some(code) if code as u32 == ERROR_SHARING_VIOLATION => io::ErrorKind::ResourceBusy.into(),
        _ => error,
    })
}

/// FILE_SHARE_READ and FILE_SHARE_DELETE.
#[cfg(windows)]
const SHARE_READ: u32 = 1;
#[cfg(windows)]
const SHARE_DELETE: u32 = 4;

/// Opens a file that another process may write.
#[cfg(not(windows))]
pub(crate) fn open_to_read(path: &Path) -> io::Result<File> {
    File::open(path)
}

/// Opens a file that another process may write.
#[cfg(windows)]
pub(crate) fn open_to_read(path: &Path) -> io::Result<File> {
    use std::os::windows::fs::OpenOptionsExt;
    const SHARE_WRITE: u32 = 2;
    OpenOptions::new().read(true).share_mode(SHARE_READ | SHARE_WRITE | SHARE_DELETE).open(path)
}

/// Locks a file for this process, until it is closed: false where another one has.
#[cfg(unix)]
pub(crate) fn lock(file: &File) -> io::Result<bool> {
    flock(file, libc::LOCK_EX)
}

/// Locks a file for this process, until it is closed: false where another one has. It was by opening it.
#[cfg(windows)]
pub(crate) fn lock(_: &File) -> io::Result<bool> {
    Ok(true)
}

/// Whether a process has the file locked, and so writes it.
#[cfg(unix)]
pub(crate) fn is_written(file: &File, _: &Path) -> io::Result<bool> {
    // Shared, and for a moment: readers do not take each other for the writer.
    let free = flock(file, libc::LOCK_SH)?;
    if free {
        flock(file, libc::LOCK_UN)?;
    }
    Ok(!free)
}

/// Whether a process has the file open to write.
#[cfg(windows)]
pub(crate) fn is_written(_: &File, path: &Path) -> io::Result<bool> {
    match open_to_replace(path) {
        Ok(_) => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(unix)]
fn flock(file: &File, how: libc::c_int) -> io::Result<bool> {
    use std::os::fd::AsRawFd;
    // SAFETY: the descriptor is open as long as `file` is borrowed, and the call touches no memory.
    if unsafe { libc::flock(file.as_raw_fd(), how | libc::LOCK_NB) } == 0 {
        return Ok(true);
    }
    match io::Error::last_os_error() {
        error if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        error => Err(error),
    }
}

/// Whether this is the file that stands at the path, and not one that did.
#[cfg(unix)]
pub(crate) fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(own), Ok(there)) => (own.dev(), own.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}

/// Whether this is the file that stands at the path: nobody can replace it while it is open.
#[cfg(windows)]
pub(crate) fn is_at(_: &File, _: &Path) -> bool {
    true
}

/// Where the counters files of this user are, unless somebody says otherwise: in shared memory on Linux, and among the
/// temporary files elsewhere.
pub(crate) fn folder() -> PathBuf {
    let shared = Path::new("/dev/shm");
    let parent =
        if cfg!(target_os = "linux") && shared.is_dir() { shared.into() } else { std::env::temp_dir() };
    #[cfg(unix)]
    let name = format!("zerio-{}", user());
    #[cfg(not(unix))]
    let name = "zerio";
    parent.join(name)
}

/// Makes that folder, and finds that nobody else can have a hand in it: its parent is everybody's.
#[cfg(unix)]
pub(crate) fn make_folder() -> io::Result<PathBuf> {
    use std::os::unix::fs::{DirBuilderExt, MetadataExt};
    let folder = folder();
    match std::fs::DirBuilder::new().mode(0o700).create(&folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let found = std::fs::symlink_metadata(&folder)?;
    if !found.is_dir() || found.uid() != user() || found.mode() & 0o077 != 0 {
        let why = format!("{} is not a folder of this user's alone; remove it", folder.display());
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
    }
    Ok(folder)
}

/// Makes that folder; it lies in one that is the user's own.
#[cfg(not(unix))]
pub(crate) fn make_folder() -> io::Result<PathBuf> {
    let folder = folder();
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

#[cfg(unix)]
fn user() -> u32 {
    // SAFETY: it takes nothing, touches no memory and can't fail.
    unsafe { libc::geteuid() }
}
