//! Whom we believe where nobody said it: the roots that browsers ship, and those in the file that the environment names
//! in `SSL_CERT_FILE`, where authorities of one's own belong.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// Names a PEM file of authorities to trust, as other programs do it.
const AUTHORITIES: &str = "SSL_CERT_FILE";

/// The roots that browsers ship, and those in a file of one's own. A file that cannot be read is told, and the others
/// are trusted all the same: whoever needs it learns so from the handshakes.
pub fn public() -> RootCertStore {
    trusting(own_file().as_deref())
}

/// The file of one's own, where the environment names one.
pub(super) fn own_file() -> Option<PathBuf> {
    let file: OsString = std::env::var_os(AUTHORITIES)?;
    (!file.is_empty()).then(|| file.into())
}

fn trusting(file: Option<&Path>) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    let Some(file) = file else {
        return roots;
    };
    match own_authorities(file) {
        Ok(own) => {
            // What is no authority is left out, as everywhere: such files are often collections.
            roots.add_parsable_certificates(own);
        }
        Err(why) => {
            tracing::error!(file = %file.display(), %why, "the file in {AUTHORITIES} cannot be read");
        }
    }
    roots
}

fn own_authorities(
    file: &Path,
) -> Result<Vec<CertificateDer<'static>>, rustls::pki_types::pem::Error> {
    CertificateDer::pem_file_iter(file)?.collect()
}
