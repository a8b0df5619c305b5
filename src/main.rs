//! The binary: runs the command line and turns its result into an exit code; nothing else.

use std::process::ExitCode;

use tikv_jemallocator::Jemalloc;

/// Gives memory back some seconds after a crowd has left, by a thread of its own: the C library's keeps what lies below
/// the last allocation of a heap.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    serin::cli::run()
}
