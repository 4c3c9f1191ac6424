//! Signals to a child, and who is whose child, asked of the kernel: the programs for that are not on every machine.
//! `unsafe` stands here for the call that sends one.
#![allow(unsafe_code)]

/// Sends a process a signal, by its name without SIG.
pub fn send(process: u32, name: &str) {
    let signal = match name {
        "INT" => libc::SIGINT,
        "TERM" => libc::SIGTERM,
        "KILL" => libc::SIGKILL,
        "STOP" => libc::SIGSTOP,
        other => panic!("no test sends {other}"),
    };
    // SAFETY: numbers only. The process is a child that its `Tool` has not let go, so its id is nobody else's.
    let outcome = unsafe { libc::kill(process as libc::pid_t, signal) };
    assert_eq!(outcome, 0, "{}", std::io::Error::last_os_error());
}

/// Whether a process has a child, whichever of its threads has started it.
#[cfg(target_os = "linux")]
pub fn has_children(process: u32) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let children = |thread: std::fs::DirEntry| std::fs::read_to_string(thread.path().join("children"));
    threads.map(children).any(|children| children.is_ok_and(|ids| !ids.trim().is_empty()))
}
