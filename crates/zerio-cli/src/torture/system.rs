//! What std does not have: the process's resident memory, how many descriptors it may have, and signals. One
//! of the files with `unsafe`.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::process::Child;

/// A look at how much of this process's memory is resident. It keeps its file open, so that it works when
/// there are no descriptors left.
pub(super) struct Resident(Option<File>);

impl Resident {
    pub(super) fn open() -> Resident {
        Resident(File::open("/proc/self/statm").ok())
    }

    /// In KiB; `None` where the system does not tell.
    pub(super) fn kib(&self) -> Option<u64> {
        use std::os::unix::fs::FileExt;
        let mut text = [0; 128];
        let len = self.0.as_ref()?.read_at(&mut text, 0).ok()?;
        let text = std::str::from_utf8(&text[..len]).ok()?;
        let pages: u64 = text.split(' ').nth(1)?.parse().ok()?;
        // SAFETY: it takes a number and gives one.
        let page = u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).ok()?;
        Some(pages * page / 1024)
    }
}

/// Lets this process, and those that it starts from now on, have so many descriptors, if the hard limit
/// allows; gives how many it may have.
pub(super) fn allow_descriptors(wanted: u64) -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is to a live `rlimit`, which is all that getrlimit writes to.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    limit.rlim_cur = limit.rlim_max.min(wanted as libc::rlim_t);
    // SAFETY: the pointer is to a live `rlimit`, which setrlimit reads.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    #[allow(clippy::unnecessary_cast, reason = "on FreeBSD it has a sign")]
    Ok(limit.rlim_cur as u64)
}

/// Stops a child, as Ctrl-Z does, or lets it go on.
pub(super) fn stop(child: &Child, stop: bool) -> io::Result<()> {
    let signal = if stop { libc::SIGSTOP } else { libc::SIGCONT };
    // SAFETY: it takes numbers. The child has not been waited for, so its number is still its own.
    if unsafe { libc::kill(child.id() as libc::pid_t, signal) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Opens files until there are no descriptors left.
pub(super) fn exhaust_descriptors(into: &mut Vec<File>) {
    while let Ok(file) = File::open("/dev/null") {
        into.push(file);
    }
}
