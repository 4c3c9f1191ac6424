//! Sockets, for every driver that has ordinary ones: how they are made, their options, and the direct
//! send. One of the files with `unsafe`.
#![allow(unsafe_code)]

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

#[cfg(unix)]
use std::os::fd::{AsRawFd, BorrowedFd, RawFd as Raw};
#[cfg(windows)]
use std::os::windows::io::{AsRawSocket, BorrowedSocket, RawSocket as Raw};

/// Connections that the kernel keeps for us while we do something else.
const BACKLOG: i32 = 1024;

/// What is set on each socket.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    pub(crate) peer_timeout: Duration,
    pub(crate) send_buffer: Option<usize>,
    pub(crate) receive_buffer: Option<usize>,
    pub(crate) congestion: Option<String>,
    pub(crate) busy_poll: Option<Duration>,
}

/// The system did not take an option that the user named. It stands inside of an [`io::Error`], of the same kind.
#[derive(Debug, thiserror::Error)]
#[error("{why}")]
pub(crate) struct Refused {
    /// The setting's name.
    pub(crate) setting: &'static str,
    /// What the system said.
    pub(crate) why: io::Error,
}

impl Refused {
    fn because(setting: &'static str, why: io::Error) -> io::Error {
        io::Error::new(why.kind(), Refused { setting, why })
    }
}

/// A socket bound to an address, not listening yet.
pub(crate) fn bind(address: SocketAddr) -> io::Result<Socket> {
    // Not one for Registered I/O, which plain calls may refuse: that driver brings its own to accept into.
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // So that a server can come back while connections of its predecessor are in TIME_WAIT.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    // On Windows it can without, and that option would let it share a port that is in use.
    #[cfg(windows)]
    set_exclusive(&socket)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Keeps the port for this socket: without, another one of the same user could listen there as well, on a more
/// special address, and get the connections.
/// <https://learn.microsoft.com/windows/win32/winsock/using-so-reuseaddr-and-so-exclusiveaddruse>.
#[cfg(windows)]
pub(crate) fn set_exclusive(socket: &Socket) -> io::Result<()> {
    use windows_sys::Win32::Networking::WinSock::{SO_EXCLUSIVEADDRUSE, SOL_SOCKET};
    set_option(socket, SOL_SOCKET, SO_EXCLUSIVEADDRUSE, 1)
}

/// Bounds how long bytes are repeated that nobody acknowledges, in whole seconds, which otherwise is as long as the
/// system likes. <https://learn.microsoft.com/windows/win32/winsock/ipproto-tcp-socket-options>. Wine has no such option.
#[cfg(windows)]
fn bound_repetitions(socket: &Socket, peer_timeout: Duration) -> io::Result<()> {
    use windows_sys::Win32::Networking::WinSock::{IPPROTO_TCP, TCP_MAXRT, WSAENOPROTOOPT};
    let seconds = peer_timeout.as_nanos().div_ceil(1_000_000_000) as i32;
    match set_option(socket, IPPROTO_TCP, TCP_MAXRT, seconds) {
        Err(error) if error.raw_os_error() == Some(WSAENOPROTOOPT) => Ok(()),
        outcome => outcome,
    }
}

#[cfg(windows)]
fn set_option(socket: &Socket, level: i32, name: i32, value: i32) -> io::Result<()> {
    use windows_sys::Win32::Networking::WinSock::setsockopt;
    // SAFETY: the socket is open, and the call reads the four bytes of `value` and keeps nothing.
    let outcome = unsafe {
        let (value, len) = ((&raw const value).cast(), size_of_val(&value) as i32);
        setsockopt(socket.as_raw_socket() as usize, level, name, value, len)
    };
    // setsockopt leaves its error where GetLastError finds it, as all of Winsock does.
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Makes a bound socket listen. Accepted sockets inherit the buffers' sizes, which bound what the
/// handshake of TCP offers and so must be set before.
pub(crate) fn listen(socket: &Socket, options: &Options) -> io::Result<()> {
    set_buffers(socket, options)?;
    socket.set_nonblocking(true)?;
    socket.listen(BACKLOG)
}

/// A socket to connect with, non-blocking.
pub(crate) fn for_connecting(address: SocketAddr, options: &Options) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    prepare(&socket, options)?;
    Ok(socket)
}

/// Makes a new socket one to connect with.
pub(crate) fn prepare(socket: &Socket, options: &Options) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    set_options(socket, options)
}

/// Sets all options of a socket that is to be connected.
pub(crate) fn set_options(socket: &Socket, options: &Options) -> io::Result<()> {
    set_buffers(socket, options)?;
    set_session_options(socket, options)
}

