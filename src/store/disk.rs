//! What a write meets on its way to the disk: the place where a test makes the disk slow, full or broken.

use rusqlite::Connection;

/// Stands between the writer and its file.
pub trait Disk: Send {
    /// Called on the store's thread before each transaction, outside of any. May take its time, change the
    /// connection's limits, or refuse; a refusal is treated as a failed write.
    fn before_write(&mut self, connection: &Connection) -> rusqlite::Result<()>;
}

/// The disk as it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn before_write(&mut self, _connection: &Connection) -> rusqlite::Result<()> {
        Ok(())
    }
}
