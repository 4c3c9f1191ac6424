//! Every rule of the model is broken here on purpose, and found out by its name; and just inside of it nothing
//! is. One of the files with `unsafe`, which the table's functions are.
#![allow(unsafe_code)]

use std::net::TcpStream;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::*;
use crate::driver::rio::tests::{ordinary_pair, pair};

const ONE: Limits = Limits { receives: 1, sends: 1 };
const LONG: Duration = Duration::from_secs(30);

/// A model with a completion queue, memory, and a session over it.
struct Stage {
    model: Model,
    queue: CompletionQueue,
    buffer: BufferId,
    requests: RequestQueue,
    socket: Option<Socket>,
    peer: TcpStream,
    memory: Box<[u8]>,
}

const MEMORY: usize = 1000;

impl Stage {
    /// With a completion queue of so many entries, and a session with these limits.
    fn sized(size: u32, limits: Limits) -> Stage {
        let mut model = with_seed(0, true, || Model::open(4).unwrap());
        model.liberties = Liberties::default();
        let queue = model.create_completion_queue(size, true).unwrap();
        let mut memory = vec![0; MEMORY].into_boxed_slice();
        // SAFETY: the memory outlives the model, and is left alone.
        let buffer = unsafe { model.register_buffer(memory.as_mut_ptr(), MEMORY) }.unwrap();
        let (peer, socket) = pair();
        let requests = model.create_request_queue(&socket, limits, queue, 7).unwrap();
        Stage { model, queue, buffer, requests, socket: Some(socket), peer, memory }
    }

    fn new() -> Stage {
        Stage::sized(2, ONE)
    }

    fn piece(&self, offset: u32, len: u32) -> Option<Piece> {
        Some(Piece { buffer: self.buffer, offset, len })
    }

    fn receive(&mut self, offset: u32, len: u32, flags: u32) {
        let piece = self.piece(offset, len);
        // SAFETY: the memory is the stage's, and left alone until it ends.
        unsafe { self.model.receive(self.requests, piece, flags, 1) }.unwrap();
    }

    fn send(&mut self, offset: u32, len: u32, flags: u32) {
        let piece = self.piece(offset, len);
        // SAFETY: as above.
        unsafe { self.model.send(self.requests, piece, flags, 2) }.unwrap();
    }

    fn commit(&mut self, way: Way) {
        let outcome = match way {
            // SAFETY: a commit points to no memory.
            Way::Receive => unsafe { self.model.receive(self.requests, None, COMMIT_ONLY, 0) },
            // SAFETY: as above.
            Way::Send => unsafe { self.model.send(self.requests, None, COMMIT_ONLY, 0) },
        };
        outcome.unwrap();
    }

    fn dequeue(&mut self) -> Vec<Outcome> {
        let mut outcomes = [Outcome::default(); 8];
        let taken = self.model.dequeue_completions(self.queue, &mut outcomes);
        outcomes[..taken as usize].to_vec()
    }

    /// Waits until something completes, as a driver does.
    fn await_one(&mut self) -> Outcome {
        loop {
            if let Some(outcome) = self.dequeue().first() {
                return *outcome;
            }
            self.model.reset_told(self.queue);
            self.model.notify(self.queue).unwrap();
            assert!(self.model.wait(LONG).unwrap().completions);
        }
    }

    fn close(&mut self) {
        let socket = self.socket.take().unwrap();
        self.model.close(0, socket, Some(self.requests));
    }

    /// Ends all in order.
    fn end(mut self) {
        if self.socket.is_some() {
            self.close();
        }
        while !self.dequeue().is_empty() {}
        self.model.deregister_buffer(self.buffer);
        self.model.close_completion_queue(self.queue);
        drop(self.model);
        drop(self.memory);
    }
}

