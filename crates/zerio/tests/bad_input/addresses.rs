//! Addresses that are taken, refused, unresolvable, silent, or somebody else's.
#![forbid(unsafe_code)]

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use zerio::{Builder, Client, Error, Listen, Reason, RefusalCode, Server};

use crate::common_addresses::{Hole, Several, Unresolved};
use crate::hostile::{PATIENCE, config, drivers, frame};

#[test]
fn an_address_in_use_is_a_bind_error_that_says_what_to_do() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let error = Server::bind(address).expect_err("it is taken");
    assert!(
        matches!(&error, Error::Bind { address: at, why } if *at == address && why.kind() == ErrorKind::AddrInUse)
    );
    let text = error.to_string();
    assert!(text.contains(&address.to_string()) && text.contains("choose another port"), "{text}");
}

#[test]
fn an_address_that_was_free_at_bind_and_in_use_at_the_start_is_the_same_error() {
    // Two sockets may be bound to one address as long as neither listens.
    let first = Server::bind("127.0.0.1:0").unwrap();
    let address = first.local_addr();
    let Ok(second) = Server::bind(address) else { return };
    let _first = first.start().unwrap();
    let error = second.start().expect_err("the first listens");
    assert!(matches!(&error, Error::Bind { address: at, .. } if *at == address), "{error:?}");
    assert!(error.to_string().contains("choose another port"), "{error}");
}

#[test]
fn an_address_of_another_machine_can_not_be_listened_on() {
    // 192.0.2.0/24 is for documentation: nobody has it.
    let error = Server::bind("192.0.2.1:0").expect_err("it is nobody's");
    assert!(matches!(&error, Error::Bind { .. }), "{error:?}");
    assert!(error.to_string().contains("no interface of this machine"), "{error}");
}

/// Connects over each driver, started and polled, and gives each error, which came within the patience.
pub fn errors(address: SocketAddr, handshake_timeout: Duration) -> Vec<Error> {
    errors_of(&[address], handshake_timeout)
}

/// The same for a server of several addresses.
fn errors_of(addresses: &[SocketAddr], handshake_timeout: Duration) -> Vec<Error> {
    let mut errors = Vec::new();
    for driver in drivers() {
        let client = || {
            Client::connect(Several(addresses.to_vec()), "client")
                .unwrap()
                .config(config(|c| (c.driver, c.handshake_timeout) = (driver, handshake_timeout)))
        };
        let begun = Instant::now();
        errors.push(client().start().expect_err("there is no server"));
        let mut polled = client().start_polled().unwrap();
        errors.push(loop {
            match polled.poll() {
                Ok(_) => assert!(begun.elapsed() < PATIENCE, "a clear error within the deadline"),
                Err(error) => break error,
            }
            std::thread::sleep(Duration::from_millis(1));
        });
        assert!(!polled.is_connected());
        assert!(begun.elapsed() < PATIENCE, "a clear error within the deadline");
    }
    errors
}

#[test]
fn a_refused_address_says_that_nobody_listens_there() {
    let nobody = nobody();
    for error in errors(nobody.local_addr(), PATIENCE) {
        assert!(
            matches!(&error, Error::Connect { why, .. } if why.kind() == ErrorKind::ConnectionRefused),
            "{error:?}"
        );
        assert!(error.to_string().contains("nobody listens there"), "{error}");
    }
}

#[test]
fn an_address_that_is_none_says_how_one_looks() {
    for address in ["no-such-host.invalid:7000", "127.0.0.1", "127.0.0.1:seven"] {
        let begun = Instant::now();
        let error = Client::connect(address, "client").expect_err("it is none");
        // Without a network, a resolver may take longer than the deadline that resolving has.
        assert!(matches!(&error, Error::Resolve { .. } | Error::TimedOut { .. }), "{error:?}");
        assert!(error.to_string().contains(address), "{error}");
        assert!(begun.elapsed() < PATIENCE);
    }
    let error = Client::connect("127.0.0.1", "client").expect_err("it has no port");
    assert!(error.to_string().contains("give HOST:PORT"), "{error}");
    let error = Server::bind("127.0.0.1").expect_err("it has no port");
    assert!(matches!(&error, Error::Resolve { .. }), "{error:?}");
}

#[test]
fn a_resolver_that_hangs_is_given_up_at_its_deadline() {
    let (_hangs, until) = std::sync::mpsc::channel();
    let begun = Instant::now();
    let error = Client::connect(Unresolved(until), "client").expect_err("nobody knows the address");
    // Which is 5 s, and no setting: there is no configuration yet.
    assert!(begun.elapsed() >= Duration::from_secs(5), "{error}");
    assert!(begun.elapsed() < PATIENCE, "{error}");
    assert!(matches!(&error, Error::Resolve { why, .. } if why.kind() == ErrorKind::TimedOut), "{error:?}");
}

#[test]
fn a_server_that_accepts_and_says_nothing_is_given_up_at_the_deadline() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let after = Duration::from_millis(300);
    for error in errors(listener.local_addr().unwrap(), after) {
        assert!(matches!(&error, Error::TimedOut { after: given, .. } if *given == after), "{error:?}");
        assert!(error.to_string().contains("did not answer within 300 ms"), "{error}");
    }
}

