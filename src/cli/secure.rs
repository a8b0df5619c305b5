//! TLS to an admin port: whom its certificate has to be of, and what we show to one that asks who we are.
//!
//! `SERIN_ADMIN_CA` names a file of the authorities that are believed; without it they are the roots that browsers ship
//! and those in the file that `SSL_CERT_FILE` names. `SERIN_ADMIN_CERT` and `SERIN_ADMIN_KEY` are our own.

use std::env;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::tls::{CertificateFiles, ClientFiles, Connector, FileFault, Place, load_client};

/// The files that the environment names.
#[derive(Clone, Debug, Default)]
pub(super) struct Trust {
    ca: Option<PathBuf>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
}

/// What a handshake with the admin port uses.
#[derive(Clone, Debug)]
pub(super) struct Secure {
    connector: Arc<Connector>,
    name: ServerName<'static>,
}

/// Why no handshake can be tried.
#[derive(Debug, thiserror::Error)]
pub(super) enum SecureError {
    #[error("no certificate can be for {0:?}")]
    Name(String),
    #[error("SERIN_ADMIN_CERT and SERIN_ADMIN_KEY belong together, and only one is set")]
    Half,
    #[error("{variable}: {fault}")]
    File {
        variable: &'static str,
        fault: FileFault,
    },
    #[error("TLS cannot be set up")]
    Nothing,
}

impl Trust {
    pub(super) fn from_env() -> Self {
        let path = |name: &str| env::var_os(name).map(PathBuf::from);
        Self {
            ca: path("SERIN_ADMIN_CA"),
            cert: path("SERIN_ADMIN_CERT"),
            key: path("SERIN_ADMIN_KEY"),
        }
    }

    fn files(&self) -> Result<ClientFiles, SecureError> {
        let own = match (self.cert.clone(), self.key.clone()) {
            (Some(cert), Some(key)) => Some(CertificateFiles { cert, key }),
            (None, None) => None,
            (Some(_), None) | (None, Some(_)) => return Err(SecureError::Half),
        };
        Ok(ClientFiles {
            ca: self.ca.clone(),
            own,
            protocol: Some("http/1.1"),
        })
    }
}

impl Secure {
    pub(super) fn new(host: &str, trust: &Trust) -> Result<Self, SecureError> {
        let bare = host
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .unwrap_or(host);
        let name = ServerName::try_from(bare.to_owned());
        let name = name.map_err(|_| SecureError::Name(host.to_owned()))?;
        let loaded = load_client(&trust.files()?).map_err(first)?;
        Ok(Self {
            connector: Connector::new(loaded),
            name,
        })
    }

    pub(super) async fn shake_hands(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let connector = TlsConnector::from(self.connector.config());
        connector.connect(self.name.clone(), stream).await
    }
}

// One is enough to begin with.
fn first(faults: Vec<FileFault>) -> SecureError {
    let Some(fault) = faults.into_iter().next() else {
        return SecureError::Nothing;
    };
    let variable = match fault.place {
        Place::Ca | Place::ClientCa => "SERIN_ADMIN_CA",
        Place::Cert(_) => "SERIN_ADMIN_CERT",
        Place::Key(_) => "SERIN_ADMIN_KEY",
    };
    SecureError::File { variable, fault }
}