/// Breaks a rule on a stage, and sees that the model says which.
#[track_caller]
fn broken(violation: Violation, mut stage: Stage, what: impl FnOnce(&mut Stage)) {
    let outcome = catch_unwind(AssertUnwindSafe(|| what(&mut stage)));
    let said = outcome.expect_err("it was not found out");
    let said = said.downcast_ref::<String>().expect("a text");
    assert_eq!(*said, format!("Registered I/O was misused: {violation:?} (seed 0)"));
    #[cfg(feature = "rio-model")]
    assert!(violations().contains(said));
    // It is not in order, and would say so.
    std::mem::forget(stage.model);
}

#[test]
fn what_keeps_the_rules_is_served() {
    use std::io::{Read, Write};
    let mut stage = Stage::new();
    stage.memory[..3].copy_from_slice(b"oui");
    stage.send(0, 3, DEFER);
    stage.receive(100, 10, DEFER);
    stage.commit(Way::Send);
    stage.commit(Way::Receive);
    let sent = Outcome { status: 0, bytes: 3, socket_context: 7, request_context: 2 };
    assert_eq!(stage.await_one(), sent);
    let mut heard = [0; 3];
    stage.peer.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"oui");
    stage.peer.write_all(b"quoi").unwrap();
    assert_eq!(stage.await_one(), Outcome { bytes: 4, request_context: 1, ..sent });
    assert_eq!(&stage.memory[100..104], b"quoi");
    // What is outstanding when the socket is closed completes as cancelled.
    stage.receive(0, 10, 0);
    stage.close();
    assert_eq!(stage.await_one(), Outcome { status: 995, bytes: 0, request_context: 1, ..sent });
    stage.end();
}

#[test]
fn a_queue_used_on_another_thread() {
    let on_another = |what: fn(&mut Stage)| {
        broken(Violation::AnotherThread, Stage::new(), |stage| {
            let outcome = std::thread::scope(|scope| {
                scope.spawn(|| catch_unwind(AssertUnwindSafe(|| what(stage)))).join().unwrap()
            });
            outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        });
    };
    on_another(|stage| stage.receive(0, 10, 0));
    on_another(|stage| stage.send(0, 10, 0));
    on_another(|stage| stage.commit(Way::Send));
    on_another(|stage| drop(stage.dequeue()));
    on_another(|stage| _ = stage.model.notify(stage.queue));
    on_another(|stage| drop(stage.model.wait(Duration::ZERO)));
    on_another(|stage| stage.model.reset_told(stage.queue));
    on_another(|stage| {
        let socket = stage.socket.take().unwrap();
        let _ = stage.model.create_request_queue(&socket, ONE, stage.queue, 8);
    });
    on_another(|stage| {
        _ = stage.model.shut_down(stage.socket.as_ref().unwrap(), Some(stage.requests));
    });
    on_another(Stage::close);
    on_another(|stage| stage.model.close_completion_queue(stage.queue));
    // Also where nothing is left in it.
    let Stage { mut model, queue, buffer, requests, socket, .. } = Stage::new();
    model.close(0, socket.unwrap(), Some(requests));
    model.deregister_buffer(buffer);
    model.close_completion_queue(queue);
    let said = std::thread::spawn(|| drop(model)).join().unwrap_err();
    assert!(said.downcast_ref::<String>().unwrap().contains("AnotherThread"));
}

#[test]
fn a_completion_queue_too_small_for_its_request_queues_in_sum() {
    let second = |stage: &mut Stage| {
        let (_peer, socket) = pair();
        let queue = stage.model.create_request_queue(&socket, ONE, stage.queue, 8).unwrap();
        stage.model.close(1, socket, Some(queue));
    };
    let mut stage = Stage::sized(4, ONE);
    second(&mut stage);
    // Its share was free again.
    second(&mut stage);
    stage.end();
    broken(Violation::QueueTooSmall, Stage::sized(3, ONE), second);
}

#[test]
fn a_completion_queue_of_no_size_or_of_too_much() {
    // The largest would take gigabytes here, and nothing else.
    let mut stage = Stage::new();
    let queue = stage.model.create_completion_queue(1, false).unwrap();
    stage.model.close_completion_queue(queue);
    stage.end();
    for size in [0, COMPLETIONS_MAX + 1] {
        broken(Violation::QueueSize, Stage::new(), |stage| {
            let _ = stage.model.create_completion_queue(size, true);
        });
    }
}

