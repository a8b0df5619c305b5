//! The faults of a rehearsal: what is done to a share of canary's requests, on purpose.
//!
//! Owns what may be injected and how it is said. Who does it is the data path, who asks for it the gate.

use std::fmt;
use std::time::Duration;

use super::time::format_duration;
use super::weight::Weight;

/// What is done to a request that is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The answer's head comes so much later.
    Latency(Duration),
    /// The answer says 500 whatever it said.
    Error,
    /// The answer is thrown away as if the connection had been reset.
    Reset,
}

/// A fault, and the share of canary-bound requests that meet it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Injection {
    pub fault: Fault,
    /// Above 0.
    pub share: Weight,
}

impl Injection {
    /// The fault for a request, by a number drawn evenly from all of `u64`.
    pub fn draw(&self, random: u64) -> Option<Fault> {
        const WHOLE: u128 = 1_000_000;
        let place = (u128::from(random) * WHOLE) >> 64;
        (place < u128::from(self.share.ppm())).then_some(self.fault)
    }
}

impl fmt::Display for Injection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.fault {
            Fault::Latency(more) => write!(f, "{} more latency", format_duration(more))?,
            Fault::Error => f.write_str("an error 500")?,
            Fault::Reset => f.write_str("a reset")?,
        }
        write!(f, " on {} of canary's requests", self.share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_is_exact_to_a_millionth() {
        let half = Injection {
            fault: Fault::Error,
            share: Weight::parse("50%").expect("a share"),
        };
        let middle = 1_u64 << 63;
        assert_eq!(half.draw(0), Some(Fault::Error));
        assert_eq!(half.draw(middle - 1), Some(Fault::Error));
        assert_eq!(half.draw(middle), None);
        let all = Injection {
            share: Weight::FULL,
            ..half
        };
        assert_eq!(all.draw(u64::MAX), Some(Fault::Error));
    }

    #[test]
    fn it_is_said_in_words() {
        let slow = Injection {
            fault: Fault::Latency(Duration::from_millis(800)),
            share: Weight::parse("50%").expect("a share"),
        };
        assert_eq!(
            slow.to_string(),
            "800ms more latency on 50% of canary's requests"
        );
    }
}
