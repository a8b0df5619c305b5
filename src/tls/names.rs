//! Which certificate a client gets: by the name it asks for.

use std::collections::HashMap;
use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// Certificates by the names that they are for.
#[derive(Debug)]
pub(super) struct Certificates {
    first: Arc<CertifiedKey>,
    exact: HashMap<String, Arc<CertifiedKey>>,
    /// `*.example.org` lies here as `example.org`: one label stands for the star.
    below: HashMap<String, Arc<CertifiedKey>>,
}

impl Certificates {
    /// With the one for clients that name nobody. The first certificate of a name is the one that is used.
    pub(super) fn new(first: Arc<CertifiedKey>) -> Self {
        Self {
            first,
            exact: HashMap::new(),
            below: HashMap::new(),
        }
    }

    pub(super) fn add(&mut self, names: &[String], key: &Arc<CertifiedKey>) {
        for name in names {
            let (names, name) = match name.strip_prefix("*.") {
                Some(rest) => (&mut self.below, rest),
                None => (&mut self.exact, name.as_str()),
            };
            names
                .entry(name.to_owned())
                .or_insert_with(|| Arc::clone(key));
        }
    }

    fn find(&self, name: &str) -> Option<&Arc<CertifiedKey>> {
        let name = name.to_ascii_lowercase();
        let below = |name: &str| self.below.get(name.split_once('.')?.1);
        self.exact.get(&name).or_else(|| below(&name))
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let found = hello.server_name().and_then(|name| self.find(name));
        Some(Arc::clone(found.unwrap_or(&self.first)))
    }
}

/// Whether one of these names is the host's, in any case.
pub(super) fn cover(names: &[String], host: &str) -> bool {
    names.iter().any(|name| match name.strip_prefix("*.") {
        Some(rest) => host
            .split_once('.')
            .is_some_and(|(_, below)| below.eq_ignore_ascii_case(rest)),
        None => host.eq_ignore_ascii_case(name),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_one_label() {
        let names = ["a.example".to_owned(), "*.b.example".to_owned()];
        for (host, expected) in [
            ("a.example", true),
            ("A.Example", true),
            ("x.a.example", false),
            ("x.b.example", true),
            ("y.x.b.example", false),
            ("b.example", false),
            ("", false),
        ] {
            assert_eq!(cover(&names, host), expected, "{host}");
        }
    }
}
