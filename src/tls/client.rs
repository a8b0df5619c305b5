//! From the files of a pool to what a handshake with its endpoints uses, or to every fault at once.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls::client::ResolvesClientCert;
use rustls::crypto::{CryptoProvider, ring};
use rustls::sign::{CertifiedKey, SingleCertAndKey};

use super::files::Loading;
use super::{CertificateFiles, FileFault, Leaf, Place, roots};

/// The files of one pool, and what is spoken over TLS there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientFiles {
    /// Who may have signed the endpoints' certificates; left out, the roots that browsers ship and those that the
    /// environment names in `SSL_CERT_FILE`.
    pub ca: Option<PathBuf>,
    /// What is shown to an endpoint that asks for a certificate.
    pub own: Option<CertificateFiles>,
    /// The one protocol that is offered by ALPN; none is offered where it is `None`.
    pub protocol: Option<&'static str>,
}

/// Files as they were read: ready for handshakes. Equal if and only if the files said the same.
#[derive(Clone)]
pub struct ClientLoaded {
    pub(super) files: ClientFiles,
    pub(super) config: Arc<ClientConfig>,
    pub(super) leaves: Arc<[Leaf]>,
    digest: [u8; 32],
}

/// Reads a pool's files.
///
/// # Errors
/// Every fault of every file; never none.
pub fn load_client(files: &ClientFiles) -> Result<ClientLoaded, Vec<FileFault>> {
    let provider = Arc::new(ring::default_provider());
    let mut loading = Loading::new();
    let roots = match &files.ca {
        Some(path) => loading.roots(Place::Ca, path),
        None => {
            if let Some(path) = roots::own_file() {
                loading.note(&path);
            }
            Some(roots::public())
        }
    };
    let own = files
        .own
        .as_ref()
        .and_then(|files| loading.certificate(0, files, &provider));
    let digest = loading.end()?;
    let (leaf, key) = own.unzip();
    let config = config(roots.unwrap_or_else(RootCertStore::empty), key, &provider);
    match config {
        Ok(mut config) => {
            config.alpn_protocols = files
                .protocol
                .map(|protocol| protocol.as_bytes().to_vec())
                .into_iter()
                .collect();
            Ok(ClientLoaded {
                files: files.clone(),
                config: Arc::new(config),
                leaves: leaf.into_iter().collect(),
                digest,
            })
        }
        Err(why) => Err(vec![FileFault {
            place: Place::Ca,
            path: Default::default(),
            message: why.to_string(),
        }]),
    }
}

fn config(
    roots: RootCertStore,
    own: Option<Arc<CertifiedKey>>,
    provider: &Arc<CryptoProvider>,
) -> Result<ClientConfig, rustls::Error> {
    // TLS 1.2 and 1.3; sessions are kept in memory and resumed, whichever worker made them.
    let builder = ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    Ok(match own {
        None => builder.with_no_client_auth(),
        Some(own) => {
            let own: Arc<dyn ResolvesClientCert> = Arc::new(SingleCertAndKey::from(own));
            builder.with_client_cert_resolver(own)
        }
    })
}

// === impl ClientLoaded ===

impl ClientLoaded {
    pub fn files(&self) -> &ClientFiles {
        &self.files
    }

    /// What handshakes use, for who makes them in a library of its own.
    pub fn handshakes(&self) -> &ClientConfig {
        &self.config
    }
}

impl PartialEq for ClientLoaded {
    fn eq(&self, other: &Self) -> bool {
        self.files == other.files && self.digest == other.digest
    }
}

// Shows no key.
impl fmt::Debug for ClientLoaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientLoaded")
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}
