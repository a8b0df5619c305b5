//! A body that passes by, taken down as far as it may be kept.

use bytes::{Bytes, BytesMut};

/// The beginning of a body, up to a bound; nothing once it is over it.
#[derive(Debug)]
pub(in crate::proxy) struct Taken {
    bytes: BytesMut,
    limit: usize,
    is_over: bool,
}

impl Taken {
    pub(in crate::proxy) fn up_to(limit: usize) -> Self {
        Self {
            bytes: BytesMut::new(),
            limit,
            is_over: false,
        }
    }

    // Copied, because a piece may hold a much larger buffer.
    pub(in crate::proxy) fn take_in(&mut self, piece: &Bytes) {
        if self.is_over {
            return;
        }
        if piece.len() > self.limit - self.bytes.len() {
            self.is_over = true;
            self.bytes = BytesMut::new();
        } else {
            self.bytes.extend_from_slice(piece);
        }
    }

    /// Whether there was more than may be kept.
    pub(in crate::proxy) fn is_over(&self) -> bool {
        self.is_over
    }

    /// What was taken so far; nothing where it was too much.
    pub(in crate::proxy) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// All of it, where it was not too much.
    pub(in crate::proxy) fn whole(self) -> Option<Bytes> {
        (!self.is_over).then(|| self.bytes.freeze())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_over_the_bound_is_not_kept() {
        let taken = |limit: usize, pieces: &[&'static str]| {
            let mut taken = Taken::up_to(limit);
            for piece in pieces {
                taken.take_in(&Bytes::from_static(piece.as_bytes()));
            }
            taken.whole()
        };
        assert_eq!(taken(4, &[]).as_deref(), Some(b"".as_slice()));
        assert_eq!(taken(4, &["ab", "cd"]).as_deref(), Some(b"abcd".as_slice()));
        assert_eq!(taken(4, &["ab", "cde"]), None);
        assert_eq!(taken(4, &["abcde", ""]), None);
    }
}
