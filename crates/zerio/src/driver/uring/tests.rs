//! What the conformance suite can't see of the `uring` driver. One of the files with `unsafe`.
#![allow(unsafe_code)]

use std::net::{Ipv4Addr, TcpListener, TcpStream};

use super::ring::SLOTS_MAX;
use super::*;

const ID: SlotId = SlotId { index: 2, generation: 7 };

/// A driver with one session, and that session's peer; `None` where io_uring is forbidden.
fn driver() -> Option<(Uring, Arc<Region>, Span, TcpStream)> {
    let (region, mut cutter) = Region::new(64).unwrap();
    let mut driver = match Uring::new(region.clone(), 4) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::EPERM | libc::ENOSYS)) => {
            eprintln!("SKIPPED: io_uring is forbidden here: {error}");
            return None;
        }
        outcome => outcome.unwrap(),
    };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let own = listener.accept().unwrap().0;
    own.set_nonblocking(true).unwrap();
    driver.adopt(ID, own.into(), &options()).unwrap();
    Some((driver, region, cutter.cut(64), peer))
}

fn options() -> Options {
    let peer_timeout = Duration::from_secs(60);
    Options { peer_timeout, ..Options::default() }
}

/// The last completion of a request.
fn event(kind: Kind, id: SlotId, result: i32) -> Event {
    Event { kind, id, result, more: false, rest: false }
}

#[test]
fn user_data_tells_kind_slot_and_generation_apart() {
    let last = SlotId { index: SLOTS_MAX as u32 - 1, generation: u32::MAX };
    for kind in Kind::ALL {
        for id in [NOBODY, ID, last] {
            let (of, whose) = Kind::of(kind.data(id));
            assert_eq!((of as u8, whose), (kind as u8, id));
        }
    }
}

#[test]
fn more_slots_than_the_user_data_can_name_are_refused() {
    let refused = Ring::new(SLOTS_MAX + 1).err().map(|error| error.kind());
    assert_eq!(refused, Some(ErrorKind::InvalidInput));
}

#[test]
fn an_interrupted_connect_is_asked_for_again_until_it_stands() {
    let Some((mut driver, ..)) = driver() else { return };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let id = SlotId { index: 0, generation: 1 };
    let mut done = Vec::new();
    driver.connect(id, address, &options()).unwrap();
    // The attempt that goes on, or already stands, when the interruption is heard.
    driver.connections[0].socket.as_ref().unwrap().connect(&address.into()).unwrap_or_default();
    driver.connections[0].connect = Request::Pushed(());
    for error in [libc::EINTR, libc::EALREADY] {
        driver.complete(event(Kind::Connect, id, -error), &mut done);
        assert!(done.is_empty() && driver.connections[0].connect.is_asked());
        driver.connections[0].connect = Request::Pushed(());
    }
    driver.connections[0].connect = Request::Asked(());
    while done.is_empty() {
        driver.turn(Duration::from_millis(1), &mut done).unwrap();
    }
    assert!(matches!(done[..], [Completion::Connected(of, Ok(()))] if of == id), "{done:?}");
    // Of one that is being closed it is the end.
    driver.connections[0].closing = true;
    driver.connections[0].connect = Request::Pushed(());
    driver.complete(event(Kind::Connect, id, -libc::EINTR), &mut done);
    assert!(matches!(done[1..], [Completion::Connected(_, Err(_)), Completion::Closed(_)]), "{done:?}");
}

/// Or it would be asked to wait where there is nothing to wait for, and to look where there is nothing to see.
#[test]
fn whether_a_receive_left_bytes_behind_is_known_for_the_next_one() {
    use std::io::Write;
    let Some((mut driver, _, mut span, mut peer)) = driver() else { return };
    let mut done = Vec::new();
    peer.write_all(b"four").unwrap();
    for (room, drained) in [(3, false), (1, true)] {
        let rest = span.split_off(room);
        driver.receive(ID, span);
        while done.is_empty() {
            // A turn that waits goes by the ring, whatever the number of sessions.
            driver.turn(Duration::from_secs(1), &mut done).unwrap();
        }
        let Some(Completion::Received(_, back, Ok(bytes))) = done.pop() else { panic!("{done:?}") };
        assert_eq!((bytes, driver.connections[2].drained), (room, drained));
        span = back;
        span.join(rest);
    }
}

