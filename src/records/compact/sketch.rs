//! A sketch of learners in bytes: the registers that are not 0 while they are few, else three bits each.
//!
//! The registers of a sketch of n learners lie within a few steps of log2(n / 16,384), so the seven neighbouring values
//! that are met most hold 95 % of them; the rest follow as exceptions. 7 KB instead of 16, which matters for a row
//! that is written four times a second and holds four sketches.

use super::DecodeError;
use super::varint::{Reader, put};
use crate::rollout::learners::LearnerSketch;

const VERSION: u8 = 1;
const SPARSE: u8 = 0;
const DENSE: u8 = 1;
/// Values that three bits can say, beside `ESCAPE`.
const SPAN: u8 = 7;
/// The three bits that say "see the exceptions".
const ESCAPE: u8 = 7;
/// Registers packed together, into three bytes.
const GROUP: usize = 8;

/// The sparse form while few registers are used, else the dense one.
pub fn encode_sketch(sketch: &LearnerSketch) -> Vec<u8> {
    let registers = sketch.registers();
    let used = registers.iter().filter(|&&register| register != 0).count();
    // A sparse entry takes two bytes, or three where the gap is wide: up to a fifth of the registers it is shorter.
    if used <= registers.len() / 5 {
        encode_sparse(registers, used)
    } else {
        encode_dense(registers)
    }
}

fn encode_sparse(registers: &[u8], used: usize) -> Vec<u8> {
    let mut out = vec![VERSION, SPARSE];
    put(&mut out, registers.len() as u64);
    put(&mut out, used as u64);
    let mut next = 0;
    for (place, &register) in registers.iter().enumerate() {
        if register != 0 {
            put(&mut out, (place - next) as u64);
            out.push(register);
            next = place + 1;
        }
    }
    out
}

fn encode_dense(registers: &[u8]) -> Vec<u8> {
    let base = best_base(registers);
    let mut out = vec![VERSION, DENSE];
    put(&mut out, registers.len() as u64);
    out.push(base);
    for group in registers.chunks(GROUP) {
        let bits = group.iter().rev().fold(0_u32, |bits, &register| {
            bits << 3 | u32::from(code(base, register))
        });
        out.extend_from_slice(&bits.to_le_bytes()[..3]);
    }
    out.extend(
        registers
            .iter()
            .copied()
            .filter(|&register| code(base, register) == ESCAPE),
    );
    out
}

fn code(base: u8, register: u8) -> u8 {
    register
        .checked_sub(base)
        .map_or(ESCAPE, |above| above.min(ESCAPE))
}

/// The lowest of the `SPAN` neighbouring values that hold the most registers.
fn best_base(registers: &[u8]) -> u8 {
    let mut met = [0_usize; 256 + SPAN as usize];
    for &register in registers {
        met[usize::from(register)] += 1;
    }
    let held = |base: u8| {
        met[usize::from(base)..][..usize::from(SPAN)]
            .iter()
            .sum::<usize>()
    };
    (0..=u8::MAX)
        .max_by_key(|&base| (held(base), u8::MAX - base))
        .unwrap_or(0)
}

pub fn decode_sketch(bytes: &[u8]) -> Result<LearnerSketch, DecodeError> {
    let mut reader = Reader::new(bytes);
    let found = reader.byte()?;
    if found != VERSION {
        return Err(DecodeError::Version {
            found,
            known: VERSION,
        });
    }
    let form = reader.byte()?;
    let len = usize::try_from(reader.number()?).unwrap_or(usize::MAX);
    if len != LearnerSketch::new().registers().len() {
        return Err(DecodeError::Range("the number of registers"));
    }
    let registers = match form {
        SPARSE => decode_sparse(reader, len)?,
        DENSE => decode_dense(reader, len)?,
        _ => return Err(DecodeError::Range("the form of a sketch")),
    };
    LearnerSketch::from_registers(&registers).ok_or(DecodeError::Range("a register"))
}

fn decode_sparse(mut reader: Reader<'_>, len: usize) -> Result<Vec<u8>, DecodeError> {
    let mut registers = vec![0; len];
    let mut next = 0_usize;
    for _ in 0..reader.count()? {
        let place = usize::try_from(reader.number()?)
            .unwrap_or(usize::MAX)
            .saturating_add(next);
        let register = registers
            .get_mut(place)
            .ok_or(DecodeError::Range("the place of a register"))?;
        *register = reader.byte()?;
        next = place + 1;
    }
    reader.end()?;
    Ok(registers)
}

fn decode_dense(mut reader: Reader<'_>, len: usize) -> Result<Vec<u8>, DecodeError> {
    let base = reader.byte()?;
    let packed = reader.take(len.div_ceil(GROUP) * 3)?;
    let mut registers = Vec::with_capacity(len);
    for place in 0..len {
        let group = &packed[place / GROUP * 3..][..3];
        let bits = u32::from_le_bytes([group[0], group[1], group[2], 0]);
        let code = (bits >> (place % GROUP * 3)) as u8 & 7;
        registers.push(if code == ESCAPE {
            reader.byte()?
        } else {
            base.saturating_add(code)
        });
    }
    reader.end()?;
    Ok(registers)
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;
    use crate::rollout::assign::LearnerHash;

    #[test]
    fn sketches_of_every_size_come_back_in_few_bytes() {
        let mut dice = StdRng::seed_from_u64(7);
        let mut sketch = LearnerSketch::new();
        let mut held = 0;
        for (learners, most_bytes) in [
            (0, 6),
            (1, 10),
            (1_000, 3_100),
            (5_000, 8_300),
            (20_000, 7_200),
            (500_000, 7_200),
        ] {
            while held < learners {
                sketch.insert(LearnerHash::from_raw(dice.random()));
                held += 1;
            }
            let bytes = encode_sketch(&sketch);
            assert!(
                bytes.len() <= most_bytes,
                "{learners} learners in {} bytes",
                bytes.len()
            );
            assert_eq!(decode_sketch(&bytes), Ok(sketch.clone()));
        }
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let mut dice = StdRng::seed_from_u64(8);
        let mut dense = LearnerSketch::new();
        (0..30_000).for_each(|_| dense.insert(LearnerHash::from_raw(dice.random())));
        for sketch in [LearnerSketch::new(), dense] {
            let whole = encode_sketch(&sketch);
            for _ in 0..3_000 {
                let mut bytes = whole.clone();
                let place = dice.random_range(0..bytes.len().min(40));
                bytes[place] = dice.random();
                if dice.random_bool(0.3) {
                    bytes.truncate(dice.random_range(0..=bytes.len()));
                }
                if let Ok(read) = decode_sketch(&bytes) {
                    assert_eq!(read.registers().len(), sketch.registers().len());
                }
            }
        }
    }
}
