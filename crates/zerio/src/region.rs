//! Memory, for both paths: the block that holds every ring and every buffer, mapped once at start.
//!
//! A [`Span`] is the right to touch some bytes of the region. Spans are made by splitting the one
//! span that a new region comes with, and are neither `Copy` nor `Clone`: two of them never cover the
//! same byte, so whoever holds one may read and write without asking. The one exception is
//! [`Region::alias`], which a send ring uses to share its bytes with its senders, by its own rules.
#![allow(unsafe_code)]

use std::io;
use std::num::NonZeroU32;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use memmap2::{MmapMut, MmapRaw};

use crate::cursor;

mod shadow;

use shadow::Shadow;

/// The memory of one engine. Pages are touched when they are used, not before.
pub(crate) struct Region {
    tag: NonZeroU32,
    map: MmapRaw,
    shadow: Shadow,
}

/// A huge page of x86-64, and of most others. Where they are larger the system takes what fits.
#[cfg(target_os = "linux")]
const HUGE: usize = 2 * 1024 * 1024;

/// An offset and a length in a region: whoever holds it owns those bytes.
#[derive(Debug)]
pub(crate) struct Span {
    offset: usize,
    len: u32,
    /// The region it was cut from: a span used with another region is a bug that must not reach memory. Never zero, so
    /// that no span is no larger than a span.
    tag: NonZeroU32,
}

impl Region {
    /// Maps `len` bytes, and gives what cuts them into spans.
    pub(crate) fn new(len: usize) -> io::Result<(Arc<Region>, Cutter)> {
        static TAGS: AtomicU32 = AtomicU32::new(1);
        let map = MmapRaw::from(MmapMut::map_anon(len.max(1))?);
        let tag = cursor::next_tag(&TAGS);
        let region = Arc::new(Region { tag, map, shadow: Shadow::new() });
        Ok((region, Cutter { tag, next: 0, len }))
    }

    /// The same, of huge pages if the system gives any. Spans are cut from where such a page begins, and the last one
    /// is mapped whole: the system gives none that only a part of would be ours.
    #[cfg(target_os = "linux")]
    pub(crate) fn huge(len: usize) -> io::Result<(Arc<Region>, Cutter)> {
        let whole = len.next_multiple_of(HUGE);
        let (region, mut cutter) = Region::new(whole + HUGE)?;
        let start = (region.map.as_mut_ptr() as usize).wrapping_neg() % HUGE;
        region.map.advise_range(memmap2::Advice::HugePage, start, whole)?;
        (cutter.next, cutter.len) = (start, start + len);
        Ok((region, cutter))
    }

    #[cfg(not(target_os = "linux"))]
    pub(crate) fn huge(_: usize) -> io::Result<(Arc<Region>, Cutter)> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// The bytes of a span.
    #[inline]
    pub(crate) fn bytes<'a>(&'a self, span: &'a Span) -> &'a [u8] {
        let start = self.start_of(span);
        self.shadow.read(span.range());
        // SAFETY: `start_of` checked that the span was cut from this region, so its bytes lie inside the
        // mapping, which lives as long as `self`. The span is borrowed for the result's life and no
        // other span covers its bytes, so nobody writes to them meanwhile.
        unsafe { std::slice::from_raw_parts(start, span.len as usize) }
    }

    /// The bytes of a span, to write.
    #[inline]
    pub(crate) fn bytes_mut<'a>(&'a self, span: &'a mut Span) -> &'a mut [u8] {
        let start = self.start_of(span);
        self.shadow.write(span.range());
        // SAFETY: as in `bytes`; the span is borrowed mutably, so this is the only way to its bytes.
        unsafe { std::slice::from_raw_parts_mut(start, span.len as usize) }
    }

    /// Where a span starts: for a driver that hands it to the kernel. The pointer is good as long as
    /// the region lives; who holds the span decides who may follow it.
    #[inline]
    pub(crate) fn start_of(&self, span: &Span) -> *mut u8 {
        assert_eq!(self.tag, span.tag, "a span of another region");
        self.map.as_mut_ptr().wrapping_add(span.offset)
    }

    /// Bytes of a span are written by way of its start, which no model sees.
    #[inline(always)]
    pub(crate) fn note_written(&self, whole: &Span, at: usize, len: usize) {
        self.shadow.write(whole.offset + at..whole.offset + at + len);
    }

    /// Where the whole of it starts, and how long it is: for a driver that registers it with the kernel.
    #[cfg(any(test, windows, feature = "rio-model"))]
    pub(crate) fn extent(&self) -> (*mut u8, usize) {
        (self.map.as_mut_ptr(), self.map.len())
    }

    /// Where a span starts, to keep.
    pub(crate) fn fixed_start_of(&self, span: &Span) -> Start {
        Start(self.start_of(span))
    }

