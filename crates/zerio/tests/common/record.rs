//! A handler that writes down what it hears, and does what a test asks of it besides.
#![forbid(unsafe_code)]

use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use zerio::{Arrival, Context, Disconnection, Handler, Refusal, Rejection, Rejections};

use super::PATIENCE;

/// What a handler has heard.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    Connected { id: String, address: SocketAddr },
    Message { id: String, bytes: Vec<u8>, batch_end: bool },
    Disconnected { id: String, address: SocketAddr, why: Disconnection },
    Rejected { address: SocketAddr, why: Rejection },
}

impl Event {
    pub fn id(&self) -> Option<&str> {
        match self {
            Event::Connected { id, .. } | Event::Message { id, .. } | Event::Disconnected { id, .. } => {
                Some(id)
            }
            Event::Rejected { .. } => None,
        }
    }

    pub fn is_message(&self) -> bool {
        matches!(self, Event::Message { .. })
    }
}

/// The messages among some events, as text.
pub fn texts(events: &[Event]) -> Vec<String> {
    let text = |event: &Event| match event {
        Event::Message { bytes, .. } => Some(String::from_utf8_lossy(bytes).into_owned()),
        _ => None,
    };
    events.iter().filter_map(text).collect()
}

/// The one message among some events, as text.
#[track_caller]
pub fn sole_text(events: &[Event]) -> String {
    let mut texts = texts(events);
    assert_eq!(texts.len(), 1, "{texts:?}");
    texts.remove(0)
}

/// Where a recorder writes, and a test reads and waits.
#[derive(Clone, Debug, Default)]
pub struct Log(Arc<(Mutex<Vec<Event>>, Condvar)>);

impl Log {
    pub fn new() -> Log {
        Log::default()
    }

    /// All that has been heard so far.
    pub fn events(&self) -> Vec<Event> {
        self.lock().clone()
    }

    /// What has been heard of one peer so far.
    pub fn of(&self, id: &str) -> Vec<Event> {
        self.events().into_iter().filter(|event| event.id() == Some(id)).collect()
    }

