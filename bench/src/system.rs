//! What is asked of the system and std does not have: cores, limits, processor time, memory, listeners.
#![forbid(unsafe_code)]

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::Duration;

use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage, setrlimit};
use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;
use socket2::{Domain, Socket, Type};

use crate::failure::{During, Failure};

/// Pins this thread, and all that it will start, to a core.
pub(crate) fn pin(core: usize) -> Result<(), Failure> {
    let mut set = CpuSet::new();
    set.set(core)?;
    sched_setaffinity(Pid::from_raw(0), &set).during(format_args!("can't run on core {core}"))
}

/// Lets this thread, and all that it will start, sleep as exactly as the system can: it may add 50 µs otherwise.
pub(crate) fn sleep_exactly() -> Result<(), Failure> {
    nix::sys::prctl::set_timerslack(1).during("can't have exact timers")
}

/// Asks for as many descriptors as this process may have.
pub(crate) fn raise_descriptors() -> Result<(), Failure> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok(())
}

/// The processor time of another process so far, all of its threads, to the nanosecond.
pub(crate) fn cpu_of(process: i32) -> Result<Duration, Failure> {
    let clock = clock_getcpuclockid(Pid::from_raw(process))?;
    Ok(clock_gettime(clock)?.into())
}

/// The processor time of this process so far.
pub(crate) fn cpu() -> Duration {
    let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) else { return Duration::ZERO };
    let time = |time: nix::sys::time::TimeVal| {
        Duration::new(time.tv_sec().unsigned_abs(), 1000 * time.tv_usec() as u32)
    };
    time(usage.user_time()) + time(usage.system_time())
}

/// The resident memory of a process, in bytes.
pub(crate) fn resident_of(process: i32) -> Result<u64, Failure> {
    let path = format!("/proc/{process}/status");
    let status = fs::read_to_string(&path).during(&path)?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.map(|kib| 1024 * kib).ok_or_else(|| Failure::new(format_args!("{path} has no VmRSS")))
}

/// A listener on a port that was free, on all of this machine's addresses, for clients that come all at once.
pub(crate) fn listen() -> Result<TcpListener, Failure> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)).into())?;
    socket.listen(4096)?;
    Ok(socket.into())
}
