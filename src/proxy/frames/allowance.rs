//! How many frames a client may send that cost us work and carry no request: PING, SETTINGS, PRIORITY, resets, empty DATA.

use super::Ending;

/// Control frames that may come at once. Libraries that probe their bandwidth send a few PINGs per round trip.
pub(super) const BURST: u32 = 10_000;
/// Control frames a second beyond that.
pub(super) const PER_SECOND: u32 = 1_000;
/// A reset costs more than its frame: a request was begun for it.
pub(super) const RESET_COST: u32 = 10;
/// Control frames after which others have their turn: they come by the thousand in one read.
pub(super) const TURN: u32 = 64;
/// Bytes written that earn a client one more control frame: answers bring window updates with them.
const BYTES_EARNING: u32 = 1024;

/// What a client may still send.
#[derive(Debug)]
pub(super) struct Allowance {
    left: u32,
    /// Control frames since the others had their turn.
    turn: u32,
    /// Coarse milliseconds, at the last refill.
    refilled: u32,
    /// Bytes that have not earned anything yet.
    written: u32,
}

// === impl Allowance ===

impl Allowance {
    /// All of it, at `now` in coarse milliseconds.
    pub(super) const fn new(now: u32) -> Self {
        Self {
            left: BURST,
            turn: 0,
            refilled: now,
            written: 0,
        }
    }

    /// Takes a frame's cost; 0 for one that carries a request.
    pub(super) fn spend(&mut self, cost: u32, now: u32) -> Result<(), Ending> {
        if cost == 0 {
            return Ok(());
        }
        self.turn = self.turn.saturating_add(1);
        let passed = now.wrapping_sub(self.refilled);
        let refill = passed.saturating_mul(PER_SECOND / 1000);
        self.refilled = now;
        self.left = self.left.saturating_add(refill).min(BURST);
        self.left = self.left.checked_sub(cost).ok_or(Ending::Flood)?;
        Ok(())
    }

    /// Takes how much was written.
    pub(super) fn earn(&mut self, bytes: usize) {
        self.written = self
            .written
            .saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
        let earned = self.written / BYTES_EARNING;
        self.written %= BYTES_EARNING;
        self.left = self.left.saturating_add(earned).min(BURST);
    }

    /// Whether it is the others' turn; it is ours again then.
    pub(super) const fn gives_way(&mut self) -> bool {
        let is_over = self.turn >= TURN;
        if is_over {
            self.turn = 0;
        }
        is_over
    }

    #[cfg(test)]
    pub(super) const fn left(&self) -> u32 {
        self.left
    }
}