#[test]
fn more_completions_than_the_queue_holds() {
    broken(Violation::QueueOverflow, Stage::new(), |stage| {
        // No driver can do this while the sums are kept: the queue itself is made smaller.
        stage.model.completions[0].as_mut().unwrap().size = 0;
        stage.send(0, 1, 0);
        stage.dequeue();
    });
}

#[test]
fn a_completion_queue_that_is_closed() {
    broken(Violation::UnknownQueue, Stage::new(), |stage| {
        stage.close();
        stage.model.close_completion_queue(stage.queue);
        stage.dequeue();
    });
}

#[test]
fn a_completion_queue_closed_while_it_is_used() {
    broken(Violation::QueueInUse, Stage::new(), |stage| stage.model.close_completion_queue(stage.queue));
    broken(Violation::QueueInUse, Stage::new(), |stage| {
        stage.receive(0, 10, 0);
        stage.close();
        stage.model.close_completion_queue(stage.queue);
    });
}

#[test]
fn a_request_queue_for_nothing() {
    broken(Violation::NoLimits, Stage::new(), |stage| {
        let (_peer, socket) = pair();
        let none = Limits { receives: 0, sends: 0 };
        let _ = stage.model.create_request_queue(&socket, none, stage.queue, 8);
    });
}

#[test]
fn a_second_request_queue_for_a_socket() {
    broken(Violation::SecondQueue, Stage::sized(4, ONE), |stage| {
        let socket = stage.socket.take().unwrap();
        let _ = stage.model.create_request_queue(&socket, ONE, stage.queue, 8);
    });
}

#[test]
fn a_request_queue_for_a_socket_that_was_not_made_for_it() {
    broken(Violation::NotRegistered, Stage::sized(4, ONE), |stage| {
        let (_peer, socket) = ordinary_pair();
        let _ = stage.model.create_request_queue(&socket, ONE, stage.queue, 8);
    });
    // What is accepted is, though the listening socket is not.
    let mut stage = Stage::sized(4, ONE);
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    listener.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    listener.listen(1).unwrap();
    let address = listener.local_addr().unwrap().as_socket().unwrap();
    stage.model.listen(listener).unwrap();
    let _peer = TcpStream::connect(address).unwrap();
    let socket = stage.model.accept().unwrap().0;
    let queue = stage.model.create_request_queue(&socket, ONE, stage.queue, 8).unwrap();
    stage.model.close(1, socket, Some(queue));
    stage.end();
}

#[test]
#[cfg(target_os = "linux")]
fn a_plain_call_before_there_is_a_request_queue() {
    use std::io::{Read, Write};
    let queue = |stage: &mut Stage, plain: fn(&Socket)| {
        let (mut peer, socket) = pair();
        peer.write_all(b"quoi").unwrap();
        plain(&socket);
        let queue = stage.model.create_request_queue(&socket, ONE, stage.queue, 8).unwrap();
        stage.model.close(1, socket, Some(queue));
    };
    // What has come and nobody has read is in order.
    let mut stage = Stage::sized(4, ONE);
    queue(&mut stage, |_| ());
    stage.end();
    let past: [fn(&Socket); 2] =
        [|mut own| _ = own.write(b"xy").unwrap(), |mut own| while own.read(&mut [0]).is_err() {}];
    for past in past {
        broken(Violation::PlainCall, Stage::sized(4, ONE), |stage| queue(stage, past));
    }
}

