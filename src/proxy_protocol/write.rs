//! Writes a PROXY header, which goes before anything else.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{BLOCK_V4, BLOCK_V6, Introduction, LOCAL, PROXY, SIGNATURE, TCP_V4, TCP_V6, Version};

/// Source and destination in the one family that a header has.
enum Pair {
    V4([Ipv4Addr; 2]),
    V6([Ipv6Addr; 2]),
}

/// The header for a client's connection, or for one that is the writer's own, as of a health check.
pub fn write(version: Version, introduction: Option<&Introduction>) -> Vec<u8> {
    match version {
        Version::V1 => line(introduction),
        Version::V2 => binary(introduction),
    }
}

fn line(introduction: Option<&Introduction>) -> Vec<u8> {
    let Some(introduction) = introduction else {
        return b"PROXY UNKNOWN\r\n".to_vec();
    };
    let [from, to] = ports(introduction);
    let text = match Pair::of(introduction) {
        Pair::V4([source, destination]) => {
            format!("PROXY TCP4 {source} {destination} {from} {to}\r\n")
        }
        Pair::V6([source, destination]) => {
            format!("PROXY TCP6 {source} {destination} {from} {to}\r\n")
        }
    };
    text.into_bytes()
}

fn binary(introduction: Option<&Introduction>) -> Vec<u8> {
    let mut header = SIGNATURE.to_vec();
    let Some(introduction) = introduction else {
        header.extend([LOCAL, 0, 0, 0]);
        return header;
    };
    match Pair::of(introduction) {
        Pair::V4(pair) => {
            header.extend([PROXY, TCP_V4, 0, BLOCK_V4]);
            header.extend(pair.map(|address| address.octets()).as_flattened());
        }
        Pair::V6(pair) => {
            header.extend([PROXY, TCP_V6, 0, BLOCK_V6]);
            header.extend(pair.map(|address| address.octets()).as_flattened());
        }
    }
    header.extend(ports(introduction).map(u16::to_be_bytes).as_flattened());
    header
}

fn ports(introduction: &Introduction) -> [u16; 2] {
    [introduction.source.port(), introduction.destination.port()]
}

impl Pair {
    // Where the families differ, IPv4 is written as IPv6 writes it.
    fn of(introduction: &Introduction) -> Self {
        let source = introduction.source.ip().to_canonical();
        let destination = introduction.destination.ip().to_canonical();
        match (source, destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => Self::V4([source, destination]),
            (source, destination) => Self::V6([as_v6(source), as_v6(destination)]),
        }
    }
}

fn as_v6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}
