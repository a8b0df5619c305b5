//! Connections that only read: as many as ask at once, a few kept for the next. None waits for the writer.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rusqlite::Connection;

use super::StoreError;
use super::journal::read_fault;
use super::schema::open_reader;

/// Connections kept open between reads.
const KEPT: usize = 4;

#[derive(Debug)]
pub(super) struct Readers {
    path: PathBuf,
    deployment_logs: PathBuf,
    idle: Mutex<Vec<Connection>>,
}

impl Readers {
    pub(super) fn new(path: &Path, deployment_logs: &Path) -> Self {
        Self {
            path: path.to_owned(),
            deployment_logs: deployment_logs.to_owned(),
            idle: Mutex::new(Vec::new()),
        }
    }

    pub(super) fn deployment_logs(&self) -> &Path {
        &self.deployment_logs
    }

    /// Reads from one consistent state of the journal. A connection that failed is not used again.
    pub(super) fn read<T>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let idle = self
            .idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        let connection = match idle {
            Some(connection) => connection,
            None => open_reader(&self.path).map_err(read_fault)?,
        };
        let transaction = connection.unchecked_transaction().map_err(read_fault)?;
        let answer = read(&transaction)?;
        transaction.finish().map_err(read_fault)?;
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < KEPT {
            idle.push(connection);
        }
        Ok(answer)
    }
}
