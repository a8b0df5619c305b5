//! Business results in a state's counts: the sums of each outcome by group of learners, and the ids that were counted.

use std::sync::Arc;

use super::super::compact::{DecodeError, Reader, put};
use super::counts::{next, piece};
use crate::rollout::gate::Run;
use crate::rollout::name::SignalName;
use crate::rollout::outcome::{GROUPS, Group, IDS_REMEMBERED, Outcomes, Sums};

/// Groups without results are left out.
pub(super) fn encode(out: &mut Vec<u8>, outcomes: &Outcomes) {
    put(out, outcomes.sums.len() as u64);
    for (name, sums) in &outcomes.sums {
        piece(out, name.as_str().as_bytes());
        for groups in &sums.0 {
            let filled = groups
                .iter()
                .enumerate()
                .filter(|(_, group)| group.count > 0);
            put(out, filled.clone().count() as u64);
            for (place, group) in filled {
                put(out, place as u64);
                put(out, group.count);
                out.extend_from_slice(&group.sum.to_bits().to_be_bytes());
            }
        }
    }
    put(out, outcomes.ids.iter().len() as u64);
    for id in outcomes.ids.iter() {
        out.extend_from_slice(&id.to_be_bytes());
    }
}

/// Fills the results of a run.
pub(super) fn decode_into(reader: &mut Reader<'_>, run: &mut Run) -> Result<(), DecodeError> {
    let mut outcomes = Outcomes::default();
    for _ in 0..reader.count()? {
        let name = std::str::from_utf8(next(reader)?).ok();
        let name = name.and_then(|name| SignalName::parse(name).ok());
        let mut sums = Sums::default();
        for groups in &mut sums.0 {
            decode_groups(reader, groups)?;
        }
        outcomes.sums.insert(
            name.ok_or(DecodeError::Range("the name of an outcome"))?,
            sums,
        );
    }
    let ids = reader.count()?;
    if ids > IDS_REMEMBERED {
        return Err(DecodeError::Range("the number of ids"));
    }
    for _ in 0..ids {
        outcomes.ids.insert(eight(reader)?);
    }
    run.outcomes = Arc::new(outcomes);
    Ok(())
}

fn decode_groups(reader: &mut Reader<'_>, groups: &mut [Group]) -> Result<(), DecodeError> {
    for _ in 0..reader.count()? {
        let place = usize::try_from(reader.number()?).unwrap_or(GROUPS);
        let group = groups
            .get_mut(place)
            .ok_or(DecodeError::Range("a group of learners"))?;
        group.count = reader.number()?;
        group.sum = f64::from_bits(eight(reader)?);
        if !group.sum.is_finite() {
            return Err(DecodeError::Range("the sum of a group"));
        }
    }
    Ok(())
}

fn eight(reader: &mut Reader<'_>) -> Result<u64, DecodeError> {
    let bytes = reader.take(8)?.try_into().map_err(|_| DecodeError::Short)?;
    Ok(u64::from_be_bytes(bytes))
}
