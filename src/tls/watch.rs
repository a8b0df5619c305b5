//! Looks whether the files of certificates changed, and how long they still hold. One thread.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{CertificateView, FileFault};
use crate::clock;
use crate::shutdown::{self, Shutdown, Stage};

/// From one look at the files to the next: they are few and small.
const LOOK: Duration = Duration::from_secs(10);
/// A certificate is warned of when it holds no longer than this.
const EXPIRES_SOON_S: i64 = 30 * 86_400;
/// From one warning to the next.
const WARN_AGAIN: Duration = Duration::from_secs(86_400);

/// What was made from files.
pub trait Watched: Send + Sync {
    /// Reads the files again and puts what they say in force for new handshakes; whether that is something new. Blocks.
    ///
    /// # Errors
    /// Every fault that was not told at the last call.
    fn refresh(&self) -> Result<bool, Vec<FileFault>>;

    fn certificates(&self) -> Vec<CertificateView>;
}

/// Watches the files of what `watched` answers with, until the program drains.
///
/// # Errors
/// Where no thread can be started.
pub fn watch(
    watched: impl Fn() -> Vec<Arc<dyn Watched>> + Send + 'static,
    mut shutdown: Shutdown,
) -> io::Result<shutdown::Watched> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()?;
    shutdown::Watched::spawn("certificates", move || {
        runtime.block_on(async {
            let mut warned: Option<Instant> = None;
            loop {
                let watched = watched();
                let changed = watched.iter().filter(|one| refresh(one.as_ref())).count();
                if changed > 0 {
                    warned = None;
                }
                let now = clock::now();
                if warned.is_none_or(|at| now.saturating_duration_since(at) >= WARN_AGAIN) {
                    warned = Some(now);
                    warn(&watched);
                }
                tokio::select! {
                    () = shutdown.reached(Stage::Draining) => return,
                    () = tokio::time::sleep(LOOK) => {}
                }
            }
        });
    })
}

// Whether there is something new.
fn refresh(watched: &dyn Watched) -> bool {
    match watched.refresh() {
        Ok(false) => false,
        Ok(true) => {
            tracing::info!("certificates changed: new handshakes use them");
            true
        }
        Err(faults) => {
            for fault in faults {
                tracing::error!(%fault, "certificates were not read again: the old ones stay in force");
            }
            false
        }
    }
}

fn warn(watched: &[Arc<dyn Watched>]) {
    let now = clock::wall().as_unix_millis() / 1000;
    for view in watched.iter().flat_map(|one| one.certificates()) {
        let left_s = view.not_after - now;
        let cert = view.cert.display();
        if left_s < 0 {
            tracing::warn!(%cert, "a certificate has expired");
        } else if left_s < EXPIRES_SOON_S {
            tracing::warn!(%cert, days = left_s / 86_400, "a certificate expires soon");
        }
    }
}
