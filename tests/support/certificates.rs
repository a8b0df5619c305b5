//! Certificates made by openssl, in a folder of their own, and clients that trust them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion,
};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

const CONFIG: &str = "[req]\ndistinguished_name = dn\nprompt = no\n[dn]\nCN = serin test\n\
                      [ca]\nbasicConstraints = critical, CA:TRUE\n\
                      [leaf]\nbasicConstraints = critical, CA:FALSE\nsubjectAltName = ${ENV::SAN}\n";

/// A CA, and what it signed.
pub(crate) struct Ca {
    folder: TempDir,
}

impl Ca {
    pub(crate) fn new() -> Self {
        let ca = Self {
            folder: tempfile::tempdir().expect("a folder"),
        };
        std::fs::write(ca.path("openssl.cnf"), CONFIG).expect("it is written");
        ca.openssl("DNS:none", &["-extensions", "ca"], "ca", 30);
        ca
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Makes `name.pem` and `name.key` for these names, as openssl writes them: `DNS:a.example`.
    pub(crate) fn sign(&self, name: &str, names: &str, days: u32) {
        let (ca, key) = (self.path("ca.pem"), self.path("ca.key"));
        let (ca, key) = (ca.to_str().expect("text"), key.to_str().expect("text"));
        let signed = ["-extensions", "leaf", "-CA", ca, "-CAkey", key];
        self.openssl(names, &signed, name, days);
    }

    fn openssl(&self, names: &str, more: &[&str], name: &str, days: u32) {
        let mut command = Command::new("openssl");
        command.args(["req", "-x509", "-newkey", "ec", "-nodes"]);
        command.args(["-pkeyopt", "ec_paramgen_curve:prime256v1"]);
        command.args(["-days", &days.to_string(), "-config"]);
        command.arg(self.path("openssl.cnf")).args(more).arg("-out");
        command
            .arg(self.path(&format!("{name}.pem")))
            .arg("-keyout");
        command.arg(self.path(&format!("{name}.key")));
        let output = command.env("SAN", names).output().expect("openssl");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
    }

    /// Shakes hands over a connection that blocks.
    pub(crate) fn secure_blocking(
        &self,
        stream: std::net::TcpStream,
        name: &str,
        protocols: &[&str],
    ) -> StreamOwned<ClientConnection, std::net::TcpStream> {
        let config = self.client(protocols, &[&rustls::version::TLS13], None);
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        let client = ClientConnection::new(config, name).expect("a client");
        StreamOwned::new(client, stream)
    }

    /// The end of a certificate's days, as openssl says it.
    pub(crate) fn end_of(&self, name: &str) -> String {
        let mut command = Command::new("openssl");
        command.args(["x509", "-noout", "-enddate", "-dateopt", "iso_8601", "-in"]);
        let output = command.arg(self.path(&format!("{name}.pem"))).output();
        let text = String::from_utf8(output.expect("openssl").stdout).expect("text");
        text.trim().trim_start_matches("notAfter=").to_owned()
    }

    /// `{ cert = .., key = .. }` of a certificate, with more keys.
    pub(crate) fn keys(&self, name: &str, more: &str) -> String {
        let (cert, key) = (format!("{name}.pem"), format!("{name}.key"));
        format!(
            "{{ cert = {:?}, key = {:?}{more} }}",
            self.path(&cert),
            self.path(&key)
        )
    }

    pub(crate) fn der(&self, name: &str) -> CertificateDer<'static> {
        der(&self.path(&format!("{name}.pem")))
    }

    /// What a client that trusts this CA speaks, with a certificate of its own or without.
    pub(crate) fn client(
        &self,
        protocols: &[&str],
        versions: &[&'static SupportedProtocolVersion],
        own: Option<&str>,
    ) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.der("ca")).expect("a root");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .expect("versions")
            .with_root_certificates(roots);
        let mut config = match own {
            None => builder.with_no_client_auth(),
            Some(name) => {
                let key = self.path(&format!("{name}.key"));
                let key = PrivateKeyDer::from_pem_file(key).expect("a key");
                let chain = vec![self.der(name)];
                builder.with_client_auth_cert(chain, key).expect("a pair")
            }
        };
        let protocols = protocols.iter().map(|name| name.as_bytes().to_vec());
        config.alpn_protocols = protocols.collect();
        Arc::new(config)
    }
}

fn der(path: &Path) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(path).expect("a certificate")
}

/// Connects and shakes hands.
pub(crate) async fn secure(
    address: std::net::SocketAddr,
    config: &Arc<ClientConfig>,
    name: &str,
) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await.expect("it listens");
    secure_over(stream, config, name).await
}

/// Shakes hands over a connection that is there.
pub(crate) async fn secure_over(
    stream: TcpStream,
    config: &Arc<ClientConfig>,
    name: &str,
) -> std::io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    TlsConnector::from(Arc::clone(config))
        .connect(name, stream)
        .await
}
