//! Whether a client's blocks of headers can be decoded (RFC 7541): pure.
//!
//! Follows the dynamic table by the sizes of its entries and keeps no text: the library decodes the blocks, but names another
//! error than the standard's where one cannot be, and drops what trailers may not hold.

use std::collections::VecDeque;

/// Largest dynamic table, as our settings leave it (RFC 9113, 6.5.2).
const CAPACITY_MAX: u32 = 4096;
/// What an entry's size has beside its texts (RFC 7541, 4.1).
const ENTRY_REST: u32 = 32;
/// Octets of an integer behind its prefix, as the library has it.
const CONTINUED_MAX: u32 = 5;

/// Names of the static table (RFC 7541, appendix A).
const NAMES: [&str; 61] = [
    ":authority",
    ":method",
    ":method",
    ":path",
    ":path",
    ":scheme",
    ":scheme",
    ":status",
    ":status",
    ":status",
    ":status",
    ":status",
    ":status",
    ":status",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "accept-ranges",
    "accept",
    "access-control-allow-origin",
    "age",
    "allow",
    "authorization",
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-length",
    "content-location",
    "content-range",
    "content-type",
    "cookie",
    "date",
    "etag",
    "expect",
    "expires",
    "from",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "last-modified",
    "link",
    "location",
    "max-forwards",
    "proxy-authenticate",
    "proxy-authorization",
    "range",
    "referer",
    "refresh",
    "retry-after",
    "server",
    "set-cookie",
    "strict-transport-security",
    "transfer-encoding",
    "user-agent",
    "vary",
    "via",
    "www-authenticate",
];

/// How many symbols Huffman's code has of each length in bits (RFC 7541, appendix B), without the end of a string. The
/// code is canonical: a longer one is a larger number, so these counts are all that its lengths need.
const SYMBOLS: [(u32, u32); 21] = [
    (5, 10),
    (6, 26),
    (7, 32),
    (8, 6),
    (10, 5),
    (11, 3),
    (12, 2),
    (13, 6),
    (14, 2),
    (15, 3),
    (19, 3),
    (20, 8),
    (21, 13),
    (22, 26),
    (23, 29),
    (24, 12),
    (25, 4),
    (26, 15),
    (27, 19),
    (28, 29),
    (30, 3),
];
/// Each length with the first 32 bits that are no code of it, nor of a shorter one.
const LENGTHS: [(u32, u32); SYMBOLS.len()] = lengths();
/// The code of a colon, with which pseudo-headers begin: 7 bits.
const COLON: u32 = 0x5c;

/// The dynamic table of one direction.
#[derive(Debug)]
pub(super) struct Table {
    /// The newest first.
    entries: VecDeque<Entry>,
    size: u32,
    capacity: u32,
}

/// A field as it lies in the table.
#[derive(Clone, Copy, Debug)]
struct Entry {
    name: Name,
    /// By RFC 7541, 4.1.
    size: u32,
}

#[derive(Clone, Copy, Debug)]
struct Name {
    len: u32,
    is_pseudo: bool,
}

/// A block that says nothing, by which the rest of the connection cannot be understood either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Undecodable;

/// What is left of a block.
struct Rest<'a>(&'a [u8]);

// === impl Table ===

impl Table {
    pub(super) const fn new() -> Self {
        Self {
            entries: VecDeque::new(),
            size: 0,
            capacity: CAPACITY_MAX,
        }
    }

    /// Takes a whole block; answers whether a pseudo-header is among its fields.
    pub(super) fn take(&mut self, block: &[u8]) -> Result<bool, Undecodable> {
        let mut rest = Rest(block);
        let (mut has_pseudo, mut has_fields) = (false, false);
        while let Some(&first) = rest.0.first() {
            // RFC 7541, 6.
            if first & 0xe0 == 0x20 {
                let capacity = rest.integer(5)?;
                if has_fields || capacity > CAPACITY_MAX {
                    return Err(Undecodable);
                }
                self.capacity = capacity;
                self.evict(0);
                continue;
            }
            has_fields = true;
            let name = if first & 0x80 != 0 {
                let index = rest.integer(7)?;
                self.name(index)?
            } else {
                let is_kept = first & 0x40 != 0;
                self.literal(&mut rest, is_kept)?
            };
            has_pseudo |= name.is_pseudo;
        }
        Ok(has_pseudo)
    }