    /// Waits until what has been heard satisfies the test.
    #[track_caller]
    pub fn wait<T>(&self, what: &str, mut look: impl FnMut(&[Event]) -> Option<T>) -> T {
        let begun = Instant::now();
        let mut events = self.lock();
        loop {
            if let Some(found) = look(&events) {
                return found;
            }
            let left = PATIENCE.saturating_sub(begun.elapsed());
            if left.is_zero() {
                let last = &events[events.len().saturating_sub(20)..];
                panic!("not within {PATIENCE:?}: {what}; heard {} events, the last: {last:?}", events.len());
            }
            let waited = self.0.1.wait_timeout(events, left);
            events = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits until a peer has said so many messages.
    #[track_caller]
    pub fn wait_messages(&self, id: &str, count: usize) {
        self.wait(&format!("{count} messages of {id}"), |events| {
            let of_it = events.iter().filter(|event| event.is_message() && event.id() == Some(id));
            (of_it.count() >= count).then_some(())
        });
    }

    /// Waits until a session has begun.
    #[track_caller]
    pub fn wait_connected(&self, id: &str) {
        self.wait(&format!("{id} connected"), |events| {
            let is_it = |event: &Event| matches!(event, Event::Connected { id: it, .. } if it == id);
            events.iter().any(is_it).then_some(())
        });
    }

    /// Waits until a session has ended, and gives how the first one with that id did.
    #[track_caller]
    pub fn wait_disconnected(&self, id: &str) -> Disconnection {
        self.wait(&format!("{id} disconnected"), |events| {
            events.iter().find_map(|event| match event {
                Event::Disconnected { id: it, why, .. } if it == id => Some(*why),
                _ => None,
            })
        })
    }

    /// Waits until a connection was rejected.
    #[track_caller]
    pub fn wait_rejected(&self) -> Rejection {
        self.wait("a rejection", |events| {
            events.iter().find_map(|event| match event {
                Event::Rejected { why, .. } => Some(*why),
                _ => None,
            })
        })
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Event>> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, event: Event) {
        self.lock().push(event);
        self.0.1.notify_all();
    }
}

type OnSession = Box<dyn FnMut(&mut Context<'_>) + Send>;
type OnMessage = Box<dyn FnMut(&mut Context<'_>, &[u8]) + Send>;
type OnArrival = Box<dyn FnMut(&Arrival<'_>) -> Result<(), Refusal> + Send>;
type OnRejections = Box<dyn FnMut(&Rejections) + Send>;
type OnEnd = Box<dyn FnMut(&mut Context<'_>, &Disconnection) + Send>;

/// A handler that writes into a [`Log`], then does what the test has given it to do.
#[derive(Default)]
pub struct Recorder {
    /// `None` where nobody reads it.
    log: Option<Log>,
    without_messages: bool,
    arrival: Option<OnArrival>,
    rejections: Option<OnRejections>,
    connected: Option<OnSession>,
    message: Option<OnMessage>,
    disconnected: Option<OnEnd>,
}

impl Recorder {
    pub fn new(log: &Log) -> Recorder {
        Recorder { log: Some(log.clone()), ..Recorder::default() }
    }

    /// One that writes nothing down.
    pub fn deaf() -> Recorder {
        Recorder::default()
    }

    /// Sends every message back, and waits for room by dropping nothing: tests size their rings so.
    pub fn echo() -> Recorder {
        Recorder::deaf().on_message(|peer, message| peer.send(message).expect("room for an echo"))
    }

    /// Writes no messages down: there will be many.
    pub fn without_messages(mut self) -> Recorder {
        self.without_messages = true;
        self
    }

    pub fn admit(
        mut self,
        judge: impl FnMut(&Arrival<'_>) -> Result<(), Refusal> + Send + 'static,
    ) -> Recorder {
        self.arrival = Some(Box::new(judge));
        self
    }

    pub fn on_rejections(mut self, then: impl FnMut(&Rejections) + Send + 'static) -> Recorder {
        self.rejections = Some(Box::new(then));
        self
    }

    pub fn on_connected(mut self, then: impl FnMut(&mut Context<'_>) + Send + 'static) -> Recorder {
        self.connected = Some(Box::new(then));
        self
    }

    pub fn on_message(mut self, then: impl FnMut(&mut Context<'_>, &[u8]) + Send + 'static) -> Recorder {
        self.message = Some(Box::new(then));
        self
    }

    pub fn on_disconnected(
        mut self,
        then: impl FnMut(&mut Context<'_>, &Disconnection) + Send + 'static,
    ) -> Recorder {
        self.disconnected = Some(Box::new(then));
        self
    }

    fn note(&self, event: impl FnOnce() -> Event) {
        if let Some(log) = &self.log {
            log.push(event());
        }
    }
}

impl Handler for Recorder {
    fn admit(&mut self, arrival: &Arrival<'_>) -> Result<(), Refusal> {
        self.arrival.as_mut().map_or(Ok(()), |judge| judge(arrival))
    }

    fn on_rejections(&mut self, some: &Rejections) {
        if let Some(then) = &mut self.rejections {
            then(some);
        }
    }

    fn on_connected(&mut self, peer: &mut Context<'_>) {
        self.note(|| Event::Connected { id: peer.id().into(), address: peer.address() });
        if let Some(then) = &mut self.connected {
            then(peer);
        }
    }

    fn on_message(&mut self, peer: &mut Context<'_>, message: &[u8]) {
        if !self.without_messages {
            let batch_end = peer.is_batch_end();
            self.note(|| Event::Message { id: peer.id().into(), bytes: message.into(), batch_end });
        }
        if let Some(then) = &mut self.message {
            then(peer, message);
        }
    }

    fn on_disconnected(&mut self, peer: &mut Context<'_>, why: &Disconnection) {
        let address = peer.address();
        self.note(|| Event::Disconnected { id: peer.id().into(), address, why: *why });
        if let Some(then) = &mut self.disconnected {
            then(peer, why);
        }
    }

    fn on_rejected(&mut self, address: SocketAddr, why: &Rejection) {
        self.note(|| Event::Rejected { address, why: *why });
    }
}