#[test]
fn a_server_that_does_not_even_accept_is_given_up_at_the_deadline() {
    let hole = Hole::new();
    for error in errors(hole.address, Duration::from_millis(300)) {
        assert!(matches!(&error, Error::TimedOut { .. }), "{error:?}");
    }
    // It is given its share of the time, and no more.
    each_is_tried(&[hole.address, nobody().local_addr()], Duration::from_secs(2));
}

/// Somebody who does not listen at his address: nobody else has it while he is kept.
fn nobody() -> Builder<Listen> {
    Server::bind("127.0.0.1:0").unwrap()
}

/// A client connects to the server that has the last one of several addresses, over each driver, started and
/// polled; `dead` are the others.
#[track_caller]
fn each_is_tried(dead: &[SocketAddr], handshake_timeout: Duration) {
    for driver in drivers() {
        let config = config(|c| (c.driver, c.handshake_timeout) = (driver, handshake_timeout));
        let server = Server::bind("127.0.0.1:0").unwrap().config(config.clone()).start().unwrap();
        let addresses = Several([dead, &[server.local_addr()]].concat());
        let client = |id| Client::connect(addresses.clone(), id).unwrap().config(config.clone());
        let started = client("started").start().unwrap();
        assert_eq!(started.address(), server.local_addr());
        assert_eq!(started.peer().address(), server.local_addr());
        started.send(b"oui").unwrap();
        assert!(started.stop().undelivered.is_empty());
        let (mut polled, begun) = (client("polled").start_polled().unwrap(), Instant::now());
        while !polled.is_connected() {
            polled.poll().unwrap();
            assert!(begun.elapsed() < PATIENCE);
        }
        assert_eq!(polled.address(), Some(server.local_addr()));
    }
}

#[test]
fn of_several_addresses_the_first_that_answers_is_the_servers() {
    let nobodies: Vec<_> = (0..12).map(|_| nobody()).collect();
    let dead: Vec<_> = nobodies.iter().map(Builder::local_addr).collect();
    each_is_tried(&dead[..1], PATIENCE);
    each_is_tried(&dead, PATIENCE);
}

#[test]
fn where_none_of_several_addresses_answers_the_last_ones_error_is_told() {
    let nobodies = [nobody(), nobody()];
    let dead = nobodies.each_ref().map(Builder::local_addr);
    for error in errors_of(&dead, PATIENCE) {
        assert!(matches!(&error, Error::Connect { address, .. } if *address == dead[1]), "{error:?}");
    }
}

/// A listener that reads the first frame, says `answer`, and closes; to as many as `errors` makes.
fn answering(answer: Vec<u8>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().take(2 * drivers().len()) {
            let mut stream = stream.unwrap();
            stream.read_exact(&mut [0; 4 + "client".len()]).unwrap();
            stream.write_all(&answer).unwrap();
        }
    });
    address
}

#[test]
fn a_server_that_takes_the_connection_is_the_one_whatever_it_answers() {
    let other = answering(b"SSH-2.0-x\r\n".to_vec());
    let nobody = nobody();
    for error in errors_of(&[other, nobody.local_addr()], PATIENCE) {
        assert!(matches!(&error, Error::NotZerio { address, .. } if *address == other), "{error:?}");
    }
}

#[test]
fn a_server_that_answers_something_else_is_no_zerio_server() {
    let bad_answers: [&[u8]; 7] = [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"SSH-2.0-x\r\n",
        &frame(b"somebody else"),
        &frame(b""),
        &frame(b"\0"),
        &frame(b"\0\x02\xff\xff"),
        &0x8000_0001u32.to_le_bytes(),
    ];
    for answer in bad_answers {
        for error in errors(answering(answer.to_vec()), PATIENCE) {
            assert!(
                matches!(&error, Error::NotZerio { what: Reason::BadAnswer, .. }),
                "{answer:?}: {error:?}"
            );
            assert!(error.to_string().contains("did not answer as a zerio server does"), "{error}");
        }
    }
}

#[test]
fn a_server_that_closes_without_an_answer_or_within_it_is_no_zerio_server() {
    for (answer, reason) in
        [(vec![], Reason::PeerClosed), (frame(b"client")[..7].to_vec(), Reason::Truncated { received: 7 })]
    {
        for error in errors(answering(answer), PATIENCE) {
            assert!(matches!(&error, Error::NotZerio { what, .. } if *what == reason), "{error:?}");
        }
    }
}

#[test]
fn a_refusal_with_an_unknown_code_is_still_a_refusal_in_the_servers_words() {
    for error in errors(answering(frame(b"\0\xc8too warm today")), PATIENCE) {
        let Error::Refused { code, text, .. } = &error else { panic!("{error:?}") };
        assert_eq!((*code, text.as_str()), (RefusalCode::Other(200), "too warm today"));
        assert!(error.to_string().contains("too warm today"), "{error}");
    }
}
