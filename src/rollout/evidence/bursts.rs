//! The seconds that said most, so that an alarm of slowness can be asked what it is without them.
//!
//! A process that stalls for a moment makes everybody slow who asks it then. Evidence takes learners of a second to be slow
//! independently of each other, and they are one event, in the second it fell in or in two. A canary that is slow shows
//! it in further seconds as well.

/// The steps of ln E that were largest, since it last stood at 0 or below; in nats.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Bursts(pub [f64; 2]);

impl Bursts {
    /// Takes note of a block: ln E before it and after it.
    pub fn note(&mut self, before: f64, after: f64) {
        if after <= 0.0 {
            *self = Self::default();
            return;
        }
        let step = after - before;
        let [first, second] = self.0;
        self.0 = if step > first {
            [step, first]
        } else {
            [first, second.max(step)]
        };
    }

    /// What is left of an ln E without them.
    pub fn ln_without(self, ln_e: f64) -> f64 {
        ln_e - self.0.iter().sum::<f64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_largest_steps_are_taken_off_until_nothing_is_said() {
        let mut bursts = Bursts::default();
        let steps = [0.0, 1.0, 1.5, 9.5, 9.0, 14.0];
        for pair in steps.windows(2) {
            bursts.note(pair[0], pair[1]);
        }
        assert_eq!(bursts.0, [8.0, 5.0]);
        assert_eq!(bursts.ln_without(14.0), 1.0);
        bursts.note(14.0, -0.5);
        assert_eq!(bursts, Bursts::default());
    }
}
