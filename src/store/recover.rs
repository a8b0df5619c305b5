//! What an earlier process left, read once at start: the states, and the slots that their windows need.

use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;

use super::fault::explain;
use super::{Recovered, RecoveredRollout, StoreError};
use crate::records::state;
use crate::rollout::name::RolloutName;
use crate::rollout::time::Timestamp;

/// How far back slots are read before the moment the state was saved.
const RECENT: Duration = Duration::from_secs(30 * 60);

pub(super) fn read(connection: &Connection, path: &Path) -> Result<Recovered, StoreError> {
    let damaged = |why: String| StoreError::Damaged {
        path: path.to_owned(),
        why,
    };
    let mut recovered = Recovered::default();
    for (rollout, json, counts) in states(connection).map_err(|error| damaged(explain(&error)))? {
        let name = RolloutName::parse(&rollout).map_err(|error| damaged(error.to_string()))?;
        let snapshot = state::decode(&json, &counts)
            .map_err(|error| damaged(format!("rollout {name}: {error}")))?;
        let from = state::saved(&snapshot).before(RECENT);
        let recent = super::samples::recent(
            connection,
            &rollout,
            from,
            Timestamp::from_millis(i64::MAX as u64),
        )
        .map_err(|error| damaged(format!("samples of rollout {name}: {}", explain(&error))))?;
        recovered
            .rollouts
            .insert(name, RecoveredRollout { snapshot, recent });
    }
    Ok(recovered)
}

fn states(connection: &Connection) -> rusqlite::Result<Vec<(String, String, Vec<u8>)>> {
    connection
        .prepare("SELECT rollout, json, counts FROM state")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
        .collect()
}
