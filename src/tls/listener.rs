//! One listener's TLS: what new handshakes use, and what is told of it.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use rustls::ServerConfig;

use super::names::cover;
use super::{FileFault, Loaded, load};

/// What handshakes of one listener use. Swapped whole.
#[derive(Debug)]
pub struct Listener {
    loaded: ArcSwap<Loaded>,
    /// The faults that were told last, so that they are told once.
    told: Mutex<Vec<FileFault>>,
}

/// A certificate as operators see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateView {
    pub cert: PathBuf,
    /// Unix time of its last valid second.
    pub not_after: i64,
}

impl Listener {
    pub fn new(loaded: Loaded) -> Arc<Self> {
        Arc::new(Self {
            loaded: ArcSwap::from_pointee(loaded),
            told: Mutex::default(),
        })
    }

    /// Whether it would be the same with this.
    pub fn says(&self, loaded: &Loaded) -> bool {
        **self.loaded.load() == *loaded
    }

    /// What the next handshake uses.
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.loaded.load().config)
    }

    /// Whether a certificate of this listener is for the host.
    pub fn covers(&self, host: &str) -> bool {
        let loaded = self.loaded.load();
        loaded.leaves.iter().any(|leaf| cover(&leaf.names, host))
    }

    pub fn certificates(&self) -> Vec<CertificateView> {
        let loaded = self.loaded.load();
        let leaves = loaded.leaves.iter();
        leaves
            .map(|leaf| CertificateView {
                cert: leaf.cert.clone(),
                not_after: leaf.not_after,
            })
            .collect()
    }

    /// Reads the files again and puts what they say in force for new handshakes; whether that is something new. Files
    /// with a fault change nothing. Blocks.
    ///
    /// # Errors
    /// Every fault that was not told at the last call.
    pub fn refresh(&self) -> Result<bool, Vec<FileFault>> {
        let known = self.loaded.load_full();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        match load(known.files()) {
            Ok(loaded) => {
                told.clear();
                let is_new = loaded != *known;
                if is_new {
                    self.loaded.store(Arc::new(loaded));
                }
                Ok(is_new)
            }
            Err(faults) => {
                let new: Vec<FileFault> = faults
                    .iter()
                    .filter(|fault| !told.contains(fault))
                    .cloned()
                    .collect();
                *told = faults;
                if new.is_empty() { Ok(false) } else { Err(new) }
            }
        }
    }
}