    fn literal(&mut self, rest: &mut Rest<'_>, is_kept: bool) -> Result<Name, Undecodable> {
        let index = rest.integer(if is_kept { 6 } else { 4 })?;
        let name = match index {
            0 => rest.text()?,
            _ => self.name(index)?,
        };
        let value = rest.text()?;
        if is_kept {
            let size = [value.len, ENTRY_REST]
                .into_iter()
                .fold(name.len, u32::saturating_add);
            self.evict(size);
            // RFC 7541, 4.4: one that is larger than the table has emptied it.
            if size <= self.capacity {
                self.entries.push_front(Entry { name, size });
                self.size += size;
            }
        }
        Ok(name)
    }

    fn name(&self, index: u32) -> Result<Name, Undecodable> {
        let place = (index as usize).checked_sub(1).ok_or(Undecodable)?;
        if let Some(name) = NAMES.get(place) {
            return Ok(Name {
                len: name.len() as u32,
                is_pseudo: name.starts_with(':'),
            });
        }
        let entry = self.entries.get(place - NAMES.len()).ok_or(Undecodable)?;
        Ok(entry.name)
    }

    // Makes room for so much.
    fn evict(&mut self, size: u32) {
        while self.size.saturating_add(size) > self.capacity {
            let Some(oldest) = self.entries.pop_back() else {
                break;
            };
            self.size -= oldest.size;
        }
    }
}

// === impl Rest ===

impl Rest<'_> {
    fn octet(&mut self) -> Result<u8, Undecodable> {
        let (first, rest) = self.0.split_first().ok_or(Undecodable)?;
        self.0 = rest;
        Ok(*first)
    }

    // RFC 7541, 5.1.
    fn integer(&mut self, prefix: u32) -> Result<u32, Undecodable> {
        let most = (1 << prefix) - 1;
        let mut value = u32::from(self.octet()?) & most;
        if value < most {
            return Ok(value);
        }
        for place in 0..CONTINUED_MAX {
            let octet = self.octet()?;
            let more = u32::from(octet & 0x7f)
                .checked_mul(1 << (7 * place))
                .ok_or(Undecodable)?;
            value = value.checked_add(more).ok_or(Undecodable)?;
            if octet & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Undecodable)
    }

    // RFC 7541, 5.2; as a name.
    fn text(&mut self) -> Result<Name, Undecodable> {
        let is_coded = self.0.first().is_some_and(|first| first & 0x80 != 0);
        let len = self.integer(7)?;
        let (text, rest) = self.0.split_at_checked(len as usize).ok_or(Undecodable)?;
        self.0 = rest;
        if is_coded {
            return decoded(text);
        }
        Ok(Name {
            len,
            is_pseudo: text.first() == Some(&b':'),
        })
    }
}

// The length of a text in Huffman's code.
fn decoded(coded: &[u8]) -> Result<Name, Undecodable> {
    let mut octets = coded.iter();
    // The bits that are not read yet, at the upper end, and how many.
    let (mut bits, mut left): (u64, u32) = (0, 0);
    let mut name = Name {
        len: 0,
        is_pseudo: false,
    };
    loop {
        while left <= u64::BITS - u8::BITS
            && let Some(octet) = octets.next()
        {
            bits |= u64::from(*octet) << (u64::BITS - u8::BITS - left);
            left += u8::BITS;
        }
        // What is left is padding: fewer than eight bits, and each of them set.
        if left < u8::BITS && bits.leading_ones() == left {
            return Ok(name);
        }
        let next = (bits >> u32::BITS) as u32;
        let (length, _) = LENGTHS
            .iter()
            .find(|(_, beyond)| next < *beyond)
            .ok_or(Undecodable)?;
        if *length > left {
            return Err(Undecodable);
        }
        if name.len == 0 {
            name.is_pseudo = next >> (u32::BITS - 7) == COLON;
        }
        name.len += 1;
        bits <<= length;
        left -= length;
    }
}