fn set_buffers(socket: &Socket, options: &Options) -> io::Result<()> {
    if let Some(bytes) = options.send_buffer {
        socket.set_send_buffer_size(bytes)?;
    }
    if let Some(bytes) = options.receive_buffer {
        socket.set_recv_buffer_size(bytes)?;
    }
    set_congestion(socket, options).map_err(|why| Refused::because("congestion", why))?;
    set_busy_poll(socket, options).map_err(|why| Refused::because("busy_poll", why))
}

/// Sets the congestion control that the user named, where the system lets one choose.
fn set_congestion(socket: &Socket, options: &Options) -> io::Result<()> {
    let Some(name) = &options.congestion else { return Ok(()) };
    #[cfg(any(target_os = "linux", target_os = "freebsd"))]
    return socket.set_tcp_congestion(name.as_bytes());
    #[cfg(not(any(target_os = "linux", target_os = "freebsd")))]
    {
        let _ = (socket, name);
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// Lets receives ask the network card, where the system has that. What is accepted has it from the listener.
fn set_busy_poll(socket: &Socket, options: &Options) -> io::Result<()> {
    let Some(time) = options.busy_poll else { return Ok(()) };
    #[cfg(target_os = "linux")]
    return socket.set_busy_poll(time.as_micros() as u32);
    #[cfg(not(target_os = "linux"))]
    {
        let _ = (socket, time);
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// What each session's socket needs: no delay, and an end when the peer is gone.
pub(crate) fn set_session_options(socket: &Socket, options: &Options) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    // There a send has no flag against the signal (`Direct::send`), which would end a program that does not ignore it.
    #[cfg(target_vendor = "apple")]
    socket.set_nosigpipe(true)?;
    socket.set_tcp_keepalive(&keepalive(options.peer_timeout))?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(user_timeout(options.peer_timeout)))?;
    #[cfg(target_os = "linux")]
    bound_pauses(socket, options.peer_timeout);
    #[cfg(windows)]
    bound_repetitions(socket, options.peer_timeout)?;
    Ok(())
}

/// Bounds the pauses between repetitions, and between the probes of a window that is closed, which otherwise grow to
/// two minutes: so long the end of a peer without room went unnoticed. Since Linux 6.15; where it can't be had it is as
/// it was, and docs/reliability.md says so.
#[cfg(target_os = "linux")]
fn bound_pauses(socket: &Socket, peer_timeout: Duration) {
    /// TCP_RTO_MAX_MS of <linux/tcp.h>, and the bounds that the kernel has for it.
    const RTO_MAX_MS: libc::c_int = 44;
    let pause = (peer_timeout.as_millis() / 6).clamp(1000, 120_000) as libc::c_int;
    // SAFETY: the socket is open, and the call reads the four bytes of `pause` and keeps nothing.
    let _ = unsafe {
        let (value, len) = ((&raw const pause).cast(), size_of_val(&pause) as libc::socklen_t);
        libc::setsockopt(socket.as_raw_fd(), libc::IPPROTO_TCP, RTO_MAX_MS, value, len)
    };
}

/// What the systems count in whole seconds of is over a second before the `peer_timeout`, because they tell a little
/// late; but not before two seconds, one idle and one to wait for a probe's answer.
#[cfg(not(windows))]
fn seconds(peer_timeout: Duration) -> u64 {
    peer_timeout.as_secs().saturating_sub(1).max(2)
}

/// For so many seconds idle, then so often a probe, and so many of them.
#[cfg(not(windows))]
fn probes(peer_timeout: Duration) -> (u64, u64, u64) {
    let seconds = seconds(peer_timeout);
    let interval = seconds.div_ceil(6);
    let probes = ((seconds - 1) / interval).min(3);
    (seconds - probes * interval, interval, probes)
}

#[cfg(not(windows))]
fn keepalive(peer_timeout: Duration) -> TcpKeepalive {
    let (time, interval, probes) = probes(peer_timeout);
    let [time, interval] = [time, interval].map(Duration::from_secs);
    TcpKeepalive::new().with_time(time).with_interval(interval).with_retries(probes as u32)
}

/// After how long without an acknowledgement Linux gives up. It reckons from the first repetition that its own
/// interface has taken, which came 0.2 to 1.3 s after what was not acknowledged, and holds idle connections to the
/// same time, but only when a probe is due: before the last one, and after the one before.
#[cfg(target_os = "linux")]
pub(crate) fn user_timeout(peer_timeout: Duration) -> Duration {
    Duration::from_secs(seconds(peer_timeout)) - Duration::from_millis(750)
}

/// The same on Windows, which counts in milliseconds and always sends ten probes:
/// <https://learn.microsoft.com/windows/win32/winsock/sio-keepalive-vals>.
#[cfg(windows)]
fn keepalive(peer_timeout: Duration) -> TcpKeepalive {
    let [time, interval] = [2, 20].map(|part| (peer_timeout / part).max(Duration::from_millis(1)));
    TcpKeepalive::new().with_time(time).with_interval(interval)
}

/// Closes an accepted socket, after as many of `last_words` as fit its empty buffer.
pub(crate) fn refuse(socket: Socket, last_words: &[u8]) {
    let _ = Direct::new(&socket).send(last_words);
    let _ = socket.shutdown(std::net::Shutdown::Write);
}

/// The way to send on a session's socket from any thread, without its driver. It does not own the
/// socket: the pump flag says who may use it, and the engine takes that flag, and the `Direct` out of
/// its place, before it closes the socket. Closing is a join.
#[derive(Debug)]
pub(crate) enum Direct {
    /// On an ordinary socket.
    Socket(Raw),
    /// On a simulated network.
    #[cfg(feature = "sim")]
    Simulated(super::sim::Wire),
}

impl Direct {
    /// For a driver, from the socket that it owns.
    #[cfg(unix)]
    pub(crate) fn new(socket: &impl AsRawFd) -> Direct {
        Direct::Socket(socket.as_raw_fd())
    }

    /// For a driver, from the socket that it owns.
    #[cfg(windows)]
    pub(crate) fn new(socket: &impl AsRawSocket) -> Direct {
        Direct::Socket(socket.as_raw_socket())
    }

    /// Hands bytes to the kernel, as many as it takes at once. The socket does not block.
    pub(crate) fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        let raw = match self {
            Direct::Socket(raw) => *raw,
            #[cfg(feature = "sim")]
            Direct::Simulated(wire) => return wire.send(bytes),
        };
        #[cfg(unix)]
        // SAFETY: the descriptor is open: a `Direct` stands behind the pump flag, which the caller has,
        // and the engine takes it away from there before its driver closes the socket.
        let socket = unsafe { BorrowedFd::borrow_raw(raw) };
        #[cfg(windows)]
        // SAFETY: as above.
        let socket = unsafe { BorrowedSocket::borrow_raw(raw) };
        // A peer that is gone must be an error, not a signal that ends the process.
        #[cfg(any(target_os = "linux", target_os = "freebsd"))]
        return SockRef::from(&socket).send_with_flags(bytes, libc::MSG_NOSIGNAL);
        #[cfg(not(any(target_os = "linux", target_os = "freebsd")))]
        SockRef::from(&socket).send(bytes)
    }
}

/// How the peer's system takes what was sent to it.
#[cfg(target_os = "linux")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    /// It has acknowledged everything.
    Settled,
    /// Bytes are on their way.
    Moving,
    /// It lives, and has no room: its program does not read.
    Closed,
    /// The connection is no more.
    Gone,
}

