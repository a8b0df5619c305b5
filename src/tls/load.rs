//! From the files of a listener to what a handshake uses, or to every fault at once.
//!
//! The cryptography is ring's: it is in the program already for calls to others, and builds with a C compiler alone.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};
use sha2::{Digest, Sha256};

use super::names::Certificates;
use super::validity::not_after;
use super::{CertificateFiles, FileFault, Files, Leaf, Loaded, Place};

/// Spoken by a client's choice.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// What is gathered while the files are read.
struct Loading {
    digest: Sha256,
    faults: Vec<FileFault>,
}

/// Reads a listener's files.
///
/// # Errors
/// Every fault of every file; never none.
pub fn load(files: &Files) -> Result<Loaded, Vec<FileFault>> {
    let provider = Arc::new(ring::default_provider());
    let mut loading = Loading {
        digest: Sha256::new(),
        faults: Vec::new(),
    };
    let mut found = Vec::new();
    for (index, files) in files.certificates.iter().enumerate() {
        found.extend(loading.certificate(index, files, &provider));
    }
    let verifier = files
        .client_ca
        .as_deref()
        .map(|path| loading.verifier(path, &provider));
    if !loading.faults.is_empty() {
        return Err(loading.faults);
    }
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
    match config {
        Ok(config) => Ok(Loaded {
            files: files.clone(),
            config: Arc::new(config),
            leaves: leaves.into(),
            digest: loading.digest.finalize().into(),
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
    config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
    // Sessions are resumed by tickets: nothing is kept here for a client that may come back to another worker.
    config.ticketer = ring::Ticketer::new().map_err(|why| why.to_string())?;
    Ok(config)
}

// === impl Loading ===

impl Loading {
    fn certificate(
        &mut self,
        index: usize,
        files: &CertificateFiles,
        provider: &CryptoProvider,
    ) -> Option<(Leaf, Arc<CertifiedKey>)> {
        let chain = self.chain(Place::Cert(index), &files.cert);
        let key = self.key(Place::Key(index), &files.key);
        let (chain, key) = (chain?, key?);
        let leaf = chain.first().and_then(|leaf| describe(leaf, &files.cert));
        let Some(leaf) = leaf else {
            return self.fault(Place::Cert(index), &files.cert, "not an X.509 certificate");
        };
        match CertifiedKey::from_der(chain, key, provider) {
            Ok(certified) => Some((leaf, Arc::new(certified))),
            Err(rustls::Error::InconsistentKeys(_)) => self.fault(
                Place::Key(index),
                &files.key,
                format!("not the key of {}", files.cert.display()),
            ),
            Err(why) => self.fault(Place::Key(index), &files.key, why.to_string()),
        }
    }

    fn chain(&mut self, place: Place, path: &Path) -> Option<Vec<CertificateDer<'static>>> {
        let bytes = self.read(place, path)?;
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
        match chain {
            Ok(chain) if chain.is_empty() => self.fault(place, path, "no certificate in PEM"),
            Ok(chain) => Some(chain),
            Err(why) => self.fault(place, path, format!("malformed PEM: {why}")),
        }
    }

    fn key(&mut self, place: Place, path: &Path) -> Option<PrivateKeyDer<'static>> {
        let bytes = self.read(place, path)?;
        match PrivateKeyDer::from_pem_slice(&bytes) {
            Ok(key) => Some(key),
            Err(rustls::pki_types::pem::Error::NoItemsFound) => {
                self.fault(place, path, "no private key in PEM")
            }
            // The message must not quote the file.
            Err(_) => self.fault(place, path, "malformed PEM"),
        }
    }

    fn verifier(
        &mut self,
        path: &Path,
        provider: &Arc<CryptoProvider>,
    ) -> Option<Arc<dyn ClientCertVerifier>> {
        let place = Place::ClientCa;
        let mut roots = RootCertStore::empty();
        for certificate in self.chain(place, path)? {
            if let Err(why) = roots.add(certificate) {
                return self.fault(place, path, why.to_string());
            }
        }
        let builder =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
        match builder.build() {
            Ok(verifier) => Some(verifier),
            Err(why) => self.fault(place, path, why.to_string()),
        }
    }

    fn read(&mut self, place: Place, path: &Path) -> Option<Vec<u8>> {
        match std::fs::read(path) {
            Ok(bytes) => {
                self.digest.update((bytes.len() as u64).to_be_bytes());
                self.digest.update(&bytes);
                Some(bytes)
            }
            Err(why) => self.fault(place, path, format!("cannot be read: {why}")),
        }
    }

    fn fault<T>(&mut self, place: Place, path: &Path, message: impl Into<String>) -> Option<T> {
        self.faults.push(FileFault {
            place,
            path: path.to_owned(),
            message: message.into(),
        });
        None
    }
}

fn describe(certificate: &CertificateDer<'_>, path: &Path) -> Option<Leaf> {
    let parsed = webpki::EndEntityCert::try_from(certificate).ok()?;
    let names = parsed.valid_dns_names().map(str::to_ascii_lowercase);
    Some(Leaf {
        cert: path.to_owned(),
        names: names.collect(),
        not_after: not_after(certificate)?,
    })
}
