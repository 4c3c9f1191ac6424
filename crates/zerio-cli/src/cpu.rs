//! How much processor time this process has used: what an idle server costs. One of the files with
//! `unsafe`: std does not tell.
#![allow(unsafe_code)]

use std::time::Duration;

/// The processor time of all threads of this process so far; `None` where the system does not tell.
#[cfg(unix)]
pub(crate) fn used() -> Option<Duration> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` lives across the call, which writes a `timespec` there and keeps nothing.
    let outcome = unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    let seconds = u64::try_from(time.tv_sec).ok()?;
    let nanos = u32::try_from(time.tv_nsec).ok()?;
    (outcome == 0).then(|| Duration::new(seconds, nanos))
}

/// The processor time of all threads of this process so far; `None` where the system does not tell.
#[cfg(not(unix))]
pub(crate) fn used() -> Option<Duration> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(unix)]
    fn work_costs_processor_time() {
        let before = used().unwrap();
        while used().unwrap() == before {
            std::hint::spin_loop();
        }
    }
}