#[test]
fn a_request_queue_for_a_socket_that_is_not_connected() {
    let connect = |stage: &mut Stage, waits: bool| {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let socket = stage.model.socket(address).unwrap();
        stage.model.connect(1, &socket, address).unwrap();
        while waits && stage.model.connected(1, &socket).is_none() {}
        let queue = stage.model.create_request_queue(&socket, ONE, stage.queue, 8).unwrap();
        stage.model.close(1, socket, Some(queue));
    };
    let mut stage = Stage::sized(4, ONE);
    connect(&mut stage, true);
    stage.end();
    broken(Violation::NotConnected, Stage::sized(4, ONE), |stage| connect(stage, false));
    broken(Violation::NotConnected, Stage::sized(4, ONE), |stage| {
        let socket = stage.model.socket("127.0.0.1:1".parse().unwrap()).unwrap();
        let _ = stage.model.create_request_queue(&socket, ONE, stage.queue, 8);
    });
}

#[test]
fn a_connection_that_has_ended_is_refused_and_breaks_no_rule() {
    let mut stage = Stage::sized(4, ONE);
    let (peer, socket) = pair();
    socket2::SockRef::from(&peer).set_linger(Some(Duration::ZERO)).unwrap();
    drop(peer);
    // Its reset is heard.
    while socket.peer_addr().is_ok() {
        let _ = socket.take_error();
    }
    let refused = stage.model.create_request_queue(&socket, ONE, stage.queue, 8);
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::NotConnected);
    stage.end();
}

#[test]
#[cfg(target_os = "linux")]
fn bytes_or_an_end_past_the_request_queue() {
    use std::io::{Read, Write};
    fn all_in_order(stage: &mut Stage) {
        stage.peer.write_all(b"quoi").unwrap();
        stage.send(0, 10, 0);
        stage.await_one();
        stage.receive(0, 3, 0);
        stage.await_one();
        stage.peer.read_exact(&mut [0; 10]).unwrap();
    }
    fn own(stage: &Stage) -> &Socket {
        stage.socket.as_ref().unwrap()
    }
    for shut_down in [false, true] {
        let mut stage = Stage::new();
        all_in_order(&mut stage);
        if shut_down {
            stage.model.shut_down(stage.socket.as_ref().unwrap(), Some(stage.requests)).unwrap();
        } else {
            // The peer's end, and what nobody has read, is in order.
            stage.peer.shutdown(Shutdown::Write).unwrap();
        }
        stage.end();
    }
    let past: [fn(&Stage); 3] = [
        |stage| _ = own(stage).write(b"x").unwrap(),
        |stage| _ = own(stage).read(&mut [0]).unwrap(),
        |stage| own(stage).shutdown(Shutdown::Write).unwrap(),
    ];
    for past in past {
        broken(Violation::PastTheQueue, Stage::new(), |stage| {
            all_in_order(stage);
            past(stage);
            stage.close();
        });
    }
}

#[test]
#[cfg(target_os = "linux")]
fn an_end_that_comes_amid_the_questions_is_no_byte_read() {
    for _ in 0..1000 {
        let (peer, own) = pair();
        let ending = std::thread::spawn(move || peer.shutdown(Shutdown::Write).map(|()| peer));
        while !ending.is_finished() {
            assert_eq!(count::Count::of(&own).unwrap().read, 0);
        }
        sockets::forget(&own);
    }
}

#[test]
fn a_shut_down_goes_through_the_queue_that_there_is() {
    let mut stage = Stage::new();
    let socket = stage.socket.as_ref().unwrap();
    stage.model.shut_down(socket, Some(stage.requests)).unwrap();
    assert_eq!(std::io::Read::read(&mut stage.peer, &mut [0]).unwrap(), 0);
    stage.end();
    broken(Violation::UnknownRequestQueue, Stage::new(), |stage| {
        let other = RequestQueue(stage.requests.0 + 1);
        let _ = stage.model.shut_down(stage.socket.as_ref().unwrap(), Some(other));
    });
}

#[test]
fn a_request_queue_whose_socket_is_closed() {
    for way in [Way::Receive, Way::Send] {
        broken(Violation::UnknownRequestQueue, Stage::new(), |stage| {
            stage.close();
            stage.commit(way);
        });
    }
}

