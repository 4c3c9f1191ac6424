//! What the status of a completion means. The page of `RIORESULT` does not say of which kind it is: requests
//! were seen to complete with Winsock's errors and with the kernel's own, so both are known here.
#![forbid(unsafe_code)]

use std::io::{self, ErrorKind};

/// A success.
pub(super) const SUCCESS: i32 = 0;

/// Winsock's errors (winsock2.h) and, with the top bits set, the kernel's (ntstatus.h).
const KNOWN: [(u32, ErrorKind); 28] = [
    // WSA_OPERATION_ABORTED, STATUS_CANCELLED, STATUS_LOCAL_DISCONNECT: by closing the socket, if we have.
    (995, ErrorKind::ConnectionAborted),
    (0xC000_0120, ErrorKind::ConnectionAborted),
    (0xC000_013B, ErrorKind::ConnectionAborted),
    // WSAECONNABORTED, STATUS_CONNECTION_ABORTED.
    (10053, ErrorKind::ConnectionAborted),
    (0xC000_0241, ErrorKind::ConnectionAborted),
    // WSAECONNRESET, WSAENETRESET, STATUS_CONNECTION_RESET, STATUS_CONNECTION_DISCONNECTED,
    // STATUS_REMOTE_DISCONNECT; ERROR_NETNAME_DELETED is how others speak of a reset.
    (10054, ErrorKind::ConnectionReset),
    (10052, ErrorKind::ConnectionReset),
    (0xC000_020D, ErrorKind::ConnectionReset),
    (0xC000_020C, ErrorKind::ConnectionReset),
    (0xC000_013C, ErrorKind::ConnectionReset),
    (64, ErrorKind::ConnectionReset),
    // WSAESHUTDOWN, STATUS_PIPE_DISCONNECTED: nothing is sent after a shut down.
    (10058, ErrorKind::BrokenPipe),
    (0xC000_00B0, ErrorKind::BrokenPipe),
    // WSAENOTCONN, STATUS_INVALID_CONNECTION.
    (10057, ErrorKind::NotConnected),
    (0xC000_0140, ErrorKind::NotConnected),
    // WSAETIMEDOUT, STATUS_IO_TIMEOUT: keepalive found nobody.
    (10060, ErrorKind::TimedOut),
    (0xC000_00B5, ErrorKind::TimedOut),
    // WSAENETDOWN, WSAENETUNREACH, STATUS_NETWORK_UNREACHABLE.
    (10050, ErrorKind::NetworkDown),
    (10051, ErrorKind::NetworkUnreachable),
    (0xC000_023C, ErrorKind::NetworkUnreachable),
    // WSAEHOSTUNREACH, STATUS_HOST_UNREACHABLE.
    (10065, ErrorKind::HostUnreachable),
    (0xC000_023D, ErrorKind::HostUnreachable),
    // WSAENOBUFS, STATUS_INSUFFICIENT_RESOURCES, STATUS_QUOTA_EXCEEDED, STATUS_NO_MEMORY.
    (10055, ErrorKind::OutOfMemory),
    (0xC000_009A, ErrorKind::OutOfMemory),
    (0xC000_0044, ErrorKind::OutOfMemory),
    (0xC000_0017, ErrorKind::OutOfMemory),
    // WSAEINVAL, WSAEFAULT: a fault of the driver's, which nobody should ever see.
    (10022, ErrorKind::InvalidInput),
    (10014, ErrorKind::InvalidInput),
];

/// Whether a request was cancelled: WSA_OPERATION_ABORTED, STATUS_CANCELLED.
pub(super) fn is_cancelled(status: i32) -> bool {
    [995, 0xC000_0120].contains(&(status as u32))
}

/// The error that a status stands for. It allocates nothing.
#[cold]
pub(super) fn error(status: i32) -> io::Error {
    match KNOWN.iter().find(|(known, _)| *known == status as u32) {
        Some((_, kind)) => (*kind).into(),
        // On Windows its number says more than "other".
        None if cfg!(windows) => io::Error::from_raw_os_error(status),
        None => ErrorKind::Other.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn winsocks_errors_and_the_kernels_mean_the_same() {
        for (winsock, kernel, kind) in [
            (995, 0xC000_0120_u32, ErrorKind::ConnectionAborted),
            (10054, 0xC000_020D, ErrorKind::ConnectionReset),
            (10060, 0xC000_00B5, ErrorKind::TimedOut),
        ] {
            assert_eq!((error(winsock).kind(), error(kernel as i32).kind()), (kind, kind));
        }
    }

    #[test]
    fn a_status_is_known_once() {
        let mut numbers = KNOWN.map(|(number, _)| number);
        numbers.sort_unstable();
        assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]));
    }

    #[test]
    fn an_unknown_status_is_an_error_all_the_same() {
        let _ = error(12345);
        #[cfg(not(windows))]
        assert_eq!(error(12345).kind(), ErrorKind::Other);
    }
}
