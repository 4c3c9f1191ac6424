//! Addresses on a simulated network.
#![forbid(unsafe_code)]

use std::net::{Ipv4Addr, SocketAddr};

/// The address of a network's listener number `n`.
pub(super) fn listening_address(n: usize) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::new(10, 255, 255, 1), 7000 + n as u16))
}

/// The address of who made a connection: each connection has its own, and those of one machine have an IP address
/// in common. Of the first 65,536 every fourth is of the same.
pub(crate) fn address_of(connection: u32) -> SocketAddr {
    let [a, b, ..] = connection.to_be_bytes();
    let (port, machine) = ((connection >> 2) as u16 & 0x3fff, connection as u8 & 3);
    SocketAddr::from((Ipv4Addr::new(10, a, b, machine), 40_000 + port))
}

/// The connection that was made from an address.
pub(crate) fn connection_of(address: SocketAddr) -> u32 {
    let SocketAddr::V4(address) = address else { return u32::MAX };
    let [_, a, b, machine] = address.ip().octets();
    let [c, d] = (((address.port() - 40_000) << 2) | u16::from(machine)).to_be_bytes();
    u32::from_be_bytes([a, b, c, d])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_leads_back_to_its_connection() {
        for connection in (0..70_000).chain([1 << 24, u32::MAX - 1, u32::MAX]) {
            assert_eq!(connection_of(address_of(connection)), connection);
        }
        assert_eq!(address_of(1).ip(), address_of(5).ip());
        assert_ne!(address_of(1).ip(), address_of(2).ip());
    }
}
