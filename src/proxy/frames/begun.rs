//! The streams that a client has begun, and which of them it has ended: nothing may come on those any more.

use super::Ending;

/// What is known of a client's streams.
#[derive(Debug, Default)]
pub(super) struct Begun {
    /// The highest one.
    last: u32,
    /// Which the client has ended: bit n is the n-th one before the last. Of older ones nothing is known.
    ended: u128,
}

// === impl Begun ===

impl Begun {
    /// The highest stream that a request was begun on.
    pub(super) const fn last(&self) -> u32 {
        self.last
    }

    /// HEADERS of this stream; whether they begin it.
    pub(super) fn begin(&mut self, stream: u32) -> bool {
        let is_new = stream > self.last;
        if is_new {
            let newer = (stream - self.last) / 2;
            self.ended = self.ended.checked_shl(newer).unwrap_or(0);
            self.last = stream;
        }
        is_new
    }

    /// A frame of a request, perhaps its last one (RFC 9113, 5.1, "half-closed (remote)").
    pub(super) fn go_on(&mut self, stream: u32, ends: bool) -> Result<(), Ending> {
        // A stream that no client may begin, or has not begun, is the library's to refuse.
        let before = self.last.checked_sub(stream);
        let place = before.filter(|_| stream % 2 == 1).map(|before| before / 2);
        let bit = place.and_then(|place| 1_u128.checked_shl(place));
        let bit = bit.unwrap_or(0);
        if self.ended & bit != 0 {
            return Err(Ending::StreamClosed);
        }
        if ends {
            self.ended |= bit;
        }
        Ok(())
    }
}
