//! What `benches/` measure of the request path that is not public: the work on a request's headers, as `service` does it. Nothing else
//! uses this.

use http::HeaderMap;
use http::header::HeaderValue;

use super::headers::{Peer, check_hops, forward, strip_claims, strip_request_hops};
use super::seen::Seen;
use super::service::dice;
use crate::live::Table;

/// A client's connection, as headers name it.
#[derive(Debug)]
pub struct Client(Peer);

impl Client {
    /// One at an IPv4 address, over HTTP in the clear.
    pub fn at(address: &'static str) -> Self {
        Self(Peer {
            address: HeaderValue::from_static(address),
            node: address.to_owned(),
            scheme: "http",
        })
    }

    /// What is checked, removed and said before a request goes on, of a peer that is not trusted. Answers whether it may.
    pub fn pass_on(&self, headers: &mut HeaderMap, table: &Table) -> bool {
        let seen = Seen::of(headers);
        if check_hops(headers, seen).is_err() {
            return false;
        }
        strip_request_hops(headers, seen);
        strip_claims(headers, table.rules(), false);
        forward(headers, &self.0, dice()).is_some()
    }
}
