//! What is set on sockets, read back from the server's own end of a connection: `peer_timeout`,
//! `socket_send_buffer`, `socket_receive_buffer`, `congestion`, `busy_poll`.

use std::net::SocketAddr;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use socket2::Socket;
use zerio::{Client, Config, Error, Server};

use crate::echo;
use crate::hostile::{RawPeer, config, drivers};

/// The socket of this process that goes from `local` to `peer`, as a descriptor of our own.
fn socket(local: SocketAddr, peer: SocketAddr) -> Socket {
    let is = |address: std::io::Result<socket2::SockAddr>, wanted| {
        address.is_ok_and(|address| address.as_socket() == Some(wanted))
    };
    let descriptors = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    let numbers = descriptors.filter_map(|entry| entry.file_name().to_str()?.parse::<RawFd>().ok());
    let mut sockets = numbers.filter_map(|number| {
        // SAFETY: duplicating a descriptor touches no memory, and one that is closed meanwhile is an error.
        let copy = unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 0) };
        // SAFETY: the copy is new, and nobody else's.
        (copy >= 0).then(|| Socket::from(unsafe { OwnedFd::from_raw_fd(copy) }))
    });
    sockets.find(|socket| is(socket.local_addr(), local) && is(socket.peer_addr(), peer)).unwrap()
}

/// What `look` sees on the server's end of a session, and on a client's end, with the same configuration.
fn on_both_ends<T>(change: impl Fn(&mut Config), look: impl Fn(&Socket) -> T) -> Vec<T> {
    let mut seen = Vec::new();
    for driver in drivers() {
        let config = || {
            config(|c| {
                change(c);
                c.driver = driver;
            })
        };
        let (server, _) = echo(config());
        let peer = RawPeer::welcome(server.local_addr(), "peer");
        seen.push(look(&socket(server.local_addr(), peer.local())));
        let client =
            Client::connect(server.local_addr(), "client").unwrap().config(config()).start().unwrap();
        let local = server.peer("client").unwrap().address();
        seen.push(look(&socket(local, client.address())));
    }
    seen
}

#[test]
fn every_session_sends_without_delay() {
    assert!(on_both_ends(|_| {}, |socket| socket.tcp_nodelay().unwrap()).into_iter().all(|nodelay| nodelay));
}

#[test]
fn peer_timeout_is_over_when_the_user_timeout_and_the_keepalive_are() {
    for seconds in [6, 60] {
        let times = on_both_ends(
            |c| c.peer_timeout = Duration::from_secs(seconds),
            |socket| {
                let idle = socket.tcp_keepalive_time().unwrap();
                let probes =
                    socket.tcp_keepalive_interval().unwrap() * socket.tcp_keepalive_retries().unwrap();
                assert!(socket.keepalive().unwrap());
                (socket.tcp_user_timeout().unwrap(), idle + probes)
            },
        );
        for (unacknowledged, idle) in times {
            // A second less, so that the end is told in time, and most of another for a repetition to begin.
            assert_eq!(unacknowledged, Some(Duration::from_millis(1000 * seconds - 1750)));
            assert_eq!(idle, Duration::from_secs(seconds - 1), "part of it idle, the rest in probes");
        }
    }
}

#[test]
fn socket_send_buffer_is_the_size_of_the_kernels_send_buffer() {
    for size in [16 * 1024, 64 * 1024] {
        let sizes = on_both_ends(|c| c.socket_send_buffer = Some(size), |s| s.send_buffer_size().unwrap());
        // Linux doubles it, for what it needs itself.
        assert!(sizes.iter().all(|&seen| seen == 2 * size), "{size}: {sizes:?}");
    }
}

#[test]
fn socket_receive_buffer_is_the_size_of_the_kernels_receive_buffer() {
    for size in [16 * 1024, 64 * 1024] {
        let sizes = on_both_ends(|c| c.socket_receive_buffer = Some(size), |s| s.recv_buffer_size().unwrap());
        assert!(sizes.iter().all(|&seen| seen == 2 * size), "{size}: {sizes:?}");
    }
}

#[test]
fn congestion_is_the_control_by_that_name() {
    // Every Linux has reno, and nobody needs a privilege for it.
    let names = on_both_ends(|c| c.congestion = Some("reno".into()), |s| s.tcp_congestion().unwrap());
    assert!(names.iter().all(|name| name.starts_with(b"reno\0")), "{names:?}");
    let default = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_congestion_control").unwrap();
    let names = on_both_ends(|_| {}, |s| s.tcp_congestion().unwrap());
    assert!(names.iter().all(|name| name.starts_with(default.trim().as_bytes())), "{names:?}");
}

#[test]
fn busy_poll_is_how_long_a_receive_may_ask_the_network_card() {
    let time = |time| on_both_ends(|c| c.busy_poll = time, |socket| socket.busy_poll().unwrap());
    let default: u32 =
        std::fs::read_to_string("/proc/sys/net/core/busy_read").unwrap().trim().parse().unwrap();
    assert!(time(None).into_iter().all(|micros| micros == default));
    match Server::bind("127.0.0.1:0").unwrap().config(config(|c| c.busy_poll = Some(LOOK))).start() {
        Ok(_) => assert!(time(Some(LOOK)).into_iter().all(|micros| micros == 50)),
        // An older kernel, and nobody special.
        Err(Error::Config(error)) => {
            assert_eq!((error.setting, error.value.as_str()), ("busy_poll", "50µs"));
            assert!(error.instead.contains("CAP_NET_ADMIN"), "{error}");
        }
        Err(error) => panic!("{error}"),
    }
}

/// What the kernel's documentation recommends.
const LOOK: Duration = Duration::from_micros(50);

#[test]
fn the_option_that_was_refused_is_the_one_that_is_named() {
    let both = config(|c| (c.busy_poll, c.congestion) = (Some(LOOK), Some("no-such-control".into())));
    let Err(Error::Config(error)) = Server::bind("127.0.0.1:0").unwrap().config(both).start() else {
        panic!()
    };
    assert_eq!((error.setting, error.value.as_str()), ("congestion", "\"no-such-control\""));
}

#[test]
fn a_congestion_control_that_is_none_is_refused_by_its_setting() {
    let bad = || config(|c| c.congestion = Some("no-such-control".into()));
    let (server, _) = echo(Config::default());
    let errors = [
        Server::bind("127.0.0.1:0").unwrap().config(bad()).start().map(drop),
        Server::bind("127.0.0.1:0").unwrap().config(bad()).start_polled().map(drop),
        Client::connect(server.local_addr(), "client").unwrap().config(bad()).start().map(drop),
        Client::connect(server.local_addr(), "client").unwrap().config(bad()).start_polled().map(drop),
    ];
    for error in errors {
        let Err(Error::Config(error)) = error else { panic!("{error:?}") };
        assert_eq!(error.setting, "congestion");
        assert!(error.value.contains("no-such-control"), "{error}");
        assert!(error.instead.contains("tcp_available_congestion_control"), "{error}");
    }
}
