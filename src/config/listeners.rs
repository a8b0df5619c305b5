//! Listeners: addresses without duplicates, and the certificates of those that speak TLS.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use super::faults::Faults;
use super::raw;
use super::word::{CertificateTable, ListenTls};
use crate::tls::{self, CertificateFiles, Files, Loaded, Place};

/// What the listeners with TLS were given.
pub(super) fn check(raw: &raw::Server, faults: &mut Faults) -> BTreeMap<SocketAddr, Loaded> {
    if raw.listen.is_empty() {
        faults.add("server.listen", "empty: serin would listen nowhere");
    }
    let mut seen = BTreeSet::new();
    let mut secured = BTreeMap::new();
    for (index, listen) in raw.listen.iter().enumerate() {
        let key = format!("server.listen[{index}]");
        // Port 0 is a free port, another one each time.
        if listen.address.port() != 0 && !seen.insert(listen.address) {
            faults.add(&key, format!("{} is listed twice", listen.address));
        }
        if let Some(typed) = &listen.tls
            && let Some(loaded) = load(typed, tls::HTTP, &format!("{key}.tls"), faults)
        {
            secured.insert(listen.address, loaded);
        }
    }
    secured
}

/// Reads the files of the TLS at `key`, over which these protocols are spoken.
pub(super) fn load(
    raw: &ListenTls,
    protocols: &'static [&'static [u8]],
    key: &str,
    faults: &mut Faults,
) -> Option<Loaded> {
    let main = pair(raw.cert.as_ref(), raw.key.as_ref());
    let more = raw
        .sni
        .iter()
        .map(|CertificateTable { cert, key }| pair(cert.as_ref(), key.as_ref()));
    let certificates: Option<Vec<CertificateFiles>> = std::iter::once(main).chain(more).collect();
    let files = Files {
        // What is missing was told already.
        certificates: certificates?,
        client_ca: raw.client_ca.clone(),
        protocols,
    };
    let place = |place: Place| match place {
        Place::Cert(0) => format!("{key}.cert"),
        Place::Key(0) => format!("{key}.key"),
        Place::Cert(index) => format!("{key}.sni[{}].cert", index - 1),
        Place::Key(index) => format!("{key}.sni[{}].key", index - 1),
        Place::ClientCa | Place::Ca => format!("{key}.client_ca"),
    };
    match tls::load(&files) {
        Ok(loaded) => Some(loaded),
        Err(found) => {
            for fault in found {
                faults.add(&place(fault.place), fault.to_string());
            }
            None
        }
    }
}

fn pair(
    cert: Option<&std::path::PathBuf>,
    key: Option<&std::path::PathBuf>,
) -> Option<CertificateFiles> {
    Some(CertificateFiles {
        cert: cert?.clone(),
        key: key?.clone(),
    })
}
