//! A DNS name that a pool's endpoints are found by, as typed and as meant.

use std::fmt;
use std::net::SocketAddr;

use serde_json::{Value, json};
use toml::de::DeValue;

use super::form::{Form, Reading};
use super::leaf;
use super::table::table;

/// Where a pool's endpoints are looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dns {
    pub name: DnsName,
    /// Who is asked; empty = as the system says (`/etc/resolv.conf`).
    pub servers: Vec<SocketAddr>,
}

/// What is looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DnsName {
    /// A and AAAA records; every address with this port.
    Host { host: String, port: u16 },
    /// SRV records, which have ports and weights of their own: `_http._tcp.analyzer.svc`.
    Service(String),
}

table! {
    /// A DNS name, and who is asked for it.
    DnsTable {
        needs {
            /// host:port, or the name of a service: _http._tcp.analyzer.svc.
            name: DnsName,
        }
        has {
            /// Name servers; empty = as the system says.
            servers: Vec<SocketAddr> = Vec::new(),
        }
    }
}

impl DnsName {
    /// Reads `host:port`, or a service's name, which begins with `_`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let fault = |why: &str| {
            format!(
                "{text:?} is not a name like \"analyzer.svc:8080\" or \"_http._tcp.analyzer.svc\": {why}"
            )
        };
        if text.starts_with('_') {
            let labels: Vec<&str> = text.trim_end_matches('.').split('.').collect();
            let is_whole = labels.len() > 2
                && labels.iter().all(|label| is_label(label))
                && labels[1].starts_with('_');
            return if is_whole {
                Ok(Self::Service(text.to_ascii_lowercase()))
            } else {
                Err(fault("a service is _name._protocol.domain, without a port"))
            };
        }
        let leaf::Endpoint(endpoint) = leaf::parse_endpoint(text)?;
        let (host, port) = endpoint.rsplit_once(':').unwrap_or_default();
        if host.starts_with('[') || host.parse::<std::net::IpAddr>().is_ok() {
            return Err(fault("an address belongs in endpoints"));
        }
        let port = port
            .parse()
            .map_err(|_| fault("the port is not 1 to 65535"))?;
        let host = host.to_owned();
        Ok(Self::Host { host, port })
    }
}

fn is_label(label: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (1..=63).contains(&label.len()) && label.bytes().all(allowed)
}

impl fmt::Display for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host { host, port } => write!(f, "{host}:{port}"),
            Self::Service(name) => f.write_str(name),
        }
    }
}

impl fmt::Display for Dns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.name)?;
        if self.servers.is_empty() {
            return Ok(());
        }
        let servers: Vec<String> = self.servers.iter().map(ToString::to_string).collect();
        write!(f, " by {}", servers.join(", "))
    }
}

impl Form for Dns {
    fn read(value: &DeValue<'_>, key: &str, reading: &mut Reading<'_>) -> Option<Self> {
        if value.is_table() {
            let DnsTable { name, servers } = DnsTable::read(value, key, reading)?;
            return name.map(|name| Self { name, servers });
        }
        DnsName::read(value, key, reading).map(|name| Self {
            name,
            servers: Vec::new(),
        })
    }

    fn schema() -> Value {
        json!({ "anyOf": [DnsName::schema(), DnsTable::schema()] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_host_with_a_port_or_a_service() {
        let check = |text: &str, expected: &str| {
            let parsed = DnsName::parse(text).map(|name| name.to_string());
            assert_eq!(parsed.as_deref(), Ok(expected));
        };
        check("Analyzer.svc:8080", "analyzer.svc:8080");
        check("localhost:1", "localhost:1");
        check("_http._tcp.Analyzer.svc", "_http._tcp.analyzer.svc");
        for text in [
            "analyzer.svc",
            "analyzer.svc:0",
            "127.0.0.1:80",
            "[::1]:80",
            "_http._tcp",
            "_http.tcp.a",
            "_http._tcp.a:80",
            "_http._tcp..a",
            "",
        ] {
            assert!(DnsName::parse(text).is_err(), "{text:?} was accepted");
        }
    }
}