#[test]
fn more_requests_than_the_limit() {
    let mut stage = Stage::sized(3, Limits { receives: 1, sends: 2 });
    stage.send(0, 10, DEFER);
    stage.send(10, 10, 0);
    // They count until they are dequeued.
    stage.model.get_on();
    assert_eq!(stage.dequeue().len(), 2);
    stage.send(0, 10, 0);
    stage.end();
    broken(Violation::TooManyRequests, Stage::new(), |stage| {
        // Deferred ones as well.
        stage.send(0, 10, DEFER);
        stage.send(10, 10, DEFER);
    });
    broken(Violation::TooManyRequests, Stage::new(), |stage| {
        stage.send(0, 10, 0);
        stage.model.get_on();
        stage.send(10, 10, 0);
    });
}

#[test]
fn a_flag_that_is_none() {
    broken(Violation::UnknownFlags, Stage::new(), |stage| stage.send(0, 10, 4));
}

#[test]
fn a_commit_that_is_more() {
    broken(Violation::CommitWithMore, Stage::new(), |stage| stage.send(0, 10, COMMIT_ONLY));
    broken(Violation::CommitWithMore, Stage::new(), |stage| {
        // SAFETY: it points to no memory.
        let _ = unsafe { stage.model.receive(stage.requests, None, COMMIT_ONLY, 1) };
    });
    broken(Violation::CommitWithMore, Stage::new(), |stage| {
        // SAFETY: as above.
        let _ = unsafe { stage.model.receive(stage.requests, None, COMMIT_ONLY | DEFER, 0) };
    });
}

#[test]
fn a_request_without_data() {
    broken(Violation::NoData, Stage::new(), |stage| {
        // SAFETY: it points to no memory.
        let _ = unsafe { stage.model.receive(stage.requests, None, DEFER, 1) };
    });
}

#[test]
fn a_registration_of_nothing_or_of_too_much() {
    for len in [0, u32::MAX as usize + 1] {
        broken(Violation::RegistrationSize, Stage::new(), |stage| {
            let start = stage.memory.as_mut_ptr();
            // SAFETY: it is refused.
            let _ = unsafe { stage.model.register_buffer(start, len) };
        });
    }
}

#[test]
fn a_buffer_that_is_not_registered() {
    broken(Violation::UnknownBuffer, Stage::new(), |stage| {
        stage.buffer.0 += 1;
        stage.send(0, 10, 0);
    });
    broken(Violation::UnknownBuffer, Stage::new(), |stage| {
        stage.model.deregister_buffer(stage.buffer);
        stage.send(0, 10, 0);
    });
    broken(Violation::UnknownBuffer, Stage::new(), |stage| {
        stage.model.deregister_buffer(stage.buffer);
        stage.model.deregister_buffer(stage.buffer);
    });
}

#[test]
fn a_piece_outside_of_its_registration() {
    let mut stage = Stage::new();
    stage.receive(MEMORY as u32 - 1, 1, 0);
    stage.end();
    broken(Violation::OutsideBuffer, Stage::new(), |stage| stage.receive(MEMORY as u32 - 1, 2, 0));
}

#[test]
fn a_piece_that_an_outstanding_request_has() {
    let mut stage = Stage::new();
    stage.receive(10, 10, 0);
    stage.send(20, 10, 0);
    stage.end();
    for (offset, len) in [(10, 10), (0, 11), (19, 1), (12, 2)] {
        broken(Violation::Overlap, Stage::new(), |stage| {
            stage.receive(10, 10, 0);
            stage.send(offset, len, 0);
        });
    }
    broken(Violation::Overlap, Stage::new(), |stage| {
        // It has completed, but nobody has taken note.
        stage.send(10, 10, 0);
        stage.model.get_on();
        stage.receive(10, 10, 0);
    });
    broken(Violation::Overlap, Stage::new(), |stage| {
        // The same bytes by another registration.
        let start = stage.memory.as_mut_ptr();
        // SAFETY: the memory outlives the model.
        let other = unsafe { stage.model.register_buffer(start, MEMORY) }.unwrap();
        stage.receive(10, 10, 0);
        stage.buffer = other;
        stage.send(10, 10, 0);
    });
}

