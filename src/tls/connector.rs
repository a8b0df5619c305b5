//! One pool's TLS: what new handshakes with its endpoints use, and what is told of it.

use std::sync::Arc;

use rustls::ClientConfig;

use super::client::{ClientLoaded, load_client};
use super::current::{CertificateView, Current, FromFiles};
use super::watch::Watched;
use super::{FileFault, Leaf};

/// What handshakes with the endpoints of one pool use.
#[derive(Debug)]
pub struct Connector(Current<ClientLoaded>);

impl Connector {
    pub fn new(loaded: ClientLoaded) -> Arc<Self> {
        Arc::new(Self(Current::new(loaded)))
    }

    /// Whether it would be the same with this.
    pub fn says(&self, loaded: &ClientLoaded) -> bool {
        **self.0.load() == *loaded
    }

    /// What the next handshake uses.
    pub fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.0.load().config)
    }
}

impl Watched for Connector {
    fn refresh(&self) -> Result<bool, Vec<FileFault>> {
        self.0.refresh()
    }

    fn certificates(&self) -> Vec<CertificateView> {
        self.0.certificates()
    }
}

impl FromFiles for ClientLoaded {
    fn load_again(&self) -> Result<Self, Vec<FileFault>> {
        load_client(&self.files)
    }

    fn leaves(&self) -> &[Leaf] {
        &self.leaves
    }
}
