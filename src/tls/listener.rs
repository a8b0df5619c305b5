//! One listener's TLS: what new handshakes use, and what is told of it.

use std::sync::Arc;

use rustls::ServerConfig;

use super::current::{CertificateView, Current, FromFiles};
use super::names::cover;
use super::watch::Watched;
use super::{FileFault, Leaf, Loaded, load};

/// What handshakes of one listener use.
#[derive(Debug)]
pub struct Listener(Current<Loaded>);

impl Listener {
    pub fn new(loaded: Loaded) -> Arc<Self> {
        Arc::new(Self(Current::new(loaded)))
    }

    /// Whether it would be the same with this.
    pub fn says(&self, loaded: &Loaded) -> bool {
        **self.0.load() == *loaded
    }

    /// What the next handshake uses.
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.0.load().config)
    }

    /// Whether a certificate of this listener is for the host.
    pub fn covers(&self, host: &str) -> bool {
        let loaded = self.0.load();
        loaded.leaves.iter().any(|leaf| cover(&leaf.names, host))
    }

    pub fn certificates(&self) -> Vec<CertificateView> {
        self.0.certificates()
    }

    /// Reads the files again and puts what they say in force for new handshakes; whether that is something new. Files
    /// with a fault change nothing. Blocks.
    ///
    /// # Errors
    /// Every fault that was not told at the last call.
    pub fn refresh(&self) -> Result<bool, Vec<FileFault>> {
        self.0.refresh()
    }
}

impl Watched for Listener {
    fn refresh(&self) -> Result<bool, Vec<FileFault>> {
        self.0.refresh()
    }

    fn certificates(&self) -> Vec<CertificateView> {
        self.0.certificates()
    }
}

impl FromFiles for Loaded {
    fn load_again(&self) -> Result<Self, Vec<FileFault>> {
        load(&self.files)
    }

    fn leaves(&self) -> &[Leaf] {
        &self.leaves
    }
}