#[test]
fn a_piece_written_to_while_a_request_has_it() {
    const LEN: usize = 300;
    let request = |stage: &mut Stage, way: Way| match way {
        Way::Receive => stage.receive(0, LEN as u32, 0),
        Way::Send => stage.send(0, LEN as u32, 0),
    };
    for way in [Way::Receive, Way::Send] {
        // What is beside a piece, and what was one, is the program's.
        let mut stage = Stage::new();
        request(&mut stage, way);
        stage.memory[LEN] ^= 1;
        std::io::Write::write_all(&mut stage.peer, b"quoi").unwrap();
        stage.await_one();
        stage.memory[0] ^= 1;
        stage.end();
        for at in [0, LEN - 1] {
            // Before the kernel was at it, after it was, and when it is cancelled.
            for late in [false, true] {
                broken(Violation::Touched, Stage::new(), |stage| {
                    request(stage, way);
                    std::io::Write::write_all(&mut stage.peer, b"quoi").unwrap();
                    while late && stage.model.queue(0).ready.is_empty() {
                        stage.model.get_on();
                    }
                    stage.memory[at] ^= 1;
                    stage.await_one();
                });
            }
            broken(Violation::Touched, Stage::new(), |stage| {
                request(stage, way);
                stage.memory[at] ^= 1;
                stage.close();
                stage.await_one();
            });
        }
    }
}

#[test]
fn memory_deregistered_while_it_is_used() {
    broken(Violation::BufferInUse, Stage::new(), |stage| {
        stage.receive(0, 10, 0);
        stage.model.deregister_buffer(stage.buffer);
    });
    broken(Violation::BufferInUse, Stage::new(), |stage| {
        stage.send(0, 10, 0);
        stage.model.get_on();
        stage.model.deregister_buffer(stage.buffer);
    });
}

#[test]
fn a_queue_asked_to_tell_that_can_not() {
    broken(Violation::NothingToTell, Stage::new(), |stage| {
        let queue = stage.model.create_completion_queue(1, false).unwrap();
        let _ = stage.model.notify(queue);
    });
}

#[test]
fn a_queue_asked_to_tell_twice() {
    let mut stage = Stage::new();
    stage.send(0, 10, 0);
    // It tells at once, and may be asked again.
    stage.model.notify(stage.queue).unwrap();
    stage.model.notify(stage.queue).unwrap();
    assert!(stage.model.wait(LONG).unwrap().completions);
    stage.end();
    broken(Violation::AskedTwice, Stage::new(), |stage| {
        stage.model.notify(stage.queue).unwrap();
        stage.model.notify(stage.queue).unwrap();
    });
}

#[test]
fn what_was_told_is_told_until_it_is_reset_and_may_be_when_it_is_asked_for_again() {
    for resets in [false, true] {
        let mut stage = Stage::new();
        stage.model.liberties.resets = resets;
        stage.send(0, 10, 0);
        stage.model.notify(stage.queue).unwrap();
        assert!(stage.model.wait(LONG).unwrap().completions);
        assert_eq!(stage.dequeue().len(), 1);
        stage.model.notify(stage.queue).unwrap();
        assert_eq!(stage.model.wait(Duration::ZERO).unwrap().completions, !resets);
        stage.model.reset_told(stage.queue);
        assert!(!stage.model.wait(Duration::ZERO).unwrap().completions);
        stage.end();
    }
}

#[test]
fn what_is_not_to_be_told_of_is_not() {
    let mut stage = Stage::new();
    stage.send(0, 10, DONT_NOTIFY);
    stage.model.notify(stage.queue).unwrap();
    assert_eq!(stage.model.wait(Duration::from_millis(2)).unwrap(), Woken::default());
    assert_eq!(stage.dequeue().len(), 1);
    stage.end();
}

#[test]
fn a_wait_that_nobody_ends() {
    // With nothing outstanding it is none.
    let mut stage = Stage::new();
    stage.model.wait(Duration::ZERO).unwrap();
    stage.end();
    broken(Violation::DeafWait, Stage::new(), |stage| {
        stage.receive(0, 10, 0);
        let _ = stage.model.wait(Duration::ZERO);
    });
}

