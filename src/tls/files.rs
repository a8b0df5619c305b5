//! Reading the files of certificates and keys: every fault is gathered, and what was read is known by its digest.
//!
//! Judges what a file says by itself. What certificates are used for is `load`'s and `client`'s.

use std::path::Path;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use sha2::{Digest, Sha256};

use super::validity::not_after;
use super::{CertificateFiles, FileFault, Leaf, Place};

/// What is gathered while files are read.
pub(super) struct Loading {
    digest: Sha256,
    faults: Vec<FileFault>,
}

impl Loading {
    pub(super) fn new() -> Self {
        Self {
            digest: Sha256::new(),
            faults: Vec::new(),
        }
    }

    /// Ends the reading with the digest of everything that was read.
    ///
    /// # Errors
    /// Every fault that was found; never none.
    pub(super) fn end(self) -> Result<[u8; 32], Vec<FileFault>> {
        if self.faults.is_empty() {
            Ok(self.digest.finalize().into())
        } else {
            Err(self.faults)
        }
    }

    /// A certificate with its key: the one with this place in the list.
    pub(super) fn certificate(
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

    /// The authorities of a file.
    pub(super) fn roots(&mut self, place: Place, path: &Path) -> Option<RootCertStore> {
        let mut roots = RootCertStore::empty();
        for certificate in self.chain(place, path)? {
            if let Err(why) = roots.add(certificate) {
                return self.fault(place, path, why.to_string());
            }
        }
        Some(roots)
    }

    /// Counts a file as read that is nobody's to judge; one that cannot be read is as good as none.
    pub(super) fn note(&mut self, path: &Path) {
        if let Ok(bytes) = std::fs::read(path) {
            self.take_in(&bytes);
        }
    }

    pub(super) fn fault<T>(
        &mut self,
        place: Place,
        path: &Path,
        message: impl Into<String>,
    ) -> Option<T> {
        self.faults.push(FileFault {
            place,
            path: path.to_owned(),
            message: message.into(),
        });
        None
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

    fn read(&mut self, place: Place, path: &Path) -> Option<Vec<u8>> {
        match std::fs::read(path) {
            Ok(bytes) => {
                self.take_in(&bytes);
                Some(bytes)
            }
            Err(why) => self.fault(place, path, format!("cannot be read: {why}")),
        }
    }

    fn take_in(&mut self, bytes: &[u8]) {
        self.digest.update((bytes.len() as u64).to_be_bytes());
        self.digest.update(bytes);
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
