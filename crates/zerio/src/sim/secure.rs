//! Worlds under TLS. With the cargo feature `tls`.
#![forbid(unsafe_code)]

use super::World;
use super::storm::{Failure, Figures, Storm, storm_of};
use crate::send::sealed::KEY_LIFE_LEAST;
use crate::tls::{TlsClient, TlsServer};

impl World {
    /// Whoever comes from now on speaks TLS 1.3: servers as this one, clients as that one.
    ///
    /// The same seed gives the same run here too, though what is sent is another each time: lengths and times are the same.
    /// That takes certificates and keys of the same lengths, as Ed25519 has them, with serial numbers of the same
    /// length (signatures of ECDSA have not); and a [`TlsServer`] and [`TlsClient`] that were made for this world, because
    /// clones share their tickets.
    ///
    /// ```
    /// use std::time::Duration;
    /// use zerio::sim::World;
    /// use zerio::tls::{TlsClient, TlsServer};
    /// use zerio::{Config, Context, Handler};
    ///
    /// struct Deaf;
    /// impl Handler for Deaf {
    ///     fn on_message(&mut self, _: &mut Context<'_>, _: &[u8]) {}
    /// }
    ///
    /// # let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    /// # let params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
    /// # let (certificate, key) = (params.self_signed(&key).unwrap().pem(), key.serialize_pem());
    /// # fn is_a_run(certificate: &str, key: &str) -> Result<(), zerio::Error> {
    /// let mut world = World::new(42);
    /// world.secure(
    ///     TlsServer::from_pem(certificate.as_bytes(), key.as_bytes())?,
    ///     TlsClient::with_roots(certificate.as_bytes())?.server_name("localhost")?,
    /// );
    /// let server = world.server(Config::default(), Deaf)?;
    /// let client = world.client(server.address(), "me", Config::default(), Deaf)?;
    /// world.run_for(Duration::from_secs(1));
    /// # let _ = client;
    /// # Ok(()) }
    /// # is_a_run(&certificate, &key).unwrap();
    /// ```
    pub fn secure(&mut self, server: TlsServer, client: TlsClient) {
        self.tls = Some((server, client));
    }
}

impl Storm {
    /// What the oracle has to know of how its world speaks TLS.
    pub(super) fn speak_tls(&mut self) {
        let Some((server, _)) = &self.world.tls else { return };
        let tickets = server.gives_tickets();
        // Longer than what a handshake's tickets take of it.
        let life = self.random.happens(400).then(|| KEY_LIFE_LEAST + self.random.of_any_size(8, 100));
        self.world.key_life = life;
        let mut ledger = self.ledger.borrow_mut();
        (ledger.tickets, ledger.key_life) = (tickets, life);
    }
}

/// A [`storm`](super::storm()) in which everybody who is to be understood speaks TLS 1.3, and hostile peers do so too, as
/// long as they like. What is said in [`World::secure`] holds here: to see a storm again, the certificates must be of the same
/// lengths, and `server` and `client` made for this one.
///
/// # Errors
///
/// What was not as it must be: a fault of the library.
pub fn storm_under_tls(
    seed: u64,
    steps: u64,
    server: TlsServer,
    client: TlsClient,
) -> Result<Figures, Failure> {
    storm_of(seed, steps, true, |world| world.secure(server, client))
}
