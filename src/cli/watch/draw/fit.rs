//! The parts of a page in the height there is: what matters most stays, and each part says what it leaves out.

use ratatui::text::Line;

use super::look::{Look, Tone};
use super::text::line;

/// One part of a page.
pub(super) struct Block {
    /// From the top; of which the first stay.
    pub(super) lines: Vec<Line<'static>>,
    /// Fewer lines would be no use, unless there is room for less alone.
    pub(super) least: usize,
    /// Who has his lines first, 0 before 1.
    pub(super) rank: u8,
    /// Set apart by a blank line where there is room.
    pub(super) is_apart: bool,
    /// What is left out is on another page.
    pub(super) has_page: bool,
    /// A part of it would mislead: all of it, or nothing.
    pub(super) is_one: bool,
}

/// From this height on parts are set apart.
const TALL: usize = 30;

/// Exactly what fits into `height`, in the order given.
pub(super) fn fit(look: Look, blocks: Vec<Block>, height: usize) -> Vec<Line<'static>> {
    let blocks: Vec<Block> = blocks
        .into_iter()
        .filter(|block| !block.lines.is_empty())
        .map(|block| {
            if height >= TALL {
                set_apart(block)
            } else {
                block
            }
        })
        .collect();
    let given = shares(&blocks, height);
    let mut shown = Vec::with_capacity(height);
    for (block, given) in blocks.into_iter().zip(given) {
        shown.extend(first(look, block, given));
    }
    shown
}

fn set_apart(mut block: Block) -> Block {
    if block.is_apart {
        block.lines.insert(0, Line::default());
        block.least += 1;
    }
    block
}

/// Everybody's least by rank, then the rest by rank.
fn shares(blocks: &[Block], height: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..blocks.len()).collect();
    order.sort_by_key(|index| blocks[*index].rank);
    let (mut given, mut left) = (vec![0; blocks.len()], height);
    for index in &order {
        let block = &blocks[*index];
        let least = block.least.min(block.lines.len());
        given[*index] = match block.is_one && least > left {
            true => 0,
            false => least.min(left),
        };
        left -= given[*index];
    }
    for index in &order {
        let block = &blocks[*index];
        let more = (block.lines.len() - given[*index]).min(left);
        if !block.is_one {
            given[*index] += more;
            left -= more;
        }
    }
    given
}

// A part of which some lines are left says with the last of them how much is missing, and where it is.
fn first(look: Look, block: Block, given: usize) -> Vec<Line<'static>> {
    let mut lines = block.lines;
    let missing = lines.len() - given;
    lines.truncate(given);
    if missing > 0 && given > 2 && block.has_page {
        let words = format!("  {} {} more lines: Tab", look.cut(), missing + 1);
        lines[given - 1] = line(look, Tone::Dim, words);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOK: Look = Look {
        has_colour: false,
        has_blocks: true,
    };

    fn block(name: char, count: usize, least: usize, rank: u8) -> Block {
        let lines = (0..count)
            .map(|at| Line::raw(format!("{name}{at}")))
            .collect();
        Block {
            lines,
            least,
            rank,
            is_apart: true,
            has_page: true,
            is_one: false,
        }
    }

    fn fitted(height: usize) -> String {
        let blocks = vec![
            block('a', 1, 1, 0),
            block('b', 5, 3, 2),
            block('c', 20, 2, 3),
            block('d', 1, 1, 1),
        ];
        let lines = fit(LOOK, blocks, height);
        assert!(lines.len() <= height);
        let words = lines.iter().map(|line| line.to_string().trim().to_owned());
        words.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn what_matters_most_stays() {
        for (height, shown) in [
            (0, ""),
            (1, "a0"),
            (2, "a0 d0"),
            (4, "a0 b0 b1 d0"),
            (5, "a0 b0 b1 … 3 more lines: Tab d0"),
            (7, "a0 b0 b1 … 3 more lines: Tab c0 c1 d0"),
            (10, "a0 b0 b1 b2 b3 b4 c0 c1 … 18 more lines: Tab d0"),
        ] {
            assert_eq!(fitted(height), shown, "height {height}");
        }
    }

    #[test]
    fn what_would_mislead_in_part_is_left_out() {
        let one = || Block {
            is_one: true,
            ..block('b', 2, 2, 1)
        };
        for (height, count) in [(1, 1), (2, 1), (3, 3), (9, 3)] {
            let lines = fit(LOOK, vec![block('a', 1, 1, 0), one()], height);
            assert_eq!(lines.len(), count, "height {height}");
        }
    }

    #[test]
    fn a_tall_screen_sets_parts_apart() {
        let lines = fit(LOOK, vec![block('a', 1, 1, 0), block('b', 2, 1, 1)], 30);
        let words: Vec<String> = lines.iter().map(ToString::to_string).collect();
        assert_eq!(words, ["", "a0", "", "b0", "b1"]);
    }
}
