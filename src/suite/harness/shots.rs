//! Which documents become examples: Python's `random.Random(seed).sample`, number for number.

use rand_mt::Mt;
use std::collections::HashSet;

/// The harness's `fewshot_seed`.
pub(super) const SEED: u32 = 1234;

/// Python's generator, seeded with a small integer.
pub(super) struct PythonRandom(Mt);

impl PythonRandom {
    pub fn new(seed: u32) -> Self {
        Self(Mt::new_with_key([seed]))
    }

    /// `_randbelow`: bits are drawn until they make a number below `n`.
    fn below(&mut self, n: usize) -> usize {
        let n = n as u32;
        let bits = u32::BITS - n.leading_zeros();
        loop {
            // No bits at all make zero.
            let drawn = match bits {
                0 => return 0,
                bits => self.0.next_u32() >> (u32::BITS - bits),
            };
            if drawn < n {
                return drawn as usize;
            }
        }
    }

    /// `sample(range(n), k)`; fewer where there are fewer.
    pub fn sample(&mut self, n: usize, k: usize) -> Vec<usize> {
        let k = k.min(n);
        // CPython: a list for small populations, a set of what was drawn for large ones.
        let set_size = match k {
            0..=5 => 21,
            k => 21 + 4usize.pow((f64::from(3 * k as u32).ln() / 4f64.ln()).ceil() as u32),
        };
        if n <= set_size {
            let mut pool: Vec<usize> = (0..n).collect();
            return (0..k)
                .map(|i| {
                    let j = self.below(n - i);
                    let drawn = pool[j];
                    pool[j] = pool[n - i - 1];
                    drawn
                })
                .collect();
        }
        let mut drawn = HashSet::new();
        (0..k)
            .map(|_| {
                let mut j = self.below(n);
                while !drawn.insert(j) {
                    j = self.below(n);
                }
                j
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expectations from CPython 3.11.
    #[test]
    fn samples_are_pythons() {
        let mut random = PythonRandom::new(1234);
        assert_eq!(random.sample(64, 5), [56, 14, 0, 11, 4]);
        assert_eq!(random.sample(10, 6), [1, 9, 5, 8, 0, 7]);
        assert_eq!(random.sample(7473, 6), [6461, 129, 2835, 5311, 5105, 3966]);
        assert_eq!(random.sample(3, 8).len(), 3);
    }
}
