//! What a chart shows, as values: lines with their gaps, limits, decisions, and the same numbers as a table.
//!
//! Knows no picture: `svg` draws it, and what only reads text reads the table.

use super::page::Table;
use super::series::LimitList;
use crate::records::evaluation::UnitWord;

/// One chart. Moments are milliseconds of the gate's clock.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Chart {
    pub(super) id: &'static str,
    pub(super) title: String,
    /// What it shows, for those who do not see it.
    pub(super) description: String,
    pub(super) unit: UnitWord,
    pub(super) from_ms: u64,
    pub(super) to_ms: u64,
    /// Wall time of `from_ms`, in Unix milliseconds.
    pub(super) wall_ms: i64,
    /// The axis is never shorter than to here.
    pub(super) least: f64,
    pub(super) lines: Vec<Line>,
    pub(super) limits: Vec<Limit>,
    pub(super) decisions: Vec<Decision>,
    pub(super) table: Table,
}

/// One line, in pieces: between two of them nothing was measured.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Line {
    pub(super) name: String,
    pub(super) look: Look,
    pub(super) pieces: Vec<Vec<(u64, f64)>>,
}

/// How a line looks: by its arm, and whether it is the figure that is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Look {
    Baseline,
    Canary,
    BaselineFaint,
    CanaryFaint,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Limit {
    pub(super) list: LimitList,
    pub(super) value: f64,
    pub(super) from_ms: u64,
    pub(super) to_ms: u64,
}

/// A decision, by the number that it has in the timeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Decision {
    pub(super) event: u64,
    pub(super) at_ms: u64,
}

impl Chart {
    /// The highest value that it shows.
    pub(super) fn top(&self) -> f64 {
        let lines = self.lines.iter().flat_map(|line| line.pieces.iter());
        let values = lines.flatten().map(|&(_, value)| value);
        let limits = self.limits.iter().map(|limit| limit.value);
        values.chain(limits).fold(self.least, f64::max)
    }

    /// Whether anything was measured.
    pub(super) fn is_empty(&self) -> bool {
        self.lines.iter().all(|line| line.pieces.is_empty())
    }
}

/// Points in pieces: cut where a step has no value, and where a step is missing.
pub(super) fn pieces(
    points: impl IntoIterator<Item = (u64, u64, Option<f64>)>,
) -> Vec<Vec<(u64, f64)>> {
    let mut pieces: Vec<Vec<(u64, f64)>> = Vec::new();
    let mut open = false;
    let mut end_ms = 0;
    for (start_ms, width_ms, value) in points {
        let joined = open && start_ms <= end_ms;
        end_ms = start_ms.saturating_add(width_ms);
        open = value.is_some();
        let Some(value) = value else { continue };
        let point = (start_ms.saturating_add(width_ms / 2), value);
        match pieces.last_mut().filter(|_| joined) {
            Some(piece) => piece.push(point),
            None => pieces.push(vec![point]),
        }
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_in_the_data_is_a_gap_in_the_line() {
        let of = pieces([
            (0, 10, Some(1.0)),
            (10, 10, Some(2.0)),
            // A step without a value, and a step that is not there.
            (20, 10, None),
            (30, 10, Some(3.0)),
            (60, 10, Some(4.0)),
            (70, 60, Some(5.0)),
        ]);
        let wanted: [&[(u64, f64)]; 3] = [
            &[(5, 1.0), (15, 2.0)],
            &[(35, 3.0)],
            &[(65, 4.0), (100, 5.0)],
        ];
        assert_eq!(of, wanted);
        assert!(pieces([(0, 10, None)]).is_empty());
    }
}
