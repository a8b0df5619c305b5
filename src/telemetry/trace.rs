//! The id of a trace that a request belongs to, as W3C Trace Context has it: 16 bytes, not all zero.
//!
//! Carried beside what is counted, so that a figure leads to one request that it was made of. Makes none.

use std::fmt;
use std::num::NonZeroU128;

/// 32 lower-case digits of base 16 when it is shown.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId(NonZeroU128);

impl TraceId {
    /// `None` for zero, which is no id.
    pub fn new(id: u128) -> Option<Self> {
        NonZeroU128::new(id).map(Self)
    }

    /// From 32 digits of base 16.
    pub fn parse(digits: &[u8]) -> Option<Self> {
        if digits.len() != 32 {
            return None;
        }
        let digit = |sum: u128, byte: &u8| {
            let value = char::from(*byte).to_digit(16)?;
            Some(sum << 4 | u128::from(value))
        };
        digits.iter().try_fold(0, digit).and_then(Self::new)
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_as_it_is_shown_and_zero_is_none() {
        let text = "0af7651916cd43dd8448eb211c80319c";
        let read = |text: &str| TraceId::parse(text.as_bytes()).map(|id| id.to_string());
        assert_eq!(read(text).as_deref(), Some(text));
        let small = "00000000000000000000000000000001";
        assert_eq!(read(small).as_deref(), Some(small));
        for wrong in [
            "",
            "00000000000000000000000000000000",
            "0af7651916cd43dd8448eb211c80319",
            "0af7651916cd43dd8448eb211c80319x",
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
