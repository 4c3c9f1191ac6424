//! What an engine should say of itself: its counters are held against what happened.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use super::{Ledger, Phase};
use crate::counters::Counters;
use crate::driver::sim::End;
use crate::error::{RefusalCode, Undelivered};

/// What one engine should say of itself.
#[derive(Clone, Debug, Default)]
pub(in crate::sim) struct Book {
    /// A client's connection.
    pub(in crate::sim) connection: Option<u32>,
    /// Of which server it is an engine.
    pub(in crate::sim) server: usize,
    pub(in crate::sim) stopped: bool,
    pub(super) stopped_at: Option<u64>,
    /// Its handler has panicked, and hears nothing any more.
    pub(super) silent: bool,
    pub(super) connected: u64,
    pub(super) disconnected: u64,
    pub(super) refused: u64,
    pub(super) failed_handshakes: u64,
    pub(super) bad_frames: u64,
    /// Sessions that may have come to a bad frame, and ended for another reason or untold.
    pub(super) bad_frames_unseen: u64,
    pub(super) heard: u64,
    /// Its handler was told that more comes of this session in this turn.
    pub(super) amid: Option<End>,
    /// The bytes of their frames.
    pub(super) heard_bytes: u64,
    pub(super) accepted: u64,
    pub(super) undelivered: Undelivered,
    /// Connections that its log was told of, and when it last was of each kind.
    pub(super) told: u64,
    pub(super) told_last: BTreeMap<u8, u64>,
    pub(super) refused_as: BTreeMap<u8, u64>,
    /// What only a driver that fails makes right: more was told to be left than was, because what it had in flight
    /// counts as not taken; or a session that drained did not do so to its end.
    pub(super) unless_failed: Option<String>,
    /// It was told that its driver has failed.
    pub(super) failure_told: bool,
}

impl Ledger {
    pub(in crate::sim) fn book(&mut self, node: usize) -> &mut Book {
        if self.books.len() <= node {
            self.books.resize_with(node + 1, Book::default);
        }
        &mut self.books[node]
    }

    /// The sessions that have ended without their handler, which could not tell what they left.
    fn end_silenced(&mut self, node: usize) {
        for connection in 0..self.sessions.len() as u32 {
            for side in [0, 1] {
                let end = End { connection, side };
                let session = self.session(end);
                if session.node == node && session.phase == Phase::Silenced {
                    session.phase = Phase::Ended;
                    let left = self.left(end);
                    self.figures.undelivered += left.messages;
                    let book = self.book(node);
                    book.disconnected += 1;
                    book.undelivered.messages += left.messages;
                    book.undelivered.bytes += left.bytes;
                }
            }
        }
    }

    /// An engine has ended: its counters say what happened.
    pub(in crate::sim) fn close_book(
        &mut self,
        node: usize,
        counters: &Counters,
        server: bool,
        failed: bool,
    ) {
        let (engine, sessions) = (counters.engine, counters.sessions);
        self.end_silenced(node);
        let book = self.book(node).clone();
        if let (Some(what), false) = (book.unless_failed, failed) {
            self.fail(what);
        }
        self.check(failed || !book.failure_told, || {
            format!("engine {node} told of a driver that has not failed")
        });
        // A driver has the number of its engine.
        let (sent, errors) = (self.net.bytes_sent_by(node), self.net.accept_errors_of(node));
        let exactly = |n: u64| n..=n;
        // What a handler that panicked has not heard.
        let unheard = |n: u64| n..=if book.silent { u64::MAX } else { n };
        // What a driver that failed has not told.
        let untold = |n: u64| if failed { 0..=n } else { n..=n };
        // What it had taken and has not told counts as left. With its handler nobody heard what that was.
        let left = |n: u64| n..=if book.silent && failed { u64::MAX } else { n };
        let bad_frames = book.bad_frames..=book.bad_frames + book.bad_frames_unseen;
        let refused_as = |code: RefusalCode| unheard(book.refused_as.get(&code.to_byte()).map_or(0, |n| *n));
        let of_server = |range: RangeInclusive<u64>| if server { range } else { 0..=1 };
        for (what, counted, happened) in [
            ("connected", engine.connected, exactly(book.connected)),
            ("disconnected", engine.disconnected, exactly(book.disconnected)),
            ("messages_accepted", sessions.sent.messages_accepted, exactly(book.accepted)),
            ("bytes_sent", sessions.sent.bytes_sent, untold(sent)),
            ("messages_received", sessions.received.messages_received, exactly(book.heard)),
            ("bytes_received", sessions.received.bytes_received, exactly(book.heard_bytes)),
            ("messages_undelivered", engine.messages_undelivered, left(book.undelivered.messages)),
            ("bytes_undelivered", engine.bytes_undelivered, left(book.undelivered.bytes)),
            ("refused", engine.refused, unheard(book.refused)),
            ("refused_by_admission", engine.refused_by_admission, refused_as(RefusalCode::NotAllowed)),
            ("refused_per_address", engine.refused_per_address, refused_as(RefusalCode::TooManyFromAddress)),
            ("refused_per_second", engine.refused_per_second, refused_as(RefusalCode::TooManyPerSecond)),
            ("failed_handshakes", engine.failed_handshakes, of_server(unheard(book.failed_handshakes))),
            ("bad_frames", engine.bad_frames, bad_frames),
            ("accept_errors", engine.accept_errors, untold(errors)),
        ] {
            self.check(happened.contains(&counted), || {
                let (least, most) = happened.clone().into_inner();
                let range = if least == most { least.to_string() } else { format!("{least} to {most}") };
                format!("engine {node} counts {what} {counted}, it was {range}")
            });
        }
        let rejected = book.refused + book.failed_handshakes;
        self.check(book.silent || !server || book.told == rejected, || {
            format!("engine {node}'s log was told of {} of {rejected} connections", book.told)
        });
        self.check(book.connected == book.disconnected, || {
            format!("engine {node}: {} sessions began and {} ended", book.connected, book.disconnected)
        });
    }
}
