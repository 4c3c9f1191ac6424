//! The hint that a message is the last of its batch: whoever is told that more comes hears it next, and whoever is told
//! that nothing does hears nothing that had come by then.
#![forbid(unsafe_code)]

use super::{End, Ledger};

impl Ledger {
    /// A handler hears something: a message of this session, or anything else.
    pub(super) fn goes_on_with(&mut self, node: usize, message_of: Option<End>) {
        let amid = self.book(node).amid.take();
        self.check(amid.is_none() || amid == message_of, || {
            format!(
                "engine {node} was told that more comes of {amid:?}, and heard something of {message_of:?}"
            )
        });
    }

    /// A message has been heard, whose frame ends there on its way.
    pub(super) fn check_batch_end(&mut self, end: End, node: usize, frame_end: u64, batch_end: bool) {
        let had_come = self.session(end).batch_had.take().filter(|&had| frame_end <= had);
        self.check(had_come.is_none(), || {
            format!("{end:?} was told that nothing more had come, when {had_come:?} bytes had")
        });
        let (received, _) = self.net.received(end);
        // What has come while it was paused, its engine may not have been told of. And what one record of several brings
        // is a batch, however much the network has given.
        let unknown = self.session(end).was_held_back || self.under_tls;
        match batch_end {
            false => self.book(node).amid = Some(end),
            true if unknown => {}
            true => self.session(end).batch_had = Some(received),
        }
    }

    /// A handler wants to hear nothing more of what there is for a session.
    pub(super) fn breaks_off(&mut self, end: End) {
        let node = self.session(end).node;
        self.book(node).amid.take_if(|amid| *amid == end);
    }

    /// An engine's turn is over.
    pub(in crate::sim) fn check_turn(&mut self, node: usize) {
        let amid = self.book(node).amid.take();
        self.check(amid.is_none(), || format!("{amid:?} was told that more comes, and heard nothing"));
    }
}