#[test]
fn a_queue_that_says_it_was_asked_before_is_waited_for_no_longer_than_until_it_is_asked_again() {
    let in_vain = |stage: &mut Stage| {
        stage.model.liberties.already = true;
        stage.receive(0, 10, 0);
        while stage.model.notify(stage.queue).unwrap() == Asked::Anew {
            // It tells, so that it may be asked again.
            std::io::Write::write_all(&mut stage.peer, b"x").unwrap();
            while !stage.model.wait(LONG).unwrap().completions {}
            stage.dequeue();
            stage.model.reset_told(stage.queue);
            stage.receive(0, 10, 0);
        }
    };
    let mut stage = Stage::new();
    in_vain(&mut stage);
    stage.model.wait(ASK_AGAIN).unwrap();
    stage.end();
    broken(Violation::DeafWait, Stage::new(), |stage| {
        in_vain(stage);
        let _ = stage.model.wait(2 * ASK_AGAIN);
    });
}

#[test]
fn a_wait_or_a_look_with_requests_that_were_not_committed() {
    let mut stage = Stage::new();
    stage.receive(0, 10, DEFER);
    stage.commit(Way::Receive);
    stage.model.notify(stage.queue).unwrap();
    stage.model.wait(Duration::ZERO).unwrap();
    stage.end();
    for other in [Way::Send, Way::Receive] {
        let defer = |stage: &mut Stage| match other {
            Way::Send => stage.receive(0, 10, DEFER),
            Way::Receive => stage.send(0, 10, DEFER),
        };
        broken(Violation::Uncommitted, Stage::new(), |stage| {
            defer(stage);
            stage.dequeue();
        });
        broken(Violation::Uncommitted, Stage::new(), |stage| {
            defer(stage);
            // A commit of one way is none of the other.
            stage.commit(other);
            stage.model.notify(stage.queue).unwrap();
            let _ = stage.model.wait(Duration::ZERO);
        });
    }
}

#[test]
fn a_table_given_up_with_something_left() {
    let given_up = |prepare: fn(&mut Stage)| {
        let mut stage = Stage::new();
        prepare(&mut stage);
        let Stage { model, memory, .. } = stage;
        let said = catch_unwind(AssertUnwindSafe(|| drop(model))).unwrap_err();
        assert!(said.downcast_ref::<String>().unwrap().contains("LeftBehind"));
        drop(memory);
    };
    given_up(|stage| {
        stage.close();
        stage.model.close_completion_queue(stage.queue);
    });
    given_up(|stage| {
        stage.close();
        stage.model.deregister_buffer(stage.buffer);
    });
    given_up(|stage| stage.receive(0, 10, 0));
}

#[test]
fn a_seed_decides_what_a_kernel_does() {
    let liberties = |seed| with_seed(seed, false, || Model::open(1).unwrap().liberties);
    assert_eq!(liberties(3), liberties(3));
    let all: Vec<Liberties> = (0..50).map(liberties).collect();
    let kinds: [fn(&Liberties) -> bool; 14] = [
        |liberties| liberties.sessions > 0,
        |liberties| liberties.delay > 0,
        |liberties| liberties.slow_commit > 0,
        |liberties| liberties.early,
        |liberties| liberties.short_receives,
        |liberties| liberties.acknowledged,
        |liberties| liberties.shuffled,
        |liberties| liberties.kernel_status,
        |liberties| liberties.last_moment,
        |liberties| liberties.resets,
        |liberties| liberties.already,
        |liberties| liberties.cancels,
        |liberties| liberties.keeps,
        |liberties| liberties.reset_accepts,
    ];
    for taken in kinds {
        assert!(all.iter().any(taken) && !all.iter().all(taken));
    }
    let unseen = |seed| with_seed(seed, true, || Model::open(1).unwrap().liberties);
    assert!((0..50).map(unseen).all(|liberties| !liberties.short_receives));
}
