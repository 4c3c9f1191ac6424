//! What bounds bytes and sessions: `message_max`, `send_ring`, `receive_buffer`, `sessions_max`, `same_id`.

#[cfg(unix)]
use std::os::fd::AsRawFd;
use std::sync::mpsc::channel;

use zerio::{Config, FrameError, Reason, RefusalCode, SameId, SendError, Server};

use crate::echo;
use crate::hostile::{PATIENCE, RawPeer, config, drivers, frame, until};

#[test]
fn message_max_is_the_longest_message_both_ways() {
    for max in [100, 5000] {
        let (server, events) = echo(config(|c| c.message_max = max));
        let mut peer = RawPeer::welcome(server.local_addr(), "peer");
        let too_large = SendError::TooLarge { len: max + 1, max };
        assert_eq!(server.send("peer", &vec![0; max + 1]), Err(too_large));
        server.send("peer", &vec![0; max]).unwrap();
        assert_eq!(peer.hear().len(), max);
        peer.say(&frame(&vec![0; max]));
        assert_eq!(peer.hear().len(), max);
        peer.say(&(max as u32 + 1).to_le_bytes());
        let too_long = FrameError::TooLong { len: max as u32 + 1, max: max as u32 };
        drop(peer);
        assert_eq!(events.end_of("peer").reason, Reason::BadFrame(too_long));
    }
}

/// How many bytes a server with this send ring accepts for a peer that reads nothing.
fn accepted(send_ring: usize, change: impl Fn(&mut Config)) -> usize {
    let (server, _) = echo(config(|c| {
        (c.message_max, c.send_ring) = (996, send_ring);
        // What the kernel holds is small and always the same, as near as it can be.
        c.socket_send_buffer = Some(8192);
        change(c);
    }));
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&server.local_addr().into()).unwrap();
    let mut peer = RawPeer::over(socket.into());
    peer.say(&frame(b"peer"));
    assert_eq!(peer.hear(), b"peer");
    let (mut bytes, mut refused) = (0, 0);
    // Full twenty times in a row, with time in between for the kernel to take more.
    while refused < 20 {
        match server.try_send("peer", &[0; 996]) {
            Ok(()) => (bytes, refused) = (bytes + 1000, 0),
            Err(SendError::Full) => {
                refused += 1;
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            Err(error) => panic!("{error}"),
        }
    }
    bytes
}

#[test]
fn send_ring_is_what_may_be_accepted_and_not_yet_taken_by_the_kernel() {
    for driver in drivers() {
        let small = accepted(64 * 1024, |c| c.driver = driver);
        let large = accepted(1024 * 1024, |c| c.driver = driver);
        // All of the ring but a block and a frame, and not much more than the ring.
        assert!(small >= 64 * 1024 * 15 / 16 - 1000, "{small}");
        assert!(large >= 1024 * 1024 * 15 / 16 - 1000, "{large}");
        assert!(small < large / 2, "{small} {large}");
    }
}

/// The most bytes of messages that one receive brought, of which this server could have as many as it
/// liked.
fn largest_batch(receive_buffer: usize, change: impl Fn(&mut Config)) -> usize {
    let (go, gate) = channel::<()>();
    let (sender, batches) = channel();
    let mut batch = 0;
    let config = config(|c| {
        (c.message_max, c.receive_buffer) = (996, receive_buffer);
        change(c);
    });
    let server = Server::bind("127.0.0.1:0")
        .unwrap()
        .config(config)
        .on_message(move |context, message| {
            if message == b"wait" {
                sender.send(0).unwrap();
                return gate.recv().unwrap();
            }
            batch += 4 + message.len();
            if context.is_batch_end() {
                sender.send(std::mem::take(&mut batch)).unwrap();
            }
        })
        .start()
        .unwrap();
    let mut peer = RawPeer::welcome(server.local_addr(), "peer");
    peer.say(&frame(b"wait"));
    assert_eq!(batches.recv_timeout(PATIENCE).unwrap(), 0);
    peer.say(&frame(&[1; 996]).repeat(40));
    // Until its system has all of it, there to be received at once. Windows does not tell.
    #[cfg(unix)]
    until("the peer's bytes on the other side", || {
        let mut left = 0i32;
        // SAFETY: TIOCOUTQ writes an int to the pointer, which is to a live one; the stream is open.
        let outcome = unsafe { libc::ioctl(peer.stream.as_raw_fd(), libc::TIOCOUTQ, &mut left) };
        (outcome == 0 && left == 0).then_some(())
    });
    go.send(()).unwrap();
    let (mut sum, mut largest) = (0, 0);
    while sum < 40_000 {
        let batch = batches.recv_timeout(PATIENCE).unwrap();
        (sum, largest) = (sum + batch, largest.max(batch));
    }
    let least = 1 + 40_000usize.div_ceil(largest) as u64;
    until("as many batches counted", || {
        (server.counters().sessions.received.batches_received >= least).then_some(())
    });
    largest
}

#[test]
fn receive_buffer_is_what_one_receive_may_bring() {
    for driver in drivers() {
        assert!(largest_batch(4096, |c| c.driver = driver) <= 4096);
        // Where it is chance how much has come, another try may see more.
        until("a larger batch", || (largest_batch(65_536, |c| c.driver = driver) > 4096).then_some(()));
    }
}

#[test]
fn sessions_max_is_how_many_come_in() {
    for sessions in [1, 3] {
        let (server, _) = echo(config(|c| c.sessions_max = sessions));
        let address = server.local_addr();
        let _inside: Vec<_> =
            (0..sessions).map(|number| RawPeer::welcome(address, &format!("peer {number}"))).collect();
        let mut outside = RawPeer::connect(address);
        outside.say(&frame(b"one more"));
        outside.hears_refusal(RefusalCode::ServerFull);
    }
}

#[test]
fn same_id_says_who_stays() {
    for driver in drivers() {
        let (server, _) = echo(config(|c| (c.same_id, c.driver) = (SameId::RefuseNew, driver)));
        let mut first = RawPeer::welcome(server.local_addr(), "peer");
        let mut second = RawPeer::connect(server.local_addr());
        second.say(&frame(b"peer"));
        second.hears_refusal(RefusalCode::AlreadyConnected);
        first.say(&frame(b"oui"));
        assert_eq!(first.hear(), b"oui");

        let (server, events) = echo(config(|c| (c.same_id, c.driver) = (SameId::ReplaceOld, driver)));
        let mut first = RawPeer::welcome(server.local_addr(), "peer");
        let mut second = RawPeer::welcome(server.local_addr(), "peer");
        first.hears_the_end();
        assert_eq!(events.end_of("peer").reason, Reason::Replaced);
        second.say(&frame(b"oui"));
        assert_eq!(second.hear(), b"oui");
        server.send("peer", b"for the second").unwrap();
        assert_eq!(second.hear(), b"for the second");
    }
}
