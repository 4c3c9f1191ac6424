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

/// The processor time of all threads of this process so far; `None` where the system does not tell. It is
/// counted in whole ticks of the system's clock, 15.6 ms as a rule.
#[cfg(windows)]
pub(crate) fn used() -> Option<Duration> {
    use windows_sys::Win32::Foundation::FILETIME;
    use windows_sys::Win32::System::Threading::{GetCurrentProcess, GetProcessTimes};

    let mut times = [FILETIME::default(); 4];
    let [created, exited, kernel, user] = &mut times;
    // SAFETY: the handle is the process's own, which needs no closing; the four live across the call,
    // which writes to them and keeps nothing.
    let outcome = unsafe { GetProcessTimes(GetCurrentProcess(), created, exited, kernel, user) };
    // In units of 100 ns.
    let units = |time: FILETIME| u64::from(time.dwHighDateTime) << 32 | u64::from(time.dwLowDateTime);
    (outcome != 0).then(|| Duration::from_nanos(100 * (units(times[2]) + units(times[3]))))
}

/// The processor time of all threads of this process so far; `None` where the system does not tell.
#[cfg(not(any(unix, windows)))]
pub(crate) fn used() -> Option<Duration> {
    None
}

#[cfg(all(test, any(unix, windows)))]
mod tests {
    use super::*;

    #[test]
    fn work_costs_processor_time() {
        let before = used().unwrap();
        while used().unwrap() == before {
            std::hint::spin_loop();
        }
    }
}
