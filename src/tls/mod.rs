//! TLS towards learners and towards pools: certificates from files to what a handshake uses, and anew when the files
//! change.
//!
//! `files` reads, `load` judges what a listener has and `client` what a pool has, `roots` are believed where nobody said
//! whom, `validity` reads a certificate's days, `names` chooses one by the name that a client asks for; `listener` and
//! `connector` hold what is in force, and `watch` keeps it fresh. Never touches a connection: one that was made keeps
//! what it was made with.

mod client;
mod connector;
mod current;
mod files;
mod listener;
mod load;
mod names;
pub mod roots;
mod validity;
mod watch;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::ServerConfig;

pub use client::{ClientFiles, ClientLoaded, load_client};
pub use connector::Connector;
pub use current::CertificateView;
pub use listener::Listener;
pub use load::load;
pub use watch::{Watched, watch};

/// What a listener offers by ALPN, the best first; its clients choose. A client that speaks HTTP/1.0 alone names that.
pub const HTTP: &[&[u8]] = &[b"h2", b"http/1.1", b"http/1.0"];
pub const HTTP1: &[&[u8]] = &[b"http/1.1", b"http/1.0"];

/// The files of one listener, and what is spoken over TLS there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// The first is for clients that name nobody, or nobody known. Never empty.
    pub certificates: Vec<CertificateFiles>,
    /// Who may have signed a client's certificate; where it is set, a client without one is refused.
    pub client_ca: Option<PathBuf>,
    /// `HTTP`, or less.
    pub protocols: &'static [&'static [u8]],
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The chain in PEM, the server's own first.
    pub cert: PathBuf,
    /// Its private key in PEM: PKCS#8, PKCS#1 or SEC1.
    pub key: PathBuf,
}

/// Which file is meant: the certificate with this place, the CAs of clients, or those of endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Cert(usize),
    Key(usize),
    ClientCa,
    Ca,
}

/// What is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {message}", path = path.display())]
pub struct FileFault {
    pub place: Place,
    pub path: PathBuf,
    pub message: String,
}

/// Files as they were read: ready for handshakes. Equal if and only if the files said the same.
#[derive(Clone)]
pub struct Loaded {
    files: Files,
    config: Arc<ServerConfig>,
    leaves: Arc<[Leaf]>,
    /// SHA-256 of everything that was read.
    digest: [u8; 32],
}

/// What is told of one certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Leaf {
    cert: PathBuf,
    /// In lower case.
    names: Vec<String>,
    /// The last second of its validity, as Unix time.
    not_after: i64,
}

// === impl Loaded ===

impl Loaded {
    pub fn files(&self) -> &Files {
        &self.files
    }
}

impl PartialEq for Loaded {
    fn eq(&self, other: &Self) -> bool {
        self.files == other.files && self.digest == other.digest
    }
}

// Shows no key.
impl fmt::Debug for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loaded")
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}
