//! Requests and replies over messages: each request has a number, and its reply bears the same. Several threads ask
//! over one session at once, replies come in any order, and a call ends at its deadline or with the session.
//!
//! ```console
//! $ cargo run --example request_reply
//! ```
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use zerio::{Client, Context, SendError, Server};

// ANCHOR: caller
/// The calls that wait for their replies, by their numbers.
#[derive(Clone, Default)]
struct Pending(Arc<Mutex<HashMap<u64, SyncSender<Vec<u8>>>>>);

impl Pending {
    fn calls(&self) -> MutexGuard<'_, HashMap<u64, SyncSender<Vec<u8>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Caller {
    client: Client,
    pending: Pending,
    next: AtomicU64,
}

impl Caller {
    fn connect(address: std::net::SocketAddr, id: &str) -> Result<Caller, zerio::Error> {
        let pending = Pending::default();
        let (replies, ended) = (pending.clone(), pending.clone());
        let client = Client::connect(address, id)?
            .on_message(move |_, message| {
                let Some((number, reply)) = message.split_first_chunk() else { return };
                // Whose deadline is over has gone, and nobody wants its reply.
                if let Some(call) = replies.calls().remove(&u64::from_le_bytes(*number)) {
                    let _ = call.send(reply.to_vec());
                }
            })
            // Nobody waits for a reply that can't come any more: their channels close.
            .on_disconnected(move |_, _| ended.calls().clear())
            .start()?;
        Ok(Caller { client, pending, next: AtomicU64::new(1) })
    }

    /// Asks, and waits for the reply; `None` where none came in time.
    fn call(&self, request: &[u8], deadline: Duration) -> Result<Option<Vec<u8>>, SendError> {
        let number = self.next.fetch_add(1, Relaxed);
        let (call, reply) = sync_channel(1);
        self.pending.calls().insert(number, call);
        let sent = self.client.send(&[&number.to_le_bytes(), request].concat());
        let reply = sent.map(|()| reply.recv_timeout(deadline).ok());
        self.pending.calls().remove(&number);
        reply
    }
}
// ANCHOR_END: caller

/// Answers `n` with its square, and does not answer 13.
fn answer(peer: &mut Context<'_>, message: &[u8]) {
    let Some((number, request)) = message.split_first_chunk::<8>() else { return peer.disconnect() };
    let Ok(request) = request.try_into().map(u64::from_le_bytes) else { return peer.disconnect() };
    if request != 13 {
        let square = request.wrapping_mul(request);
        let _ = peer.send(&[*number, square.to_le_bytes()].concat());
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = Server::bind("127.0.0.1:0")?.on_message(answer).start()?;
    let caller = Caller::connect(server.local_addr(), "caller")?;
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let caller = &caller;
            scope.spawn(move || {
                for n in (0..1000).map(|n| 1000 * thread + n).filter(|n| *n != 13) {
                    let reply = caller.call(&n.to_le_bytes(), Duration::from_secs(10)).unwrap();
                    assert_eq!(
                        reply,
                        Some((n * n).to_le_bytes().to_vec()),
                        "the reply to this call and no other"
                    );
                }
            });
        }
    });
    let unanswered = caller.call(&13_u64.to_le_bytes(), Duration::from_millis(50))?;
    println!("3999 replies, each to its call; and to 13: {unanswered:?}");
    Ok(())
}
