//! TLS in an engine: its handshake before the first frame, records opened before the framer sees them, and how a
//! session under TLS ends.
#![forbid(unsafe_code)]

use std::mem;

use super::admission::REFUSAL_TIMEOUT;
use super::{Core, Engine, Failure, Role};
use crate::driver::Driver;
use crate::error::{Reason, RefusalCode, TlsFault};
use crate::handler::Handler;
use crate::recv::sealed::Record;
use crate::region::Span;
use crate::send::sealed::may_allocate;
use crate::session::State;
use crate::tls::handshake::Handshake;
use crate::tls::inbound::{Inbound, Message, News};
use crate::tls::record::{RECORD_MAX, record_len};
use crate::tls::{PeerCertificate, Side};
use crate::wire::RefusalFrame;

/// What a connection hears that is not let in and has no slot: a fatal alert, access_denied, in a record of its own.
/// No more can be said before there are keys.
pub(super) const TURNED_DOWN: [u8; 7] = [21, 3, 3, 0, 2, 2, 49];

/// After so many records that carried messages of the protocol the other sessions have their turn: a full buffer can have
/// thousands of key updates, for each of which a key is derived.
const PROTOCOL_PER_TURN: u32 = 32;

/// What an engine's sessions are under TLS.
pub(super) struct Layers {
    side: Side,
    sessions: Vec<Layer>,
    /// What a handshake has to say, on its way to the send path.
    out: Vec<u8>,
    /// After so many records a key is replaced.
    #[cfg(feature = "sim")]
    key_life: Option<u64>,
}

/// How far a session is.
enum Layer {
    /// The slot has no session.
    Off,
    Shaking(Box<Handshake>),
    Open(Box<Opened>),
    /// It has failed: what still comes is not looked at.
    Over,
}

struct Opened {
    inbound: Inbound,
    certificate: Option<PeerCertificate>,
    /// The peer has said that nothing more comes.
    ended: bool,
    /// What is wrong, to be told when all before it has been handled.
    fault: Option<TlsFault>,
    /// There are more records, for another turn.
    more: bool,
}

impl Layers {
    fn new(side: Side, slots: usize) -> Layers {
        Layers {
            side,
            sessions: (0..slots).map(|_| Layer::Off).collect(),
            out: Vec::new(),
            #[cfg(feature = "sim")]
            key_life: None,
        }
    }
}

impl Core {
    /// The certificate that a session's peer has shown.
    pub(super) fn certificate(&self, index: usize) -> Option<&PeerCertificate> {
        match self.layers.as_ref()?.sessions.get(index)? {
            Layer::Open(opened) => opened.certificate.as_ref(),
            _ => None,
        }
    }

    /// Whether a session's peer may have this id, by its certificate.
    pub(super) fn allows(&self, index: usize, id: &str) -> bool {
        self.layers.as_ref().is_none_or(|layers| layers.side.allows(self.certificate(index), id))
    }

    /// The slot has no session any more.
    pub(super) fn forget_layer(&mut self, index: usize) {
        if let Some(layers) = &mut self.layers {
            layers.sessions[index] = Layer::Off;
        }
    }

    /// For a session whose peer has closed the connection. Where its handshake is not done it never will be: no keys will
    /// come for what waits for them.
    pub(super) fn give_up_handshake(&mut self, index: usize) {
        if let Some(Layer::Shaking(_)) = self.layers.as_ref().map(|layers| &layers.sessions[index]) {
            self.shared.slots[index].send.seal(|sealed| sealed.fail(None));
        }
    }

    /// For a session whose peer has closed the connection: whether it has said so before, as TLS wants it.
    pub(super) fn is_cut_off(&self, index: usize) -> bool {
        let layer = self.layers.as_ref().map(|layers| &layers.sessions[index]);
        matches!(layer, Some(Layer::Open(opened)) if !opened.ended)
    }

    /// Whether more has come than was opened in this turn.
    pub(super) fn has_more(&self, index: usize) -> bool {
        let layer = self.layers.as_ref().map(|layers| &layers.sessions[index]);
        matches!(layer, Some(Layer::Open(opened)) if opened.more)
    }

    /// For a session that has nothing else to say: whether it says that it ends, and is to be asked again then.
    pub(super) fn says_goodbye(&mut self, index: usize) -> bool {
        let says = self.layers.is_some()
            && self.shared.slots[index].send.seal(|sealed| sealed.say_goodbye()) == Some(true);
        if says {
            self.shared.slots[index].send.mark();
        }
        says
    }
}

