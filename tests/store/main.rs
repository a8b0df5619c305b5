//! The store keeps what it reported, whatever happens to the process, the disk or the file.
//!
//! Real files in temporary directories. Processes that are killed are this very binary, started again with a word in the
//! environment (`child.rs`).

mod archive;
mod child;
mod files;
mod journal;
mod logs;
mod make;
mod outbox;
mod reports;
mod state;