const fn lengths() -> [(u32, u32); SYMBOLS.len()] {
    let mut lengths = SYMBOLS;
    let mut beyond = 0;
    let mut place = 0;
    while place < SYMBOLS.len() {
        let (length, symbols) = SYMBOLS[place];
        beyond += symbols << (u32::BITS - length);
        lengths[place] = (length, beyond);
        place += 1;
    }
    lengths
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<u8> = hex.bytes().filter(|digit| *digit != b' ').collect();
        let byte = |pair: &[u8]| {
            let pair = std::str::from_utf8(pair).expect("hexadecimal");
            u8::from_str_radix(pair, 16).expect("hexadecimal")
        };
        digits.chunks(2).map(byte).collect()
    }

    fn check(blocks: [(&str, u32); 3], first: &str) {
        let mut table = Table::new();
        table.take(&bytes(first)).expect("a size");
        for (block, size) in blocks {
            assert_eq!(table.take(&bytes(block)), Ok(true), "{block}");
            assert_eq!(table.size, size, "{block}");
        }
    }

    #[test]
    fn requests_of_the_standard_leave_the_table_that_it_says() {
        // RFC 7541, C.3 and C.4.
        check(
            [
                ("828684410f7777772e6578616d706c652e636f6d", 57),
                ("828684be58086e6f2d6361636865", 110),
                (
                    "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565",
                    164,
                ),
            ],
            "",
        );
        check(
            [
                ("828684418cf1e3c2e5f23a6ba0ab90f4ff", 57),
                ("828684be5886a8eb10649cbf", 110),
                ("828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf", 164),
            ],
            "",
        );
    }

    #[test]
    fn answers_of_the_standard_evict_from_a_table_of_256() {
        // RFC 7541, C.5 and C.6.
        check(
            [
                (
                    "4803333032580770726976617465611d4d6f6e2c203231204f637420323031332032303a31333a323120474d546e1768747470733a2f2f7777772e6578616d706c652e636f6d",
                    222,
                ),
                ("4803333037c1c0bf", 222),
                (
                    "88c1611d4d6f6e2c203231204f637420323031332032303a31333a323220474d54c05a04677a69707738666f6f3d4153444a4b48514b425a584f5157454f50495541585157454f49553b206d61782d6167653d333630303b2076657273696f6e3d31",
                    215,
                ),
            ],
            "3fe101",
        );
        check(
            [
                (
                    "488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad171863c78f0b97c8e9ae82ae43d3",
                    222,
                ),
                ("4883640effc1c0bf", 222),
                (
                    "88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab77ad94e7821dd7f2e6c7b335dfdfcd5b3960d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007",
                    215,
                ),
            ],
            "3fe101",
        );
    }

    #[test]
    fn the_code_is_whole() {
        // What is above the last code is the end of a string alone: 30 bits, each of them set (appendix B).
        let (length, beyond) = LENGTHS[LENGTHS.len() - 1];
        assert_eq!((length, beyond), (30, 0x3fff_ffff << 2));
    }

    #[test]
    fn what_cannot_be_decoded_is_told_from_what_can() {
        let check = |block: &str, expected: Result<bool, Undecodable>| {
            assert_eq!(Table::new().take(&bytes(block)), expected, "{block}");
        };
        check("", Ok(false));
        check("20 3fe11f 82", Ok(true));
        check("0f2b0178", Ok(false));
        // Two names that begin with a colon, as they are and coded.
        check("00 023a61 00", Ok(true));
        check("00 82b8ff 00", Ok(true));
        check("00 82f1e3 00", Ok(false));
        // No padding, and seven bits of it.
        check("00 0178 88ffffffff ffffffff", Err(Undecodable));
        check("00 0178 81 07", Ok(false));
        for block in [
            "41",
            "80",
            "be",
            "7e0178",
            "0001780561",
            "82 20",
            "3fe21f 82",
            "ffffffffffffffffffffff7f",
            "ff 8080808080 00",
            "ff ffffffff7f",
            "0085f2b24a84ff84 49509fff",
            "0085f2b24a84ff83 495090",
            "0085f2b24a84ff87 4951fffffffa7f",
        ] {
            check(block, Err(Undecodable));
        }
    }

    #[test]
    fn an_entry_larger_than_the_table_empties_it() {
        let mut table = Table::new();
        table.take(&bytes("4001610162")).expect("a field");
        assert_eq!((table.size, table.entries.len()), (34, 1));
        let mut large = bytes("400161 7f e11e");
        large.extend(vec![b'x'; 0x7f + 0x61 + 0x1e * 128]);
        table.take(&large).expect("a field");
        assert_eq!((table.size, table.entries.len()), (0, 0));
        assert_eq!(table.take(&bytes("be")), Err(Undecodable));
    }
}