impl<D: Driver, H: Handler> Engine<D, H> {
    /// From now on its sessions speak TLS. It has none yet.
    pub(crate) fn secure(&mut self, side: Side) {
        self.core.layers = Some(Layers::new(side, self.buffers.len()));
    }

    /// For a simulation: keys are replaced after so many records, and not after millions.
    #[cfg(feature = "sim")]
    pub(crate) fn renew_keys_after(&mut self, records: u64) {
        if let Some(layers) = &mut self.core.layers {
            layers.key_life = Some(records);
        }
    }

    /// A connection has come about: its handshake begins.
    pub(super) fn begin_tls(&mut self, index: usize) {
        let Some(layers) = &mut self.core.layers else { return };
        may_allocate(|| self.buffers[index].begin_sealed(&self.region));
        let address = self.core.table.sessions[index].address;
        let begun = may_allocate(|| layers.side.begin(address).map(Box::new));
        let begun = begun.map(|handshake| layers.sessions[index] = Layer::Shaking(handshake));
        if let Err(fault) = begun.and_then(|()| self.unseal(index)) {
            self.fail_tls(index, fault);
        }
    }

    /// Where a session's next bytes go, under TLS or not. The driver has none of its room.
    pub(super) fn room(&mut self, index: usize, frame: usize) -> Option<Span> {
        let buffer = &mut self.buffers[index];
        let Some(layers) = &self.core.layers else { return buffer.lend(&self.region, frame) };
        let record = record_len(buffer.sealed(&self.region)).min(RECORD_MAX);
        let room = buffer.lend_sealed(&self.region, record);
        if room.is_none() && matches!(layers.sessions[index], Layer::Shaking(_)) {
            // A frame or a record has room, as `Config` sees to. A message of the handshake can be of many records, which
            // rustls wants to see in one row.
            self.fail_tls(index, TlsFault::HandshakeTooLong);
        }
        room
    }

    /// Goes on with the handshake, or opens what has come. Without TLS it costs a look.
    #[inline(always)]
    pub(super) fn unseal(&mut self, index: usize) -> Result<(), TlsFault> {
        if self.core.layers.is_some() { self.unseal_layer(index) } else { Ok(()) }
    }

    #[inline(never)]
    fn unseal_layer(&mut self, index: usize) -> Result<(), TlsFault> {
        if self.core.table.sessions[index].state == State::Closing {
            // Its keys are gone, and none come after them.
            return Ok(());
        }
        let Some(layers) = &mut self.core.layers else { return Ok(()) };
        match &mut layers.sessions[index] {
            Layer::Off => Ok(()),
            Layer::Shaking(_) => may_allocate(|| self.shake_hands_under_tls(index)),
            Layer::Open(_) => self.open_records(index),
            Layer::Over => {
                self.discard_sealed(index);
                Ok(())
            }
        }
    }

    fn discard_sealed(&mut self, index: usize) {
        let all = self.buffers[index].sealed(&self.region).len();
        self.buffers[index].discard(all);
    }

    fn shake_hands_under_tls(&mut self, index: usize) -> Result<(), TlsFault> {
        let Some(layers) = &mut self.core.layers else { return Ok(()) };
        #[cfg(feature = "sim")]
        let key_life = layers.key_life;
        let Layers { sessions, out, .. } = layers;
        let Layer::Shaking(handshake) = &mut sessions[index] else { return Ok(()) };
        out.clear();
        let step = handshake.advance(self.buffers[index].sealed(&self.region), out);
        let send = &self.core.shared.slots[index].send;
        if !out.is_empty() {
            send.seal(|sealed| sealed.say(out));
            self.core.shared.slots[index].send.mark();
        }
        let step = step?;
        self.buffers[index].discard(step.done_with);
        if !step.done {
            return Ok(());
        }
        let Layer::Shaking(handshake) = mem::replace(&mut sessions[index], Layer::Over) else {
            return Ok(());
        };
        #[cfg_attr(not(feature = "sim"), expect(unused_mut, reason = "a simulation's keys wear out"))]
        let mut established = handshake.finish()?;
        #[cfg(feature = "sim")]
        if let Some(records) = key_life {
            established.keys.wear_out_after(records);
        }
        send.seal(|sealed| sealed.open(established.keys));
        self.core.shared.slots[index].send.mark();
        let (inbound, certificate) = (established.inbound, established.certificate);
        let opened = Opened { inbound, certificate, ended: false, fault: None, more: false };
        sessions[index] = Layer::Open(Box::new(opened));
        self.open_records(index)
    }

