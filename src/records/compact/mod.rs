//! Counts as compact bytes, for the disk: cells with their histograms, and sketches of learners.
//!
//! Every form begins with its version. Decoding checks everything and never panics, whatever the bytes; a cell that it
//! accepts encodes back to the same bytes.

mod cell;
mod sketch;
mod varint;

pub use cell::{decode_cell, encode_cell};
pub use sketch::{decode_sketch, encode_sketch};

pub(super) use varint::{Reader, put};

/// Why bytes are not what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("the bytes end too early")]
    Short,
    #[error("{0} bytes are left over")]
    Long(usize),
    #[error("layout version {found} is not {known}")]
    Version { found: u8, known: u8 },
    #[error("{0} is out of range")]
    Range(&'static str),
}