    /// A second span over a part of `whole`, `at..at + len`.
    ///
    /// # Safety
    ///
    /// While the result lives, nobody writes those bytes through another span, and nobody reads them
    /// through another span if the holder of the result writes.
    #[inline]
    pub(crate) unsafe fn alias(whole: &Span, at: usize, len: usize) -> Span {
        assert!(at + len <= whole.len as usize, "an alias outside of its span");
        Span { offset: whole.offset + at, len: len as u32, tag: whole.tag }
    }
}

/// Where a span starts, looked up once: for a ring, whose senders would otherwise look it up for each
/// message. Following it is as free, and as dangerous, as following any pointer.
#[derive(Debug)]
pub(crate) struct Start(*mut u8);

// SAFETY: it is an address. Whoever follows it says why that may be done, from which thread ever.
unsafe impl Send for Start {}
// SAFETY: as above.
unsafe impl Sync for Start {}

impl Start {
    #[inline]
    pub(crate) fn at(&self, offset: usize) -> *mut u8 {
        self.0.wrapping_add(offset)
    }
}

/// Cuts a new region into spans, from its start to its end.
pub(crate) struct Cutter {
    tag: NonZeroU32,
    next: usize,
    len: usize,
}

impl Cutter {
    /// The next `len` bytes. The caller has summed up what it needs before: more than that is a bug.
    pub(crate) fn cut(&mut self, len: usize) -> Span {
        assert!(len <= self.len - self.next, "the region's sum is wrong");
        let span = Span {
            offset: self.next,
            len: u32::try_from(len).expect("validated: no ring or buffer is over 1 GiB"),
            tag: self.tag,
        };
        self.next += len;
        span
    }
}

impl Span {
    /// Its length in bytes.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether it covers no byte.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn range(&self) -> Range<usize> {
        self.offset..self.offset + self.len as usize
    }

    /// Keeps `..at` and gives `at..` away.
    #[inline]
    pub(crate) fn split_off(&mut self, at: usize) -> Span {
        assert!(at <= self.len as usize, "a split outside of the span");
        let rest = Span { offset: self.offset + at, len: self.len - at as u32, tag: self.tag };
        self.len = at as u32;
        rest
    }

    /// Takes `next`, which must begin where this one ends.
    #[inline]
    pub(crate) fn join(&mut self, next: Span) {
        let end = self.offset + self.len as usize;
        assert!(next.offset == end && next.tag == self.tag, "spans that do not touch");
        self.len += next.len;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_cut_split_and_joined_without_overlap() {
        let (region, mut cutter) = Region::new(64).unwrap();
        let mut a = cutter.cut(40);
        let mut b = cutter.cut(24);
        let mut tail = a.split_off(10);
        region.bytes_mut(&mut a).fill(1);
        region.bytes_mut(&mut tail).fill(2);
        region.bytes_mut(&mut b).fill(3);
        a.join(tail);
        assert_eq!(region.bytes(&a)[..10], [1; 10]);
        assert_eq!(region.bytes(&a)[10..], [2; 30]);
        assert_eq!(region.bytes(&b), [3; 24]);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn huge_pages_begin_where_spans_do_and_end_behind_them() {
        for len in [1, HUGE - 1, HUGE, HUGE + 1] {
            let (region, mut cutter) = Region::huge(len).unwrap();
            let mut span = cutter.cut(len);
            let (start, (mapped, size)) = (region.start_of(&span) as usize, region.extent());
            assert_eq!(start % HUGE, 0);
            assert!(start + len.next_multiple_of(HUGE) <= mapped as usize + size, "{len}");
            region.bytes_mut(&mut span).fill(1);
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    #[should_panic(expected = "sum is wrong")]
    fn no_more_is_cut_of_huge_pages_than_was_asked_for() {
        let (_region, mut cutter) = Region::huge(64).unwrap();
        cutter.cut(65);
    }

    #[test]
    #[should_panic(expected = "do not touch")]
    fn only_neighbours_join() {
        let (_region, mut cutter) = Region::new(64).unwrap();
        let mut a = cutter.cut(8);
        let _gap = cutter.cut(8);
        a.join(cutter.cut(8));
    }

    #[test]
    #[should_panic(expected = "another region")]
    fn a_span_opens_its_own_region_only() {
        let (_one, mut cutter) = Region::new(64).unwrap();
        let (two, _) = Region::new(64).unwrap();
        two.bytes(&cutter.cut(8));
    }

    #[test]
    #[should_panic(expected = "sum is wrong")]
    fn no_more_is_cut_than_there_is() {
        let (_region, mut cutter) = Region::new(64).unwrap();
        cutter.cut(64);
        cutter.cut(1);
    }
}
