//! What files said last, in force until they say something new.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwap, Guard};

use super::{FileFault, Leaf};

/// What can be read from its files once more.
pub(super) trait FromFiles: PartialEq + Sized {
    /// Reads the same files. Blocks.
    fn load_again(&self) -> Result<Self, Vec<FileFault>>;

    fn leaves(&self) -> &[Leaf];
}

/// A certificate as operators see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateView {
    pub cert: PathBuf,
    /// Unix time of its last valid second.
    pub not_after: i64,
}

/// Swapped whole.
#[derive(Debug)]
pub(super) struct Current<L> {
    loaded: ArcSwap<L>,
    /// The faults that were told last, so that they are told once.
    told: Mutex<Vec<FileFault>>,
}

impl<L: FromFiles> Current<L> {
    pub(super) fn new(loaded: L) -> Self {
        Self {
            loaded: ArcSwap::from_pointee(loaded),
            told: Mutex::default(),
        }
    }

    pub(super) fn load(&self) -> Guard<Arc<L>> {
        self.loaded.load()
    }

    pub(super) fn certificates(&self) -> Vec<CertificateView> {
        let loaded = self.loaded.load();
        let leaves = loaded.leaves().iter();
        leaves
            .map(|leaf| CertificateView {
                cert: leaf.cert.clone(),
                not_after: leaf.not_after,
            })
            .collect()
    }

    /// Reads the files again and puts what they say in force; whether that is something new. Files with a fault change
    /// nothing. Blocks.
    ///
    /// # Errors
    /// Every fault that was not told at the last call.
    pub(super) fn refresh(&self) -> Result<bool, Vec<FileFault>> {
        let known = self.loaded.load_full();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        match known.load_again() {
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
