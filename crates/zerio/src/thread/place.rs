//! Where an engine's thread runs, and before whom.
#![forbid(unsafe_code)]

use std::io;

use crate::config::{Config, ConfigError};
use crate::error::Error;

/// The systems' sets of cores have room for so many; on Windows a thread stays in one group of processors.
const CORES: usize = if cfg!(windows) { usize::BITS as usize } else { 1024 };

/// Pins the calling thread to the core that the configuration has for its engine.
pub(super) fn pin(config: &Config, engine: usize) -> Result<(), Error> {
    let Some(&id) = config.cores.get(engine) else { return Ok(()) };
    // With a number that no core can have `set_for_current` ends the process, or takes another core.
    if id < CORES && core_affinity::set_for_current(core_affinity::CoreId { id }) {
        return Ok(());
    }
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    let ids: Vec<usize> = cores.iter().map(|core| core.id).collect();
    let why = format!("this process may not run on core {id}");
    Err(ConfigError::new("cores", &config.cores, why, format!("it may on {ids:?}")).into())
}

/// Lets the calling thread's short waits end when they are over. Linux adds up to 50 µs to each wait of a thread's, so that several
/// end at once (PR_SET_TIMERSLACK of prctl(2)), which is as long as a nap is.
pub(super) fn wake_in_time() {
    #[cfg(target_os = "linux")]
    // Where it is forbidden, waits are longer.
    let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
}

/// Gives the calling thread the real-time priority that the user wants.
pub(super) fn set_priority(config: &Config) -> Result<(), Error> {
    let Some(priority) = config.priority else { return Ok(()) };
    let (why, instead) = match real_time(priority) {
        Ok(()) => return Ok(()),
        Err(why) if why.kind() == io::ErrorKind::PermissionDenied => (
            format!("the system refused it: {why}"),
            "it takes CAP_SYS_NICE, or an RLIMIT_RTPRIO (`ulimit -r`) as high; None takes nothing",
        ),
        Err(why) => (format!("the system refused it: {why}"), "None would do"),
    };
    Err(ConfigError::new("priority", priority, why, instead).into())
}

#[cfg(any(target_os = "linux", windows))]
fn real_time(priority: u8) -> io::Result<()> {
    use thread_priority::{Error as Why, thread_native_id};
    #[cfg(target_os = "linux")]
    let outcome = {
        use thread_priority::{
            RealtimeThreadSchedulePolicy, ThreadPriority, ThreadPriorityValue, ThreadSchedulePolicy,
        };
        let value = ThreadPriorityValue::try_from(priority).map_err(io::Error::other)?;
        thread_priority::set_thread_priority_and_policy(
            thread_native_id(),
            ThreadPriority::Crossplatform(value),
            ThreadSchedulePolicy::Realtime(RealtimeThreadSchedulePolicy::Fifo),
        )
    };
    #[cfg(windows)]
    let outcome = {
        // There is one such priority for threads of an ordinary process.
        let _ = priority;
        let critical = thread_priority::WinAPIThreadPriority::TimeCritical;
        thread_priority::set_winapi_thread_priority(thread_native_id(), critical)
    };
    outcome.map_err(|why| match why {
        Why::OS(code) => io::Error::from_raw_os_error(code),
        other => io::Error::other(other),
    })
}

#[cfg(not(any(target_os = "linux", windows)))]
fn real_time(_: u8) -> io::Result<()> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "zerio sets no priorities here"))
}