    fn open_records(&mut self, index: usize) -> Result<(), TlsFault> {
        let Some(layers) = &mut self.core.layers else { return Ok(()) };
        let Layer::Open(opened) = &mut layers.sessions[index] else { return Ok(()) };
        let Opened { inbound, ended, fault, more, .. } = &mut **opened;
        let send = &self.core.shared.slots[index].send;
        let mut protocol = 0;
        *more = false;
        while !*ended && fault.is_none() {
            if protocol == PROTOCOL_PER_TURN {
                *more = true;
                send.mark();
                return Ok(());
            }
            let mut news = News::None;
            let opened = self.buffers[index].open(&self.region, |area, at| {
                let Some(piece) = inbound.open(area, at)? else { return Ok(None) };
                news = piece.news;
                if let News::Messages(bytes) = news {
                    may_allocate(|| inbound.keep(&area[..bytes]))?;
                }
                Ok(Some(Record { len: piece.record, plain: piece.plain }))
            });
            match opened {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(wrong) => {
                    *fault = Some(wrong);
                    break;
                }
            }
            match news {
                News::None => {}
                News::End => *ended = true,
                News::Messages(_) => {
                    protocol += 1;
                    let answer = |message| {
                        send.seal(|sealed| match (message, sealed.keys()) {
                            (Message::KeyUpdate { asked }, Some(keys)) => {
                                let opener = keys.next_opener()?;
                                if asked {
                                    sealed.renew();
                                }
                                Ok(Some(opener))
                            }
                            (Message::Ticket(ticket), Some(keys)) => keys.keep_ticket(&ticket).map(|()| None),
                            (_, None) => Ok(None),
                        })
                    };
                    *fault = may_allocate(|| {
                        loop {
                            let message = match inbound.next_message() {
                                Ok(Some(message)) => message,
                                Ok(None) => break None,
                                Err(wrong) => break Some(wrong),
                            };
                            match answer(message) {
                                Some(Ok(Some(opener))) => inbound.renew(opener),
                                Some(Err(wrong)) => break Some(wrong),
                                Some(Ok(None)) | None => {}
                            }
                        }
                    });
                    self.core.shared.slots[index].send.mark();
                }
            }
        }
        let (ended, fault) = (*ended, *fault);
        self.discard_sealed(index);
        self.core.table.sessions[index].ended |= ended;
        fault.map_or(Ok(()), Err)
    }

    /// TLS has found something wrong, and all before it has been handled: the peer is told by an alert, and the session
    /// ends.
    pub(super) fn fail_tls(&mut self, index: usize, fault: TlsFault) {
        if let Some(layers) = &mut self.core.layers {
            layers.sessions[index] = Layer::Over;
        }
        self.discard_sealed(index);
        let send = &self.core.shared.slots[index].send;
        let is_plain = fault == TlsFault::NotTls && matches!(self.core.role, Role::Server(_));
        let session = &mut self.core.table.sessions[index];
        session.muted = true;
        // Who is refused already hears that reason, and counts once.
        let (before, code) = (session.refusal, session.refusal.unwrap_or(RefusalCode::TlsRequired));
        if is_plain {
            session.refusal = Some(code);
        }
        send.seal(|sealed| {
            if is_plain {
                // In words that it understands, if it is a client of ours.
                may_allocate(|| sealed.say(RefusalFrame::new(code).frame()));
            }
            sealed.fail(alert_of(fault));
        });
        if is_plain && before.is_none() {
            self.count_refused(code);
        }
        self.conclude(Err(Failure::Ended(Reason::Tls(fault))));
        self.core.shared.slots[index].send.mark();
        // One that drains has no more time for it than it has left: whoever is to go can't stay by what he says.
        let before = self.core.table.sessions[index].deadline;
        let drains = self.core.table.sessions[index].state == State::Draining;
        if drains {
            // One whose connection is lost is read on, and may have no reason yet.
            self.core.table.sessions[index].reason.get_or_insert(Reason::Tls(fault));
            self.go_on(index);
        } else {
            self.end(index, Reason::Tls(fault));
        }
        if self.core.table.sessions[index].state == State::Draining {
            self.core.set_deadline(index, REFUSAL_TIMEOUT.min(self.core.limits.drain_timeout));
            let session = &mut self.core.table.sessions[index];
            session.deadline = if drains { session.deadline.min(before) } else { session.deadline };
        }
    }
}

/// The alert by which the peer is told (RFC 8446, section 6), once there are keys; before, rustls has told.
fn alert_of(fault: TlsFault) -> Option<u8> {
    match fault {
        TlsFault::BadRecord => Some(20),
        TlsFault::RecordTooLong => Some(22),
        TlsFault::Unexpected | TlsFault::EmptyRecords => Some(10),
        TlsFault::Misbehaved => Some(47),
        _ => None,
    }
}
