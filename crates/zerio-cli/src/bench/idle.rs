//! What an idle server costs: processor time while clients are connected and nothing comes.
#![forbid(unsafe_code)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use zerio::{Config, Server};

use super::control::frame;
use super::harness::GRACE;
use super::plan::IdleCase;
use crate::cpu;
use crate::failure::Failure;

/// How many clients are connected.
pub(super) const SESSIONS: usize = 16;

/// What it cost.
pub(super) struct Cost {
    /// Percent of one core.
    pub(super) cpu_percent: f64,
    pub(super) driver: &'static str,
}

/// Measures one wait strategy; `None` where the system does not tell processor times. The clients are
/// bare sockets, which cost nothing, so that all of it is the server's.
pub(super) fn measure(case: &IdleCase) -> Result<Option<Cost>, Failure> {
    let mut config = Config::default();
    (config.wait, config.driver) = (case.wait, case.driver);
    let server = Server::bind("127.0.0.1:0")?.config(config).start()?;
    let address = server.local_addr();
    let clients: Vec<TcpStream> =
        (0..SESSIONS).map(|client| join(address, client)).collect::<Result<_, _>>()?;
    // What connecting has left to do is done by then.
    std::thread::sleep(case.run / 10);

    let begun = Instant::now();
    let Some(before) = cpu::used() else { return Ok(None) };
    std::thread::sleep(case.run);
    let Some(after) = cpu::used() else { return Ok(None) };
    let used = after.saturating_sub(before).as_secs_f64();
    let cpu_percent = 100.0 * used / begun.elapsed().as_secs_f64();
    drop(clients);
    Ok(Some(Cost { cpu_percent, driver: server.driver().name }))
}

/// Connects under an id of its own, and shakes hands.
fn join(address: SocketAddr, client: usize) -> Result<TcpStream, Failure> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(GRACE))?;
    let hello = frame(format!("idle-{client}").as_bytes());
    stream.write_all(&hello)?;
    let mut answer = vec![0; hello.len()];
    stream.read_exact(&mut answer)?;
    if answer != hello {
        return Err(Failure::new("the server refused an idle client"));
    }
    Ok(stream)
}
