//! A client of TLS that does less than any server: a connection, a full handshake of TLS 1.3, a request and its answer, again
//! and again. It looks at no certificate and remembers no session, so that the server is what is waited for.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, Stream};

const REQUEST: &[u8] =
    b"GET / HTTP/1.1\r\nhost: localhost\r\nx-learner-id: anna\r\nconnection: close\r\n\r\n";
/// Longer than any server should take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Everybody is believed.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

/// So many clients at once for so long; what they saw is printed as wrk would.
pub(super) fn run(to: SocketAddr, clients: usize, seconds: u64) -> io::Result<()> {
    let config = Arc::new(config().map_err(io::Error::other)?);
    let end = Instant::now() + Duration::from_secs(seconds);
    let threads: Vec<_> = (0..clients)
        .map(|_| {
            let config = Arc::clone(&config);
            thread::spawn(move || client(to, &config, end))
        })
        .collect();
    let (mut waits, mut failed) = (Vec::new(), 0);
    for thread in threads {
        let (seen, missed) = thread
            .join()
            .map_err(|_| io::Error::other("a client panicked"))?;
        waits.extend(seen);
        failed += missed;
    }
    waits.sort_unstable();
    let at = |share: usize| {
        waits
            .get(waits.len() * share / 100)
            .map_or(0, Duration::as_micros)
    };
    println!("50% {}us\n99% {}us", at(50), at(99));
    println!("requests {} failed {failed}", waits.len());
    Ok(())
}

fn client(to: SocketAddr, config: &Arc<ClientConfig>, end: Instant) -> (Vec<Duration>, u64) {
    let (mut waits, mut failed) = (Vec::new(), 0);
    while Instant::now() < end {
        let began = Instant::now();
        match visit(to, config) {
            Ok(true) => waits.push(began.elapsed()),
            Ok(false) | Err(_) => failed += 1,
        }
    }
    (waits, failed)
}

// Whether it was answered 200.
fn visit(to: SocketAddr, config: &Arc<ClientConfig>) -> io::Result<bool> {
    let mut socket = TcpStream::connect(to)?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
    let mut tls = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
    let mut stream = Stream::new(&mut tls, &mut socket);
    stream.write_all(REQUEST)?;
    let mut answer = Vec::with_capacity(4096);
    match stream.read_to_end(&mut answer) {
        // A server that ends the connection without saying so: what was read is judged.
        Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => return Err(error),
        Ok(_) | Err(_) => {}
    }
    Ok(answer.starts_with(b"HTTP/1.1 200"))
}

fn config() -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    Ok(config)
}

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    // Nothing older than TLS 1.3 is offered.
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2 was not offered".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
