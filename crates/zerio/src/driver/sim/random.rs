//! Numbers from a seed (SplitMix64): the same seed gives the same numbers on every machine, for ever.
#![forbid(unsafe_code)]

/// A row of numbers that look random and are given by their seed.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Another row, given by this one.
    pub(crate) fn fork(&mut self) -> Random {
        Random(self.next())
    }

    /// A number below `bound`, which is not 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        // The high half of a product: no division, and a bias that nobody will ever see.
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    /// A number from `least` to `most`.
    pub(crate) fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.below(most - least + 1)
    }

    /// A number from `least`, which is not 0, to `most`, each size as likely as any other: 1 to 10 as often as
    /// 100 to 1,000.
    pub(crate) fn of_any_size(&mut self, least: u64, most: u64) -> u64 {
        let bits = |n: u64| u64::from(64 - n.leading_zeros());
        let bit = self.between(bits(least), bits(most));
        let (from, to) = (1 << (bit - 1), u64::MAX >> (64 - bit));
        self.between(least.max(from), most.min(to))
    }

    /// True so many times in a thousand.
    pub(crate) fn happens(&mut self, in_a_thousand: u32) -> bool {
        in_a_thousand > 0 && self.below(1000) < u64::from(in_a_thousand)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_given_by_their_seed_and_stay_in_their_bounds() {
        let (mut a, mut b) = (Random::new(7), Random::new(7));
        for _ in 0..10_000 {
            assert_eq!(a.next(), b.next());
            let (n, m) = (a.between(3, 9), a.of_any_size(5, 70_000));
            assert!((3..=9).contains(&n) && (5..=70_000).contains(&m), "{n} {m}");
            assert_eq!((b.between(3, 9), b.of_any_size(5, 70_000)), (n, m));
        }
        let small = (0..1000).filter(|_| a.of_any_size(1, 1 << 20) < 1 << 10).count();
        assert!((350..650).contains(&small), "{small} of 1000 are of the smaller sizes");
    }
}