/// So many probes of a closed window without an answer, and the peer's system does not live.
#[cfg(target_os = "linux")]
const PROBES: u8 = 3;

/// TCP_CLOSE of <linux/tcp_states.h>.
#[cfg(target_os = "linux")]
const CLOSE: u8 = 7;

/// What the kernel tells in so many bytes of its account: older ones know less. Linux before 5.4 says nothing of the
/// peer's window, and there a window that is zero for want of a word would pass every dead link for a peer without room.
#[cfg(target_os = "linux")]
fn flow_of(info: &libc::tcp_info, len: usize) -> Flow {
    let tells_window = len >= std::mem::offset_of!(libc::tcp_info, tcpi_snd_wnd) + size_of::<u32>();
    let (unacked, unsent) = (info.tcpi_unacked, info.tcpi_notsent_bytes);
    let shut = tells_window && info.tcpi_snd_wnd == 0;
    match (unacked, unsent) {
        _ if info.tcpi_state == CLOSE => Flow::Gone,
        (0, 0) => Flow::Settled,
        // What had no room was either held back, or sent and dropped over there.
        _ if (unacked == 0 || shut) && info.tcpi_probes < PROBES => Flow::Closed,
        _ => Flow::Moving,
    }
}

#[cfg(target_os = "linux")]
impl Direct {
    /// Why the connection is no more, where nobody else has been told of it. It is told once.
    pub(crate) fn take_error(&self) -> io::Result<Option<io::Error>> {
        let raw = match self {
            Direct::Socket(raw) => *raw,
            #[cfg(feature = "sim")]
            Direct::Simulated(wire) => return Ok(wire.error()),
        };
        // SAFETY: as in `send`.
        let socket = unsafe { BorrowedFd::borrow_raw(raw) };
        SockRef::from(&socket).take_error()
    }

