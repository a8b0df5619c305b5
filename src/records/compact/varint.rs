//! Whole numbers in as few bytes as they need (LEB128), and a reader that stays inside its bytes.

use super::DecodeError;

/// Appends 7 bits a byte, lowest first; the high bit says that more follow.
pub(in crate::records) fn put(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// What is left of the bytes.
#[derive(Clone, Copy, Debug)]
pub(in crate::records) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(in crate::records) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(in crate::records) fn byte(&mut self) -> Result<u8, DecodeError> {
        let (&first, rest) = self.0.split_first().ok_or(DecodeError::Short)?;
        self.0 = rest;
        Ok(first)
    }

    pub(in crate::records) fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(DecodeError::Short)?;
        self.0 = rest;
        Ok(taken)
    }

    /// Only the shortest form of a number is accepted, so that one number has one form.
    pub(in crate::records) fn number(&mut self) -> Result<u64, DecodeError> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits || (byte == 0 && shift > 0) {
                return Err(DecodeError::Range("a number"));
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(DecodeError::Range("a number"))
    }

    /// A number of things of which each takes at least one byte more, so that no length can ask for more
    /// memory than the bytes can fill.
    pub(in crate::records) fn count(&mut self) -> Result<usize, DecodeError> {
        let count = usize::try_from(self.number()?).map_err(|_| DecodeError::Range("a count"))?;
        if count > self.0.len() {
            Err(DecodeError::Short)
        } else {
            Ok(count)
        }
    }

    pub(in crate::records) const fn end(self) -> Result<(), DecodeError> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(DecodeError::Long(self.0.len()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_take_seven_bits_a_byte() {
        let check = |number: u64, bytes: &[u8]| {
            let mut out = Vec::new();
            put(&mut out, number);
            assert_eq!(out, bytes);
            let mut reader = Reader::new(bytes);
            assert_eq!(reader.number(), Ok(number));
            assert_eq!(reader.end(), Ok(()));
        };
        check(0, &[0]);
        check(127, &[0x7f]);
        check(128, &[0x80, 0x01]);
        check(300, &[0xac, 0x02]);
        check(
            u64::MAX,
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
        );
    }

    #[test]
    fn what_is_cut_too_large_or_padded_is_refused() {
        let read = |bytes: &[u8]| Reader::new(bytes).number();
        assert_eq!(read(&[]), Err(DecodeError::Short));
        assert_eq!(read(&[0x80]), Err(DecodeError::Short));
        assert!(read(&[0x80, 0x00]).is_err());
        assert!(read(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02]).is_err());
        assert!(read(&[0xff; 11]).is_err());
        assert_eq!(Reader::new(&[5, 1, 1]).count(), Err(DecodeError::Short));
    }
}
