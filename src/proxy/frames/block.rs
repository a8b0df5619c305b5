//! Blocks of headers as they come: one or several frames, padded or not, judged when they are whole.

use super::Ending;
use super::hpack::Table;

pub(super) const END_HEADERS: u8 = 0x4;
pub(super) const PADDED: u8 = 0x8;
pub(super) const WITH_PRIORITY: u8 = 0x20;

/// What says whose stream's child this one is (RFC 9113, 6.2).
const PRIORITY_LEN: usize = 5;

/// The blocks of one client.
#[derive(Debug)]
pub(super) struct Blocks {
    /// The one that was begun and has not ended.
    open: Option<Block>,
    table: Table,
}

#[derive(Debug)]
struct Block {
    stream: u32,
    is_trailers: bool,
    /// The fragments of its frames so far.
    fragments: Vec<u8>,
}

// === impl Blocks ===

impl Blocks {
    pub(super) const fn new() -> Self {
        Self {
            open: None,
            table: Table::new(),
        }
    }

    /// The stream whose block has not ended.
    pub(super) const fn open(&self) -> Option<u32> {
        match &self.open {
            Some(block) => Some(block.stream),
            None => None,
        }
    }

    /// HEADERS of this stream, whose block is not whole before they are.
    pub(super) fn begin(&mut self, stream: u32, is_trailers: bool) {
        self.open = Some(Block {
            stream,
            is_trailers,
            fragments: Vec::new(),
        });
    }

    /// Takes what a frame holds of the open block, and judges that where it was the last.
    pub(super) fn add(&mut self, fragment: &[u8], flags: u8) -> Result<(), Ending> {
        let Some(mut block) = self.open.take() else {
            return Ok(());
        };
        let is_one = block.fragments.is_empty();
        let is_last = flags & END_HEADERS != 0;
        if !(is_one && is_last) {
            block.fragments.extend_from_slice(fragment);
        }
        if !is_last {
            self.open = Some(block);
            return Ok(());
        }
        let whole = if is_one { fragment } else { &block.fragments };
        let has_pseudo = self.table.take(whole)?;
        // RFC 9113, 8.1.
        if has_pseudo && block.is_trailers {
            return Err(Ending::Protocol);
        }
        Ok(())
    }
}

/// What HEADERS hold of their block (RFC 9113, 6.2).
pub(super) fn fragment(payload: &[u8], flags: u8) -> Result<&[u8], Ending> {
    let (mut rest, mut padding) = (payload, 0);
    if flags & PADDED != 0 {
        let (len, padded) = rest.split_first().ok_or(Ending::FrameSize)?;
        (rest, padding) = (padded, usize::from(*len));
    }
    if flags & WITH_PRIORITY != 0 {
        rest = rest.get(PRIORITY_LEN..).ok_or(Ending::FrameSize)?;
    }
    let len = rest.len().checked_sub(padding).ok_or(Ending::Protocol)?;
    Ok(rest.split_at(len).0)
}