    pub(crate) fn flow(&self) -> io::Result<Flow> {
        let raw = match self {
            Direct::Socket(raw) => *raw,
            #[cfg(feature = "sim")]
            Direct::Simulated(wire) => {
                return Ok(match wire.is_settled() {
                    None => Flow::Gone,
                    Some((true, _)) => Flow::Settled,
                    Some((false, true)) => Flow::Moving,
                    Some((false, false)) => Flow::Closed,
                });
            }
        };
        // SAFETY: `tcp_info` is integers only, for which zero is a value.
        let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
        let mut len = size_of::<libc::tcp_info>() as libc::socklen_t;
        // SAFETY: the pointers are to live values; the kernel writes no more than `len` bytes to the
        // first. The descriptor is open, as in `send`.
        let outcome = unsafe {
            let info = (&raw mut info).cast();
            libc::getsockopt(raw, libc::IPPROTO_TCP, libc::TCP_INFO, info, &mut len)
        };
        if outcome != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(flow_of(&info, len as usize))
    }

    /// After how long without an acknowledgement the connection is dead; `None` for the system's own.
    pub(crate) fn set_user_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        let raw = match self {
            Direct::Socket(raw) => *raw,
            #[cfg(feature = "sim")]
            Direct::Simulated(wire) => {
                wire.be_patient(timeout.is_none());
                return Ok(());
            }
        };
        // SAFETY: as in `send`.
        let socket = unsafe { BorrowedFd::borrow_raw(raw) };
        SockRef::from(&socket).set_tcp_user_timeout(timeout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn a_kernel_that_knows_no_window_was_taken_for_a_peer_without_room() {
        // SAFETY: `tcp_info` is integers only, for which zero is a value.
        let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
        (info.tcpi_unacked, info.tcpi_notsent_bytes) = (3, 10);
        let window = std::mem::offset_of!(libc::tcp_info, tcpi_snd_wnd);
        // Just without it, and just with it.
        assert_eq!(flow_of(&info, window), Flow::Moving);
        assert_eq!(flow_of(&info, window + 4), Flow::Closed);
        info.tcpi_snd_wnd = 1;
        assert_eq!(flow_of(&info, window + 4), Flow::Moving);
        // What is held back tells it, too.
        info.tcpi_unacked = 0;
        assert_eq!(flow_of(&info, window), Flow::Closed);
    }

    fn options() -> Options {
        Options {
            peer_timeout: Duration::from_secs(12),
            send_buffer: Some(32 * 1024),
            receive_buffer: Some(48 * 1024),
            ..Options::default()
        }
    }

    #[test]
    fn every_option_reaches_the_socket() {
        let address = "127.0.0.1:1".parse().unwrap();
        let socket = for_connecting(address, &options()).unwrap();
        assert!(socket.tcp_nodelay().unwrap());
        assert!(socket.keepalive().unwrap());
        // Linux gives back twice what was asked for, the rest being its own.
        let sizes = (socket.send_buffer_size().unwrap(), socket.recv_buffer_size().unwrap());
        assert!(sizes.0 >= 32 * 1024 && sizes.1 >= 48 * 1024 && sizes.0 < sizes.1, "{sizes:?}");
        #[cfg(target_os = "linux")]
        {
            assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_millis(10_250)));
            assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(5));
            assert_eq!(socket.tcp_keepalive_interval().unwrap(), Duration::from_secs(2));
            assert_eq!(socket.tcp_keepalive_retries().unwrap(), 3);
        }
    }

    #[cfg(not(windows))]
    #[test]
    fn the_last_probe_has_its_time_a_second_before_the_peer_timeout() {
        let last = |millis| {
            let (time, interval, probes) = probes(Duration::from_millis(millis));
            assert!(
                (1..=32_767).contains(&time) && interval >= 1 && probes >= 1,
                "{time} {interval} {probes}"
            );
            time + probes * interval
        };
        assert_eq!([1, 1000, 2000, 3000, 3999].map(last), [2; 5], "no system is faster");
        assert!((3..=65_534).all(|seconds| last(1000 * seconds) == seconds - 1));
    }

    #[cfg(windows)]
    #[test]
    fn a_listening_socket_is_nobody_elses() {
        let ours = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        listen(&ours, &options()).unwrap();
        let address = ours.local_addr().unwrap();
        for host in [std::net::Ipv4Addr::LOCALHOST, std::net::Ipv4Addr::UNSPECIFIED] {
            let theirs = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).unwrap();
            theirs.set_reuse_address(true).unwrap();
            let taken = theirs.bind(&SocketAddr::from((host, address.as_socket().unwrap().port())).into());
            let why = taken.unwrap_err().kind();
            assert!(matches!(why, io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied), "{why}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_congestion_control_is_the_one_that_was_named() {
        let address = "127.0.0.1:1".parse().unwrap();
        let named = |name: &str| Options { congestion: Some(name.into()), ..options() };
        let socket = for_connecting(address, &named("reno")).unwrap();
        assert!(socket.tcp_congestion().unwrap().starts_with(b"reno"));
        let refused = for_connecting(address, &named("no-such-control")).unwrap_err();
        let refused = refused.get_ref().unwrap().downcast_ref::<Refused>().unwrap();
        assert_eq!(refused.setting, "congestion");
    }
}
