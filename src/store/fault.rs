//! SQLite's errors in an operator's words, and which of them say that the file itself is bad.

use rusqlite::ErrorCode;

/// What happened, for a message that already names the file.
pub(super) fn explain(error: &rusqlite::Error) -> String {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => "disk is full".to_owned(),
        Some(ErrorCode::ReadOnly) => {
            "read-only: the file or its directory cannot be written".to_owned()
        }
        Some(ErrorCode::CannotOpen) => "the file cannot be opened or created".to_owned(),
        Some(ErrorCode::PermissionDenied) => "permission denied".to_owned(),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            "locked by another process".to_owned()
        }
        Some(ErrorCode::SystemIoFailure) => format!("disk I/O error ({error})"),
        _ => error.to_string(),
    }
}

/// The file is not what it should be, whatever the disk does.
pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
    )
}
