//! The endpoints of a pool as listed: an address each, or a table with its weight and zone.

use serde_json::{Value, json};
use toml::de::DeValue;

use super::Pool;
use super::defaults::ENDPOINT_WEIGHT;
use super::faults::Faults;
use super::form::{Count, Form, Reading};
use super::leaf;
use super::table::table;

/// One endpoint of a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// `host:port`, the host in lower case. A name is resolved when a connection is made.
    pub address: String,
    /// Its share of the pool's requests beside the other endpoints' weights, 1 to 1000.
    pub weight: u32,
    /// Where it stands; `None` where nobody said.
    pub zone: Option<String>,
}

table! {
    /// An endpoint as a table.
    EndpointTable {
        needs {
            /// host:port.
            address: leaf::Endpoint,
        }
        has {
            /// Its share of the requests beside the others' weights.
            weight: Count<1, 1000> = Count(ENDPOINT_WEIGHT),
            /// Where it stands; empty = unknown.
            zone: String = String::new(),
        }
    }
}

/// An endpoint as typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct EndpointForm(Endpoint);

/// Checks the endpoints of the pool at `key`.
pub(super) fn check(typed: Vec<EndpointForm>, key: &str, faults: &mut Faults) -> Vec<Endpoint> {
    let key = format!("{key}.endpoints");
    if typed.is_empty() {
        faults.add(&key, "empty: a pool needs at least one endpoint");
    }
    let mut endpoints: Vec<Endpoint> = Vec::with_capacity(typed.len());
    for (index, EndpointForm(endpoint)) in typed.into_iter().enumerate() {
        let address = &endpoint.address;
        if endpoints.iter().any(|known| known.address == *address) {
            faults.add(
                &format!("{key}[{index}]"),
                format!("{address} is listed twice"),
            );
        }
        endpoints.push(endpoint);
    }
    endpoints
}

impl Endpoint {
    /// An endpoint at `address` that nothing more is known of.
    pub fn at(address: impl Into<String>) -> Self {
        Self {
            address: address.into(),
            weight: 1,
            zone: None,
        }
    }
}

impl Pool {
    /// The listed addresses, in order.
    pub fn addresses(&self) -> impl Iterator<Item = String> {
        self.endpoints
            .iter()
            .map(|endpoint| endpoint.address.clone())
    }
}

impl Form for EndpointForm {
    fn read(value: &DeValue<'_>, key: &str, reading: &mut Reading<'_>) -> Option<Self> {
        if !value.is_table() {
            let leaf::Endpoint(address) = leaf::Endpoint::read(value, key, reading)?;
            return Some(Self(Endpoint::at(address)));
        }
        let EndpointTable {
            address,
            weight,
            zone,
        } = EndpointTable::read(value, key, reading)?;
        Some(Self(Endpoint {
            address: address?.0,
            weight: u32::try_from(weight.0).unwrap_or(u32::MAX),
            zone: (!zone.is_empty()).then_some(zone),
        }))
    }

    fn schema() -> Value {
        json!({ "anyOf": [leaf::Endpoint::schema(), EndpointTable::schema()] })
    }
}