#[test]
fn a_completion_of_an_earlier_session_is_dropped() {
    let Some((mut driver, _region, span, _peer)) = driver() else { return };
    let mut done = Vec::new();
    driver.receive(ID, span);
    driver.turn(Duration::from_millis(1), &mut done).unwrap();
    assert!(driver.connections[2].receive.is_pushed());
    let id = SlotId { generation: 6, ..ID };
    for kind in [Kind::Connect, Kind::Receive, Kind::Send, Kind::Close] {
        driver.complete(event(kind, id, 5), &mut done);
    }
    assert!(done.is_empty() && driver.connections[2].receive.is_pushed());
}

#[test]
fn a_full_submission_queue_is_handed_over_and_filled_again() {
    let Some((mut driver, ..)) = driver() else { return };
    let ring = &mut driver.ring;
    let room = ring.room();
    for _ in 0..3 * room {
        let entry = opcode::AsyncCancel::new(Kind::Send.data(NOBODY)).build();
        // SAFETY: a cancellation points to no memory.
        assert!(unsafe { ring.push(&entry.user_data(Kind::Cancel.data(NOBODY))) });
    }
    assert_eq!(ring.in_flight, 3 * room);
    while ring.in_flight > 0 {
        ring.enter(Duration::from_secs(1)).unwrap();
        while ring.next().is_some() {}
    }
}

/// The kernel is made to refuse every io_uring_enter(2) of the thread.
#[test]
fn a_turn_with_nothing_to_do_makes_no_call_and_a_driver_cut_off_leaks_its_region() {
    let thread = std::thread::spawn(|| {
        let Some((mut driver, region, span, mut peer)) = driver() else { return };
        let mut done = Vec::new();
        // The watch on the waker is handed over.
        driver.turn(Duration::ZERO, &mut done).unwrap();
        forbid_entering();
        driver.receive(ID, span);
        for _ in 0..1000 {
            driver.turn(Duration::ZERO, &mut done).unwrap();
        }
        // With few sessions the socket itself is asked.
        peer.write_all(b"oui").unwrap();
        while done.is_empty() {
            driver.turn(Duration::ZERO, &mut done).unwrap();
        }
        let Some(Completion::Received(ID, span, Ok(3))) = done.pop() else { panic!("{done:?}") };
        assert_eq!(&region.bytes(&span)[..3], b"oui");
        // A turn that waits can't do without; and what it has queued is the kernel's from now on.
        driver.receive(ID, span);
        let refused = driver.turn(Duration::from_millis(1), &mut done).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EACCES));
        drop(driver);
        assert_eq!(Arc::strong_count(&region), 2, "the region lives on, with nobody to free it");
    });
    thread.join().unwrap();
}

fn forbid_entering() {
    let step = |code: u32, k: u32, jt: u8, jf: u8| libc::sock_filter { code: code as u16, jt, jf, k };
    let mut steps = [
        // The number of the system call comes first in `struct seccomp_data`.
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, libc::SYS_io_uring_enter as u32, 0, 1),
        step(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | libc::EACCES as u32, 0, 0),
        step(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW, 0, 0),
    ];
    let filter = libc::sock_fprog { len: steps.len() as u16, filter: steps.as_mut_ptr() };
    // SAFETY: numbers, and a filter that the kernel copies and whose steps outlive the call.
    let outcome = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
            | libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter)
    };
    assert_eq!(outcome, 0, "{}", io::Error::last_os_error());
}
