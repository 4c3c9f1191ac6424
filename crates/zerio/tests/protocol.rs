//! `docs/protocol.md` against a real server, byte for byte, over bare sockets.
#![forbid(unsafe_code)]

mod document;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use document::{Exchange, PATIENCE, Step, config, exchanges};
use zerio::{Client, Config, Error, RefusalCode, Server};

/// A server that echoes every message.
fn echo(config: Config) -> Server {
    let server = Server::bind("127.0.0.1:0").unwrap().config(config);
    server.on_message(|peer, message| peer.send(message).unwrap()).start().unwrap()
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

fn frame(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u32).to_le_bytes()[..], message].concat()
}

fn read(stream: &mut TcpStream, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    let mut read = 0;
    while read < len {
        match stream.read(&mut bytes[read..]).expect("an answer") {
            0 => break,
            more => read += more,
        }
    }
    bytes.truncate(read);
    bytes
}

/// The next frame without its length, `None` at the end.
fn read_frame(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let header = read(stream, 4);
    let len = u32::from_le_bytes(header.try_into().ok()?);
    Some(read(stream, len as usize))
}

fn assert_closed(stream: &mut TcpStream, context: &str) {
    let mut rest = Vec::new();
    let end = stream.read_to_end(&mut rest);
    assert!(end.is_ok() && rest.is_empty(), "{context}: {end:?}, {rest:02x?} where the end was to come");
}

/// Shows that the server still lets somebody in and answers.
fn assert_serves(address: SocketAddr) {
    let until = Instant::now() + PATIENCE;
    loop {
        let mut stream = connect(address);
        stream.write_all(&[frame(b"next"), frame(b"there?")].concat()).unwrap();
        if read_frame(&mut stream).as_deref() == Some(b"next") {
            assert_eq!(read_frame(&mut stream).as_deref(), Some(&b"there?"[..]));
            return;
        }
        // A full server has room when it has heard the end of the example's connections.
        assert!(Instant::now() < until, "the server serves nobody any more");
    }
}

fn run(exchange: Exchange) {
    let server = echo(exchange.config);
    let address = server.local_addr();
    let mut server = Some(server);
    let mut stopping = None;
    let mut connections = BTreeMap::new();
    for (line, step) in exchange.steps {
        let context = format!("line {line} of the document");
        let connection = match &step {
            Step::Client(name, _) | Step::Server(name, _) | Step::Closed(name) => {
                Some(connections.entry(*name).or_insert_with(|| connect(address)))
            }
            Step::Stop => None,
        };
        match (step, connection) {
            (Step::Client(_, bytes), Some(stream)) => stream.write_all(&bytes).expect(&context),
            (Step::Server(_, bytes), Some(stream)) => {
                assert_eq!(read(stream, bytes.len()), bytes, "{context}");
            }
            (Step::Closed(_), Some(stream)) => assert_closed(stream, &context),
            _ => {
                let server = server.take().unwrap();
                stopping = Some(thread::spawn(|| server.stop()));
            }
        }
    }
    drop(connections);
    match (server, stopping) {
        (Some(server), _) => {
            assert_serves(address);
            drop(server);
        }
        (None, stopping) => {
            let report = stopping.unwrap().join().unwrap();
            assert!(report.undelivered.is_empty(), "{report}");
        }
    }
}

#[test]
fn every_example_of_the_document_is_what_a_server_does() {
    let exchanges = exchanges(&document::read("protocol.md"), "wire");
    assert!(exchanges.len() >= 14, "{} examples", exchanges.len());
    for exchange in exchanges {
        println!("the example in line {}", exchange.line);
        run(exchange);
    }
}

/// The rows of the document's table of refusals: code and text.
fn refusals(document: &str) -> Vec<(u8, String)> {
    let rows = document.lines().filter_map(|line| {
        let mut cells = line.strip_prefix('|')?.split('|').map(str::trim);
        let (code, text, when) = (cells.next()?.parse().ok()?, cells.next()?, cells.next()?);
        // The table of a frame's parts has two columns.
        (!when.is_empty()).then(|| (code, text.to_owned()))
    });
    rows.collect()
}

/// What a client of ours says of a server that answers so.
fn refused_by(code: u8, text: &str) -> Error {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let answer = frame(&[&[0, code], text.as_bytes()].concat());
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        assert_eq!(read_frame(&mut stream).as_deref(), Some(&b"me"[..]));
        stream.write_all(&answer).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let error = Client::connect(address, "me").unwrap().start().unwrap_err();
    server.join().unwrap();
    error
}

#[test]
fn a_client_knows_every_refusal_of_the_document_and_takes_others_for_one() {
    let refusals = refusals(&document::read("protocol.md"));
    let codes: Vec<u8> = refusals.iter().map(|(code, _)| *code).collect();
    assert_eq!(codes, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
    for (number, in_words) in refusals {
        let Error::Refused { code, text, .. } = refused_by(number, &in_words) else { panic!("{number}") };
        assert_ne!(code, RefusalCode::Other(number), "the client does not know {number}");
        assert_eq!((code.to_string(), text), (in_words.clone(), in_words));
    }
    let Error::Refused { code, text, .. } = refused_by(200, "new") else { panic!() };
    assert_eq!((code, text.as_str()), (RefusalCode::Other(200), "new"));
}

/// What a server answers to a first frame.
fn answer_to(address: SocketAddr, hello: &[u8]) -> Vec<u8> {
    let mut stream = connect(address);
    stream.write_all(&frame(hello)).unwrap();
    read_frame(&mut stream).unwrap_or_default()
}

#[test]
fn first_frames_have_their_limits_just_where_the_document_says() {
    let server = echo(config(""));
    let address = server.local_addr();
    let id = [b'x'; 256];
    assert_eq!(answer_to(address, &id[..255]), &id[..255]);
    assert_eq!(answer_to(address, &id[..256])[..2], [0, 4]);
    // An id, and features up to 1024 bytes in all: 1 + 1 + 3 × 257 + 251.
    let mut longest = b"y\0".to_vec();
    for len in [255, 255, 255, 249] {
        longest.extend([1, len]);
        longest.resize(longest.len() + usize::from(len), 0);
    }
    assert_eq!(longest.len(), 1024);
    assert_eq!(answer_to(address, &longest), longest);
    longest.push(0);
    assert_eq!(answer_to(address, &longest)[..2], [0, 6]);
}

/// Set when it is dropped, also by a panic: threads that look at it end.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn regression_a_message_to_a_peer_that_was_just_connecting_overtook_its_answer() {
    let server = echo(config(""));
    let (address, sender) = (server.local_addr(), server.sender());
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let _ = sender.try_send("x", b"early");
                }
            });
        }
        let _over = Over(&over);
        let until = Instant::now() + PATIENCE;
        // It went wrong once in a few hundred connections, which under Wine take as long as thousands elsewhere.
        let (connections, mut let_in) = (if cfg!(windows) { 200 } else { 2000 }, 0);
        while let_in < connections && Instant::now() < until {
            let mut stream = connect(address);
            // So that thousands of connections leave no port in TIME_WAIT behind.
            socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
            stream.write_all(&frame(b"x")).unwrap();
            let answer = read_frame(&mut stream).unwrap_or_default();
            // The connection before it may not be gone yet.
            if !answer.starts_with(&[0, 1]) {
                assert_eq!(answer, b"x", "connection {let_in}");
                let_in += 1;
            }
        }
    });
}
