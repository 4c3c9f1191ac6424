//! Times in a histogram of fixed size, with a relative error of less than a hundredth: recording allocates nothing
//! and takes some ns.
//!
//! Below 256 ns each value has a bucket; above, each power of two has 128 of the same width, as High Dynamic Range
//! histograms have them. What is longer than two minutes counts as two minutes.
#![forbid(unsafe_code)]

use std::ops::Range;
use std::sync::Arc;

use super::map::Map;
use crate::cursor::Word;

/// Buckets for each power of two, as a power of two.
pub(crate) const PRECISION: u32 = 7;

/// Values that need so many bits are in the last bucket that there is.
const BITS: u32 = 37;

/// How many buckets there are.
pub(crate) const BUCKETS: usize = ((BITS - PRECISION + 1) << PRECISION) as usize;

/// Words before the buckets: the sum, the largest value, and six that say nothing yet.
pub(crate) const HEAD: usize = 8;

/// Words of a whole one, whole lines.
pub(crate) const WORDS: usize = (HEAD + BUCKETS).next_multiple_of(16);

/// The bucket of a value.
#[inline]
fn bucket(value: u64) -> usize {
    let value = value.min((1 << BITS) - 1);
    let shift = (u64::BITS - (value >> (PRECISION + 1)).leading_zeros()) as u64;
    ((shift << PRECISION) + (value >> shift)) as usize
}

/// The values that a bucket has.
fn values(bucket: usize) -> Range<u64> {
    let shift = (bucket >> PRECISION).saturating_sub(1);
    let first = (bucket - (shift << PRECISION)) as u64;
    first << shift..(first + 1) << shift
}

/// One in a counters file, to record in.
#[derive(Clone, Debug)]
pub(crate) struct Recorder {
    map: Arc<Map>,
    start: usize,
}

impl Recorder {
    pub(crate) fn new(map: Arc<Map>, start: usize) -> Recorder {
        Recorder { map, start }
    }

    /// Records a value, where one thread alone does.
    #[inline]
    pub(crate) fn record(&self, value: u64) {
        let words = self.words();
        words[HEAD + bucket(value)].add(1);
        words[0].add(value);
        if value > words[1].get() {
            words[1].set(value);
        }
    }

    /// Records a value, where several threads may.
    pub(crate) fn record_shared(&self, value: u64) {
        let words = self.words();
        words[HEAD + bucket(value)].add_shared(1);
        words[0].add_shared(value);
        words[1].raise_shared(value);
    }

    #[inline]
    fn words(&self) -> &[Word] {
        &self.map.words()[self.start..self.start + WORDS]
    }
}

/// Times as they were recorded until some moment: a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram {
    count: u64,
    sum: u64,
    max: u64,
    buckets: Box<[u64]>,
}

