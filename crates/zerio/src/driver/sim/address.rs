//! Addresses on a simulated network.
#![forbid(unsafe_code)]

use std::net::{Ipv4Addr, SocketAddr};

/// The address of a network's listener number `n`.
pub(super) fn listening_address(n: usize) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::new(10, 255, 255, 1), 7000 + n as u16))
}

/// The address of who made a connection: each connection has its own.
pub(crate) fn address_of(connection: u32) -> SocketAddr {
    let [a, b, c, d] = connection.to_be_bytes();
    SocketAddr::from((Ipv4Addr::new(10, b, c, d), 40_000 + u16::from(a)))
}

/// The connection that was made from an address.
pub(crate) fn connection_of(address: SocketAddr) -> u32 {
    let SocketAddr::V4(address) = address else { return u32::MAX };
    let [_, b, c, d] = address.ip().octets();
    u32::from_be_bytes([(address.port() - 40_000) as u8, b, c, d])
}
