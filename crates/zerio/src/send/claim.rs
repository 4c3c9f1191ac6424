//! Send path, 1 of 3: **claim** → ring → pump → driver. A message's place in the ring, filled in place.
#![forbid(unsafe_code)]

use std::fmt;
use std::ops::{Deref, DerefMut};

use super::SendPath;
use crate::error::SendError;
use crate::region::Span;
use crate::wire::{self, HEADER};

/// An exclusive piece of a send ring: fill it like any `&mut [u8]`, then [`commit`](Claim::commit) it.
/// Dropping it instead sends nothing.
///
/// Its bytes are whatever stood in the ring before. While you hold it, other threads that send on the
/// same session wait: fill it and let it go.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let client = zerio::Client::connect("127.0.0.1:7000", "me")?.start()?;
/// let mut claim = client.claim(8)?;
/// claim.copy_from_slice(&42u64.to_le_bytes());
/// claim.commit()?;
/// # Ok(()) }
/// ```
#[must_use = "a claim that is dropped sends nothing"]
pub struct Claim<'a> {
    path: &'a SendPath,
    /// The frame, header included.
    frame: Span,
    /// Where the committed bytes end, and where this frame starts.
    committed: u64,
    start: u64,
    /// Nobody else can send on this ring: it is not held, and `&mut` keeps this claim alone.
    sole: bool,
    open: bool,
}

impl<'a> Claim<'a> {
    #[inline]
    pub(super) fn new(path: &'a SendPath, committed: u64, start: u64, len: usize, sole: bool) -> Claim<'a> {
        let frame = path.ring.frame(start, HEADER + len);
        Claim { path, frame, committed, start, sole, open: true }
    }

    /// Sends the message: it is accepted, whole, in its place among the sender's other messages.
    ///
    /// # Errors
    ///
    /// [`SendError::Closed`] where the session ended since the claim was made. Nothing was sent.
    #[inline]
    pub fn commit(mut self) -> Result<(), SendError> {
        self.open = false;
        let len = self.frame.len();
        let header = wire::header((len - HEADER) as u32);
        self.path.ring.bytes_mut(&mut self.frame)[..HEADER].copy_from_slice(&header);
        if self.sole {
            self.path.commit_sole(self.committed, self.start, len);
            return Ok(());
        }
        self.path.commit_claim(self.committed, self.start, len)
    }
}

impl Deref for Claim<'_> {
    type Target = [u8];
    #[inline]
    fn deref(&self) -> &[u8] {
        &self.path.ring.bytes(&self.frame)[HEADER..]
    }
}

impl DerefMut for Claim<'_> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.path.ring.bytes_mut(&mut self.frame)[HEADER..]
    }
}

impl Drop for Claim<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.open && !self.sole {
            self.path.drop_claim();
        }
    }
}

impl fmt::Debug for Claim<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claim").field("len", &self.len()).finish_non_exhaustive()
    }
}