impl Histogram {
    /// The words of one in a file, as they are just now.
    pub(crate) fn copy(words: &[Word]) -> Histogram {
        let buckets: Box<[u64]> = words[HEAD..HEAD + BUCKETS].iter().map(Word::get).collect();
        Histogram { count: total(&buckets), sum: words[0].get(), max: words[1].get(), buckets }
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The longest, in nanoseconds.
    pub fn max(&self) -> u64 {
        self.max
    }

    /// All of them together, in nanoseconds.
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// The mean, in nanoseconds; 0 where there are none.
    pub fn mean(&self) -> u64 {
        self.sum.checked_div(self.count).unwrap_or(0)
    }

    /// The time that this part of them, 0 to 1, did not exceed, in nanoseconds, to a hundredth; 0 where there are
    /// none.
    pub fn quantile(&self, part: f64) -> u64 {
        let rank = ((self.count as f64 * part).ceil() as u64).clamp(1, self.count.max(1));
        let mut seen = 0;
        for (index, count) in self.buckets.iter().enumerate() {
            seen = count.saturating_add(seen);
            if seen >= rank {
                return (values(index).end - 1).min(self.max);
            }
        }
        0
    }

    /// How many were shorter than that, in nanoseconds: all of them where it is a power of two, otherwise up to a
    /// hundredth less than that.
    pub fn shorter_than(&self, nanos: u64) -> u64 {
        let whole = (0..BUCKETS).take_while(|&index| values(index).end <= nanos).count();
        total(&self.buckets[..whole])
    }

    /// How many were shorter than each power of two from a microsecond to half a minute, in nanoseconds, of which each has
    /// those of the ones before it too: as Prometheus has them.
    pub fn cumulative(&self) -> impl Iterator<Item = (u64, u64)> {
        (10..=35).map(|power| 1 << power).map(|nanos| (nanos, self.shorter_than(nanos)))
    }

    /// What has been recorded since an earlier copy of the same one. Its longest is known to a hundredth.
    pub fn since(&self, earlier: &Histogram) -> Histogram {
        let pairs = self.buckets.iter().zip(&earlier.buckets);
        let buckets: Box<[u64]> = pairs.map(|(now, then)| now.saturating_sub(*then)).collect();
        let last = buckets.iter().rposition(|&count| count > 0);
        let max = last.map_or(0, |last| (values(last).end - 1).min(self.max));
        let sum = self.sum.wrapping_sub(earlier.sum);
        Histogram { count: total(&buckets), sum, max, buckets }
    }

    /// Adds those of another one.
    pub(crate) fn add(&mut self, other: &Histogram) {
        self.buckets
            .iter_mut()
            .zip(&other.buckets)
            .for_each(|(own, other)| *own = own.saturating_add(*other));
        self.count = self.count.saturating_add(other.count);
        self.sum = self.sum.wrapping_add(other.sum);
        self.max = self.max.max(other.max);
    }
}

/// A file that is damaged may have any numbers in it.
fn total(buckets: &[u64]) -> u64 {
    buckets.iter().fold(0, |total, count| total.saturating_add(*count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_in_its_bucket_and_the_buckets_touch() {
        let mut next = 0;
        for index in 0..BUCKETS {
            let values = values(index);
            assert_eq!(values.start, next, "bucket {index}");
            assert_eq!((bucket(values.start), bucket(values.end - 1)), (index, index));
            let width = values.end - values.start;
            assert!(width == 1 || width * 128 <= values.start, "bucket {index}: {values:?}");
            next = values.end;
        }
        assert_eq!(next, 1 << BITS);
        assert_eq!((bucket(next), bucket(u64::MAX)), (BUCKETS - 1, BUCKETS - 1));
    }

    #[cfg(not(loom))]
    #[test]
    fn quantiles_are_within_a_hundredth() {
        let words: Vec<Word> = (0..WORDS).map(|_| Word::default()).collect();
        for value in 1..=10_000 {
            words[HEAD + bucket(value * 100)].add(1);
            words[0].add(value * 100);
        }
        words[1].set(1_000_000);
        let all = Histogram::copy(&words);
        assert_eq!((all.count(), all.max(), all.mean()), (10_000, 1_000_000, 500_050));
        for (part, exact) in [(0.5, 500_000.0), (0.99, 990_000.0), (1.0, 1_000_000.0), (0.0, 100.0)] {
            let found = all.quantile(part) as f64;
            assert!((found - exact).abs() <= exact / 100.0, "{part}: {found}, and not {exact}");
        }
        let shorter = [100, 128, 131_072, 1_000_000, 1 << 20, u64::MAX].map(|time| all.shorter_than(time));
        assert_eq!(shorter, [0, 1, 1310, 9994, 10_000, 10_000]);
        let powers: Vec<_> = all.cumulative().collect();
        assert_eq!((powers[0], powers[6], powers[25]), ((1 << 10, 10), (1 << 16, 655), (1 << 35, 10_000)));
        assert!(powers.len() == 26 && powers.is_sorted_by_key(|(_, count)| count), "{powers:?}");
        words[HEAD + bucket(300)].add(5);
        words[0].add(1500);
        let news = Histogram::copy(&words).since(&all);
        assert_eq!((news.count(), news.sum(), news.mean()), (5, 1500, 300));
        assert!((300..303).contains(&news.max()), "{}", news.max());
        let none = all.since(&all);
        assert_eq!((none.count(), none.max(), none.mean(), none.quantile(0.5)), (0, 0, 0, 0));
    }

    #[cfg(not(loom))]
    #[test]
    fn counts_of_a_damaged_file_that_are_too_large_to_be_added_panicked_the_reader() {
        let words: Vec<Word> = (0..WORDS).map(|_| Word::default()).collect();
        words.iter().for_each(|word| word.set(u64::MAX));
        let mut all = Histogram::copy(&words);
        all.add(&Histogram::copy(&words));
        assert_eq!((all.count(), all.shorter_than(u64::MAX)), (u64::MAX, u64::MAX));
        assert!(all.quantile(0.5) <= all.quantile(1.0));
    }
}
