//! `docs/from-csharp.md`: its vectors, both ways, and that it leaves nothing of the older system out.
#![forbid(unsafe_code)]

mod document;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};

use document::{Exchange, PATIENCE, Step, exchanges};
use zerio::{Client, Server};

fn the_block(mark: &str) -> Exchange {
    let mut blocks = exchanges(&document::read("from-csharp.md"), mark);
    let block = blocks.pop().unwrap_or_else(|| panic!("no block {mark}"));
    assert!(blocks.is_empty(), "one block {mark}");
    block
}

#[track_caller]
fn hears(stream: &mut TcpStream, bytes: &[u8], line: usize) {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut heard = vec![0; bytes.len()];
    stream.read_exact(&mut heard).unwrap_or_else(|error| panic!("line {line}: {error}"));
    assert_eq!(heard, bytes, "line {line}");
}

#[test]
fn a_client_of_the_older_system_is_served() {
    let block = the_block("wire");
    let server = Server::bind("127.0.0.1:0").unwrap().config(block.config);
    let server = server.on_message(|peer, message| peer.send(message).unwrap()).start().unwrap();
    let mut client = TcpStream::connect(server.local_addr()).unwrap();
    for (line, step) in block.steps {
        match step {
            Step::Client('A', bytes) => client.write_all(&bytes).unwrap(),
            Step::Server('A', bytes) => hears(&mut client, &bytes, line),
            other => panic!("line {line}: {other:?}"),
        }
    }
    assert_eq!(server.counters().sessions.received.messages_received, 4);
}

/// The messages in whole frames.
fn messages(mut frames: &[u8]) -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    while let Some((header, rest)) = frames.split_first_chunk() {
        let (message, rest) = rest.split_at(u32::from_le_bytes(*header) as usize);
        messages.push(message.to_vec());
        frames = rest;
    }
    assert!(frames.is_empty(), "whole frames");
    messages
}

fn heard(from: &Receiver<Vec<u8>>) -> Vec<u8> {
    from.recv_timeout(PATIENCE).expect("a message")
}

#[test]
fn a_server_of_the_older_system_is_spoken_to() {
    let block = the_block("wire-client");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, received) = channel();
    let starting = std::thread::spawn(move || {
        let client = Client::connect(address, "client-1").unwrap().config(block.config);
        client.on_message(move |_, message| sender.send(message.to_vec()).unwrap()).start().unwrap()
    });
    let (mut server, _) = listener.accept().unwrap();
    let mut steps = block.steps.into_iter();
    let mut handshake = || match (steps.next(), steps.next()) {
        (Some((line, Step::Client('A', id))), Some((_, Step::Server('A', answer)))) => (line, id, answer),
        other => panic!("no handshake: {other:?}"),
    };
    let (line, id, answer) = handshake();
    hears(&mut server, &id, line);
    server.write_all(&answer).unwrap();
    let client = starting.join().unwrap();
    let mut exchanged = 0;
    for (line, step) in steps {
        match step {
            Step::Client('A', bytes) => {
                messages(&bytes).iter().for_each(|message| client.send(message).unwrap());
                hears(&mut server, &bytes, line);
            }
            Step::Server('A', bytes) => {
                server.write_all(&bytes).unwrap();
                for message in messages(&bytes) {
                    assert_eq!(heard(&received), message, "line {line}");
                    exchanged += 1;
                }
            }
            other => panic!("line {line}: {other:?}"),
        }
    }
    assert_eq!(exchanged, 4);
    drop(server);
    client.stop();
}

/// Every name that the older system's users know. The first column of some table has it.
const NAMES: [&str; 27] = [
    "ZerioServer",
    "ZerioClient",
    "Start",
    "Stop",
    "Send",
    "IsRunning",
    "IsConnected",
    "ListeningPort",
    "ClientConnected",
    "ClientDisconnected",
    "MessageReceived",
    "Connected",
    "Disconnected",
    "SendingBufferCount",
    "SendingBufferLength",
    "BatchSendRequests",
    "MaxSendBatchSize",
    "ConflateSendRequestsOnProcessing",
    "ConflateSendRequestsOnEnqueuing",
    "MaxConflatedSendRequestCount",
    "ReceivingBufferCount",
    "ReceivingBufferLength",
    "FramingBufferLength",
    "SessionCount",
    "RequestEngineWaitStrategyType",
    "ReceiveCompletionPollingWaitStrategyType",
    "SendCompletionPollingWaitStrategyType",
];

/// The strategies that those three settings took.
const STRATEGIES: [&str; 6] = ["Hybrid", "Blocking", "Sleeping", "Yielding", "SpinWait", "BusySpin"];

#[test]
fn every_name_of_the_older_system_has_a_row() {
    let document = document::read("from-csharp.md");
    let rows: Vec<&str> =
        document.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    for name in NAMES.iter().chain(&STRATEGIES) {
        assert!(rows.contains(name), "{name} has no row among {rows:?}");
    }
    for row in rows {
        assert!(NAMES.contains(&row) || STRATEGIES.contains(&row), "who knows {row}?");
    }
}
