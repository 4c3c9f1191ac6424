//! Peers of a storm that know nothing of zerio, or mean no good: they write garbage, never read, stop in the middle
//! of a frame, close half, reset.
#![forbid(unsafe_code)]

use std::net::SocketAddr;

#[cfg(feature = "tls")]
use super::script::Last;
use super::script::Script;
use crate::driver::sim::{End, Far, Net, Random};
#[cfg(feature = "tls")]
use crate::tls::TlsClient;

#[cfg(feature = "tls")]
mod sealed;
#[cfg(feature = "tls")]
use sealed::Sealed;

/// What one does next, in its order.
pub(super) struct Raw {
    far: Option<Far>,
    /// What it still has to write.
    unsaid: Vec<u8>,
    /// It never reads, but what a handshake needs.
    deaf: bool,
    /// What it says under TLS.
    #[cfg(feature = "tls")]
    sealed: Option<Sealed>,
}

impl Raw {
    /// Begins to connect, with something to say.
    pub(super) fn begin(net: &Net, address: SocketAddr, script: &Script, random: &mut Random) -> Raw {
        let deaf = random.happens(300);
        Raw {
            far: Some(Far::begin(net, address)),
            unsaid: script.bytes().to_vec(),
            deaf,
            #[cfg(feature = "tls")]
            sealed: None,
        }
    }

    /// What it has to say, it says under TLS.
    #[cfg(feature = "tls")]
    pub(super) fn seal(&mut self, tls: &TlsClient, address: SocketAddr, last: Last) {
        self.sealed = Some(Sealed::begin(tls, address, &std::mem::take(&mut self.unsaid), last));
    }

    pub(super) fn end(&self) -> Option<End> {
        self.far.as_ref().map(Far::end)
    }

    /// Does one thing. False when it has gone.
    pub(super) fn act(&mut self, random: &mut Random) -> bool {
        let Some(far) = &self.far else { return false };
        if !far.is_connected() {
            return !random.happens(50) || self.leave(random);
        }
        let mut bytes = [0; 512];
        let waits = self.waits();
        if !self.deaf || waits {
            while let Ok(read @ 1..) = far.try_read(&mut bytes) {
                #[cfg(not(feature = "tls"))]
                let _ = read;
                #[cfg(feature = "tls")]
                if let Some(sealed) = &mut self.sealed {
                    sealed.hear(&bytes[..read]);
                }
            }
        }
        #[cfg(feature = "tls")]
        if let Some(sealed) = &mut self.sealed {
            sealed.go_on(&mut self.unsaid, random);
        }
        if !self.unsaid.is_empty() {
            let most = random.of_any_size(1, self.unsaid.len() as u64) as usize;
            match far.try_write(&self.unsaid[..most]) {
                Ok(taken) => drop(self.unsaid.drain(..taken)),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(_) => return self.leave(random),
            }
            return true;
        }
        // Who never reads stays until somebody has had enough of him.
        !random.happens(if waits || self.deaf { 30 } else { 200 }) || self.leave(random)
    }

    /// Whether it waits for a handshake's rest before it says what it has to.
    fn waits(&self) -> bool {
        #[cfg(feature = "tls")]
        let waits = self.sealed.as_ref().is_some_and(Sealed::waits);
        #[cfg(not(feature = "tls"))]
        let waits = false;
        waits
    }

    fn leave(&mut self, random: &mut Random) -> bool {
        let Some(far) = self.far.take() else { return false };
        match random.below(3) {
            0 => far.reset(),
            1 => {
                // Half of it, and the other half when somebody does the next thing.
                far.shut_down();
                self.unsaid.clear();
                (self.far, self.deaf) = (Some(far), false);
                return !random.happens(500) || self.close();
            }
            _ => drop(far),
        }
        false
    }

    /// Goes without another word; never true.
    pub(super) fn close(&mut self) -> bool {
        self.far = None;
        false
    }
}
