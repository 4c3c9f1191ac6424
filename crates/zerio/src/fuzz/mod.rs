//! What the fuzzer feeds, one function a target: each takes arbitrary bytes and panics where the library does
//! something else than a naive model of it. `fuzz/` at the workspace's root calls them; `cargo test` replays
//! the inputs that fuzzing has found worth keeping. No part of the library's interface.
#![forbid(unsafe_code)]

mod framer;
mod handshake;
#[cfg(feature = "sim")]
mod network;
#[cfg(feature = "tls")]
mod records;
mod ring;
mod server;
#[cfg(all(feature = "sim", feature = "tls"))]
mod tls;

pub use framer::framer;
pub use handshake::handshake;
#[cfg(feature = "sim")]
pub use network::network;
#[cfg(feature = "tls")]
pub use records::records;
pub use ring::ring;
pub use server::server;
#[cfg(all(feature = "sim", feature = "tls"))]
pub use tls::tls;

/// Arbitrary bytes, read as what a target needs; zeros when they are used up.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or(0)
    }

    /// A number below `end`, from two bytes.
    fn below(&mut self, end: usize) -> usize {
        usize::from(u16::from_le_bytes([self.byte(), self.byte()])) % end
    }

    /// The next `len` bytes, or as many as there are.
    fn take(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }

    fn rest(self) -> &'a [u8] {
        self.0
    }
}

/// The frame of a message.
fn frame(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u32).to_le_bytes()[..], message].concat()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    fn replay(name: &str, target: fn(&[u8])) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(name);
        let mut inputs = 0;
        for entry in std::fs::read_dir(&folder).expect("the corpus stands beside the fuzzer") {
            let path = entry.unwrap().path();
            println!("{}", path.display());
            target(&std::fs::read(&path).unwrap());
            inputs += 1;
        }
        assert!(inputs > 0, "{} is empty", folder.display());
    }

    #[test]
    fn the_framers_corpus_finds_no_fault() {
        replay("framer", super::framer);
    }

    #[test]
    fn the_handshakes_corpus_finds_no_fault() {
        replay("handshake", super::handshake);
    }

    #[cfg(feature = "sim")]
    #[test]
    fn the_networks_corpus_finds_no_fault() {
        replay("network", super::network);
    }

    #[cfg(feature = "tls")]
    #[test]
    fn the_records_corpus_finds_no_fault() {
        replay("records", super::records);
    }

    #[test]
    fn the_rings_corpus_finds_no_fault() {
        replay("ring", super::ring);
    }

    #[test]
    fn the_servers_corpus_finds_no_fault() {
        replay("server", super::server);
    }

    /// Keys are other ones each time; what happens is not, or a finding could not be looked at.
    #[cfg(all(feature = "sim", feature = "tls"))]
    #[test]
    fn the_corpus_of_tls_finds_no_fault_and_each_input_does_the_same_again() {
        replay("tls", |input| assert_eq!(super::tls(input), super::tls(input)));
    }
}
