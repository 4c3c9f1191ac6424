//! Why a driver can't be had, in words for a user.
#![forbid(unsafe_code)]

use std::io;

/// Why io_uring can't be had, with what is usually behind it.
#[cfg(target_os = "linux")]
pub(super) fn uring(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EPERM) => {
            "EPERM (forbidden: a container's seccomp filter, or kernel.io_uring_disabled)".into()
        }
        Some(libc::ENOSYS) => "ENOSYS (this kernel has none, or a seccomp filter hides it)".into(),
        Some(libc::ENOMEM) => "ENOMEM (the locked memory limit, see `ulimit -l`)".into(),
        Some(libc::EINVAL) => "EINVAL (this kernel is older than 6.1)".into(),
        _ => error.to_string(),
    }
}

/// Why Registered I/O can't be had, with what is usually behind it.
#[cfg(windows)]
pub(super) fn rio(error: &io::Error) -> String {
    use windows_sys::Win32::Networking::WinSock::{WSAEFAULT, WSAEINVAL, WSAENOBUFS, WSAEOPNOTSUPP};
    match error.raw_os_error() {
        Some(WSAEOPNOTSUPP) => {
            "WSAEOPNOTSUPP (Wine, a Windows before 8, or a layered service provider that hides it)".into()
        }
        Some(WSAEINVAL) => "WSAEINVAL (a Windows before 8)".into(),
        Some(WSAENOBUFS | WSAEFAULT) => format!("{error} (it locks the memory of all rings and buffers)"),
        _ => error.to_string(),
    }
}
