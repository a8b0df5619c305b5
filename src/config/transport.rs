//! What the endpoints of a pool speak: HTTP/1.1 or HTTP/2, in the clear or over TLS, and who they are told of first.

use rustls::pki_types::ServerName;

use super::faults::Faults;
use super::form::OrFalse;
use super::word::PoolTlsTable;
use super::{Dns, DnsName, Endpoint};
use crate::proxy_protocol::Version;
use crate::tls::{self, CertificateFiles, ClientFiles, ClientLoaded, Place};

/// What a pool is spoken to in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Http1,
    /// HTTP/2 over TLS: an endpoint that does not choose it by ALPN is not spoken to.
    Http2,
    /// HTTP/2 in the clear, by prior knowledge.
    H2c,
}

/// How the endpoints of a pool are spoken to.
#[derive(Clone, Debug, PartialEq)]
pub struct Transport {
    pub protocol: Protocol,
    pub tls: Option<PoolTls>,
    /// How a connection begins by saying whose it is; `None` = it does not.
    pub proxy_protocol: Option<Version>,
}

/// TLS of a pool.
#[derive(Clone, Debug, PartialEq)]
pub struct PoolTls {
    /// What the files said.
    pub loaded: ClientLoaded,
    /// Whom a certificate has to be for, which is also asked for by SNI; `None` = the endpoint's host.
    pub server_name: Option<ServerName<'static>>,
}

/// What the pool is given for it.
pub(super) struct Typed {
    pub(super) protocol: Protocol,
    pub(super) tls: Option<PoolTlsTable>,
    pub(super) proxy_protocol: OrFalse<Version>,
}

/// Where the endpoints of a pool are.
#[derive(Clone, Copy)]
pub(super) struct Found<'a> {
    pub(super) endpoints: &'a [Endpoint],
    /// Where they are looked up instead.
    pub(super) dns: Option<&'a Dns>,
}

// === impl Protocol ===

impl Protocol {
    /// The word of the file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http1 => "http1",
            Self::Http2 => "http2",
            Self::H2c => "h2c",
        }
    }

    pub const fn is_http2(self) -> bool {
        match self {
            Self::Http1 => false,
            Self::Http2 | Self::H2c => true,
        }
    }
}

// === impl Transport ===

impl Transport {
    /// HTTP/1.1 in the clear.
    pub const fn plain() -> Self {
        Self {
            protocol: Protocol::Http1,
            tls: None,
            proxy_protocol: None,
        }
    }

    /// Whether connections of the one could be used as those of the other.
    pub fn is_alike(&self, other: &Self) -> bool {
        let kind = |of: &Self| {
            let tls = of.tls.as_ref();
            tls.map(|tls| (tls.loaded.files().clone(), tls.server_name.clone()))
        };
        self.protocol == other.protocol
            && self.proxy_protocol == other.proxy_protocol
            && kind(self) == kind(other)
    }
}

/// Whom the certificate of an endpoint has to be for where nobody said it: its host.
pub fn host_of(endpoint: &str) -> Option<ServerName<'static>> {
    let (host, _) = endpoint.rsplit_once(':')?;
    name(host)
}

/// The transport of the pool at `key`, whose endpoints are there.
pub(super) fn check(typed: Typed, found: Found<'_>, key: &str, faults: &mut Faults) -> Transport {
    let Typed { protocol, tls, .. } = typed;
    match (protocol, &tls) {
        (Protocol::Http2, None) => faults.add(
            &format!("{key}.protocol"),
            "\"http2\" is spoken over TLS, and the pool has no tls; in the clear it is \"h2c\"",
        ),
        (Protocol::H2c, Some(_)) => faults.add(
            &format!("{key}.protocol"),
            "\"h2c\" is spoken in the clear; over tls it is \"http2\"",
        ),
        (Protocol::Http1, _) | (Protocol::Http2, Some(_)) | (Protocol::H2c, None) => {}
    }
    let proxy_protocol = match typed.proxy_protocol {
        OrFalse::Off => None,
        OrFalse::On(version) => Some(version),
    };
    if proxy_protocol.is_some() && protocol.is_http2() {
        let message = "a PROXY header is of one client, and clients share the connections of HTTP/2: \
                       only for protocol = \"http1\"";
        faults.add(&format!("{key}.proxy_protocol"), message);
    }
    Transport {
        protocol,
        tls: tls.and_then(|tls| check_tls(protocol, tls, found, key, faults)),
        proxy_protocol,
    }
}

fn check_tls(
    protocol: Protocol,
    raw: PoolTlsTable,
    found: Found<'_>,
    key: &str,
    faults: &mut Faults,
) -> Option<PoolTls> {
    let table = format!("{key}.tls");
    let server_name = match raw.server_name {
        Some(typed) => {
            let server_name = name(&typed.0);
            if server_name.is_none() {
                let message = format!("no certificate can be for {:?}", typed.0);
                faults.add(&format!("{table}.server_name"), message);
            }
            server_name
        }
        None => default_name(found, key, faults),
    };
    let own = match (raw.cert, raw.key) {
        (Some(cert), Some(key)) => Some(CertificateFiles { cert, key }),
        (None, None) => None,
        (Some(_), None) => {
            faults.add(&format!("{table}.key"), "missing: cert needs its key");
            None
        }
        (None, Some(_)) => {
            faults.add(&format!("{table}.cert"), "missing: key needs its cert");
            None
        }
    };
    let files = ClientFiles {
        ca: raw.ca,
        own,
        protocol: Some(if protocol.is_http2() {
            "h2"
        } else {
            "http/1.1"
        }),
    };
    match tls::load_client(&files) {
        Ok(loaded) => Some(PoolTls {
            loaded,
            server_name,
        }),
        Err(found) => {
            for fault in found {
                faults.add(&place(fault.place, &table), fault.to_string());
            }
            None
        }
    }
}

// Whom certificates have to be for where nobody said it. Endpoints that are looked up are known by their addresses, and
// their certificates are for the name; a service's targets have names that are not kept.
fn default_name(found: Found<'_>, key: &str, faults: &mut Faults) -> Option<ServerName<'static>> {
    for (index, Endpoint { address, .. }) in found.endpoints.iter().enumerate() {
        if host_of(address).is_none() {
            let message = format!("no certificate can be for {address}: set tls.server_name");
            faults.add(&format!("{key}.endpoints[{index}]"), message);
        }
    }
    let DnsName::Host { host, .. } = &found.dns?.name else {
        let message = "missing: endpoints of a service have no name of their own";
        faults.add(&format!("{key}.tls.server_name"), message);
        return None;
    };
    let server_name = name(host);
    if server_name.is_none() {
        let message = format!("no certificate can be for {host}: set tls.server_name");
        faults.add(&format!("{key}.dns"), message);
    }
    server_name
}

pub(super) fn place(place: Place, table: &str) -> String {
    match place {
        Place::Cert(_) => format!("{table}.cert"),
        Place::Key(_) => format!("{table}.key"),
        Place::Ca | Place::ClientCa => format!("{table}.ca"),
    }
}

fn name(host: &str) -> Option<ServerName<'static>> {
    let bare = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(host);
    ServerName::try_from(bare.to_owned()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_for_the_host_of_an_endpoint() {
        for (endpoint, expected) in [
            ("127.0.0.1:80", Some("127.0.0.1")),
            ("[::1]:80", Some("::1")),
            ("analyzer.svc:8443", Some("analyzer.svc")),
            ("a..b:80", None),
        ] {
            let found = host_of(endpoint).map(|name| name.to_str().into_owned());
            assert_eq!(found.as_deref(), expected, "{endpoint}");
        }
    }
}
