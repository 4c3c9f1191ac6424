//! Peers that are stopped, continued and killed: processes of their own, to which the server streams numbered
//! messages as fast as they take them.
#![forbid(unsafe_code)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError};
use std::thread::JoinHandle;
use std::time::Duration;

use zerio::{Client, Config, Peer, SendError};

use super::{PATIENCE, VICTIM_STOPPED, child};
use crate::failure::Failure;

/// Bytes of each message.
const LEN: usize = 1000;

/// So many handles of victims that are gone are kept, and tried again and again: meanwhile others have their slots.
const DEPARTED: usize = 16;

/// So many messages at once, then a pause.
const BURST: u64 = 16;
const PAUSE: Duration = Duration::from_millis(2);

/// The number of a message that says how many came before it.
const LAST: u64 = u64::MAX;

fn message(number: u64) -> [u8; LEN] {
    let mut message = [number as u8; LEN];
    message[..8].copy_from_slice(&number.to_le_bytes());
    message
}

/// The victim: checks what comes until the last message, and says how many there were.
pub(super) fn run(server: SocketAddr, id: &str, config: &Config) -> Result<(), Failure> {
    let stops = child::until_input_ends();
    let (next, last) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let (counted, ended) = (next.clone(), last.clone());
    let client = Client::connect(server, id)?.config(config.clone());
    let client = client.on_message(move |_, bytes| {
        let expected = counted.load(Ordering::Relaxed);
        if bytes == message(expected) {
            counted.store(expected + 1, Ordering::Relaxed);
        } else {
            let total = bytes.get(8..16).and_then(|bytes| bytes.try_into().ok()).map(u64::from_le_bytes);
            let right = bytes.starts_with(&LAST.to_le_bytes()) && total == Some(expected);
            assert!(right, "message {expected} is another one");
            ended.store(true, Ordering::Release);
        }
    });
    let client = client.start()?;
    child::say("ready")?;
    while client.is_connected() && !stops() {
        std::thread::sleep(Duration::from_millis(20));
    }
    // What is on its way still comes.
    let begun = std::time::Instant::now();
    while !last.load(Ordering::Acquire) && client.is_connected() && begun.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(20));
    }
    let complete = last.load(Ordering::Acquire);
    child::say(&format!("{} {complete}", next.load(Ordering::Relaxed)))
}

/// The server's thread that streams to them.
pub(super) struct Streaming {
    ends: Arc<AtomicBool>,
    thread: JoinHandle<Streamed>,
}

/// What was streamed.
#[derive(Debug, Default)]
pub(super) struct Streamed {
    /// To all of them.
    pub(super) accepted: u64,
    /// To the one that is stopped and continued and must have them all.
    pub(super) to_stopped: u64,
    /// How often its ring was found full after it was not.
    pub(super) full: u64,
    /// To those that were gone, each refused.
    pub(super) to_departed: u64,
    pub(super) fault: Option<String>,
}

struct Stream {
    peer: Peer,
    next: u64,
    full: bool,
}

impl Streaming {
    /// Streams to each victim that comes.
    pub(super) fn start(victims: Receiver<Peer>) -> std::io::Result<Streaming> {
        let ends = Arc::new(AtomicBool::new(false));
        let over = ends.clone();
        let thread = std::thread::Builder::new().name("torture-stream".into()).spawn(move || {
            let (mut streams, mut streamed) = (Vec::<Stream>::with_capacity(64), Streamed::default());
            let mut departed = Vec::with_capacity(DEPARTED);
            while !over.load(Ordering::Acquire) {
                match victims.try_recv() {
                    Ok(peer) => streams.push(Stream { peer, next: 0, full: false }),
                    Err(TryRecvError::Disconnected) => break,
                    Err(TryRecvError::Empty) => std::thread::sleep(PAUSE),
                }
                streams.retain_mut(|stream| {
                    let lives = burst(stream, &mut streamed);
                    if !lives && departed.len() < DEPARTED {
                        departed.push(stream.peer.clone());
                    }
                    lives
                });
                departed.iter().for_each(|peer| too_late(peer, &mut streamed));
            }
            for stream in streams.iter().filter(|stream| stream.peer.id() == VICTIM_STOPPED) {
                streamed.to_stopped = stream.next;
                let mut last = message(LAST);
                last[8..16].copy_from_slice(&stream.next.to_le_bytes());
                if let Err(error) = stream.peer.send_timeout(&last, PATIENCE) {
                    streamed.fault = Some(format!("{VICTIM_STOPPED}: the last message: {error}"));
                }
            }
            streamed
        })?;
        Ok(Streaming { ends, thread })
    }

    /// Sends the last message.
    pub(super) fn finish(self) -> Streamed {
        self.ends.store(true, Ordering::Release);
        self.thread.join().unwrap_or_default()
    }
}

/// Sends some; false where the victim is gone.
fn burst(stream: &mut Stream, streamed: &mut Streamed) -> bool {
    for _ in 0..BURST {
        match stream.peer.try_send(&message(stream.next)) {
            Ok(()) => {
                stream.next += 1;
                stream.full = false;
                streamed.accepted += 1;
            }
            Err(SendError::Full) => {
                streamed.full += u64::from(!std::mem::replace(&mut stream.full, true));
                return true;
            }
            Err(SendError::Closed) => return false,
            Err(other) => {
                streamed.fault.get_or_insert(format!("{}: a message came to {other:?}", stream.peer.id()));
                return false;
            }
        }
    }
    true
}

/// A message to who is gone is refused at once, also by the call that else waits for room.
fn too_late(peer: &Peer, streamed: &mut Streamed) {
    match peer.send(b"too late") {
        Err(SendError::Closed) => streamed.to_departed += 1,
        other => {
            let fault = format!("{}: a message after it was gone came to {other:?}", peer.id());
            streamed.fault.get_or_insert(fault);
        }
    }
}
