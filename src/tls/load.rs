//! From the files of a listener to what a handshake uses, or to every fault at once.
//!
//! The cryptography is ring's: it is in the program already for calls to others, and builds with a C compiler alone.

use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, ring};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::CertifiedKey;

use super::files::Loading;
use super::names::Certificates;
use super::{FileFault, Files, Leaf, Loaded, Place};

/// Reads a listener's files.
///
/// # Errors
/// Every fault of every file; never none.
pub fn load(files: &Files) -> Result<Loaded, Vec<FileFault>> {
    let provider = Arc::new(ring::default_provider());
    let mut loading = Loading::new();
    let mut found = Vec::new();
    for (index, files) in files.certificates.iter().enumerate() {
        found.extend(loading.certificate(index, files, &provider));
    }
    let verifier = files
        .client_ca
        .as_deref()
        .map(|path| verifier(&mut loading, path, &provider));
    let digest = loading.end()?;
    let (leaves, keys): (Vec<Leaf>, Vec<Arc<CertifiedKey>>) = found.into_iter().unzip();
    let config = keys
        .first()
        .ok_or_else(|| "no certificate".to_owned())
        .and_then(|first| {
            let mut certificates = Certificates::new(Arc::clone(first));
            for (leaf, key) in leaves.iter().zip(&keys) {
                certificates.add(&leaf.names, key);
            }
            config(certificates, verifier.flatten(), &provider)
        });
    let config = config.map(|mut config| {
        let protocols = files.protocols.iter();
        config.alpn_protocols = protocols.map(|name| name.to_vec()).collect();
        config
    });
    match config {
        Ok(config) => Ok(Loaded {
            files: files.clone(),
            config: Arc::new(config),
            leaves: leaves.into(),
            digest,
        }),
        Err(message) => Err(vec![FileFault {
            place: Place::Cert(0),
            path: Default::default(),
            message,
        }]),
    }
}

fn config(
    certificates: Certificates,
    verifier: Option<Arc<dyn ClientCertVerifier>>,
    provider: &Arc<CryptoProvider>,
) -> Result<ServerConfig, String> {
    // TLS 1.2 and 1.3.
    let builder = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_safe_default_protocol_versions()
        .map_err(|why| why.to_string())?;
    let builder = match verifier {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::new(certificates));
    // Sessions are resumed by tickets: nothing is kept here for a client that may come back to another worker.
    config.ticketer = ring::Ticketer::new().map_err(|why| why.to_string())?;
    Ok(config)
}

fn verifier(
    loading: &mut Loading,
    path: &Path,
    provider: &Arc<CryptoProvider>,
) -> Option<Arc<dyn ClientCertVerifier>> {
    let place = Place::ClientCa;
    let roots = loading.roots(place, path)?;
    let builder =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    match builder.build() {
        Ok(verifier) => Some(verifier),
        Err(why) => loading.fault(place, path, why.to_string()),
    }
}
