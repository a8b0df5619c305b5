//! One cell of counts as a line of JSON has it: whose it is, and the compact form in hexadecimal.

use serde::{Deserialize, Serialize};

use super::compact::{DecodeError, decode_cell, encode_cell};
use super::hexadecimal::{bytes, hex};
use super::words;
use crate::rollout::name::Arm;
use crate::rollout::slot::{Cell, CellKey};

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct CellLine {
    epoch: u64,
    #[serde(with = "words")]
    arm: Arm,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    segment: Option<String>,
    /// The compact form in hexadecimal.
    cell: String,
}

/// Why a line is no cell.
#[derive(Debug, thiserror::Error)]
pub(super) enum CellLineError {
    #[error("bytes that are not in hexadecimal")]
    Hexadecimal,
    #[error(transparent)]
    Cell(#[from] DecodeError),
}

// === impl CellLine ===

impl CellLine {
    pub(super) fn new(key: &CellKey, cell: &Cell) -> Self {
        Self {
            epoch: key.epoch,
            arm: key.arm,
            segment: key.segment.as_deref().map(str::to_owned),
            cell: hex(&encode_cell(cell)),
        }
    }

    pub(super) fn read(self) -> Result<(CellKey, Cell), CellLineError> {
        let key = CellKey {
            epoch: self.epoch,
            arm: self.arm,
            segment: self.segment.map(Into::into),
        };
        let bytes = bytes(&self.cell).ok_or(CellLineError::Hexadecimal)?;
        Ok((key, decode_cell(&bytes)?))
    }
}
