//! `zerio bench --grid-host`: the servers of a grid, for clients in another process or on another machine. They send back
//! what comes, over zerio on as many ports as there are servers, and over plain TCP on as many behind those.
#![forbid(unsafe_code)]

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::mpsc::channel;

use zerio::{Config, Context, SendError, Server};

use crate::args;
use crate::failure::Failure;
use crate::interrupt;
use crate::settings::not_everywhere;

/// Where the server of this number is over zerio, and where over plain TCP.
pub(super) fn addresses(first: SocketAddr, servers: u16, number: u16) -> Result<[SocketAddr; 2], Failure> {
    let at = |offset: u32| {
        let port = u16::try_from(u32::from(first.port()) + offset);
        let port = port.map_err(|_| {
            let last = u16::MAX - 2 * servers + 1;
            Failure::Usage(format!(
                "{first}: {servers} servers take twice as many ports; give {last} or a lower one"
            ))
        });
        port.map(|port| SocketAddr::new(first.ip(), port))
    };
    Ok([at(number.into())?, at(u32::from(servers) + u32::from(number))?])
}

/// The configuration of both sides, for messages of up to so many bytes.
pub(super) fn config(longest: usize) -> Config {
    let mut config = Config::default();
    config.message_max = config.message_max.max(longest);
    let frame = (longest + 4).next_power_of_two();
    config.send_ring = config.send_ring.max(4 * frame);
    config.receive_buffer = config.receive_buffer.max(4 * frame);
    config
}

/// A server over zerio. Where an answer finds no room, nothing more is read from its peer before it has found some: a
/// thread waits for that, as those over plain TCP do.
pub(super) fn zerio(address: SocketAddr, config: Config) -> Result<Server, Failure> {
    let echo = |peer: &mut Context<'_>, message: &[u8]| {
        if peer.send(message) == Err(SendError::Full) {
            peer.pause();
            let (peer, message) = (peer.peer(), message.to_vec());
            std::thread::spawn(move || {
                while peer.send(&message) == Err(SendError::TimedOut) {}
                peer.resume()
            });
        }
    };
    Ok(Server::bind(address)?.config(config).on_message(echo).start()?)
}

/// A server over plain TCP, on threads that end with its clients; it takes so many of them.
pub(super) fn tcp(address: SocketAddr, clients: usize) -> Result<SocketAddr, Failure> {
    let listener = TcpListener::bind(address)
        .map_err(|error| Failure::new(format!("can't listen on {address} over plain TCP: {error}")))?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        for stream in listener.incoming().take(clients).flatten() {
            std::thread::spawn(move || send_back(stream));
        }
    });
    Ok(address)
}

/// Plain TCP has no frames: all messages of a test are of one size.
fn send_back(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut bytes = vec![0; 64 * 1024];
    loop {
        match stream.read(&mut bytes)? {
            0 => return Ok(()),
            len => stream.write_all(&bytes[..len])?,
        }
    }
}

/// Serves until Ctrl-C.
pub(super) fn run(address: &str, grid: &args::Grid, longest: usize) -> Result<(), Failure> {
    let (stop, stopped) = channel();
    interrupt::catch(move || {
        let _ = stop.send(());
    })?;
    let unresolved = |why: &dyn std::fmt::Display| Failure::new(format!("can't resolve {address}: {why}"));
    let mut found = address.to_socket_addrs().map_err(|error| unresolved(&error))?;
    let first = found.next().ok_or_else(|| unresolved(&"it has no address"))?;
    if first.port() == 0 {
        return Err(Failure::Usage(format!(
            "{address}: name a port, from which the clients find all of them"
        )));
    }
    not_everywhere(address, first, grid.insecure_everywhere)?;
    let servers = grid.servers;
    let mut running = Vec::new();
    for number in 0..servers {
        let [over_zerio, over_tcp] = addresses(first, servers, number)?;
        running.push(zerio(over_zerio, config(longest))?);
        tcp(over_tcp, usize::MAX)?;
    }
    let [.., last] = addresses(first, servers, servers - 1)?;
    let mut out = io::stdout();
    writeln!(
        out,
        "ready: ports {} to {} of {}, messages of up to {longest} bytes",
        first.port(),
        last.port(),
        first.ip()
    )
    .and_then(|()| out.flush())
    .map_err(Failure::output)?;
    let _ = stopped.recv();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::{Duration, Instant};

    use zerio::Client;

    #[test]
    fn an_answer_that_found_no_room_was_lost() {
        let message = [7; 10_000];
        let mut config = config(message.len());
        (config.socket_send_buffer, config.socket_receive_buffer) = (Some(64 * 1024), Some(64 * 1024));
        let server = zerio("127.0.0.1:0".parse().unwrap(), config.clone()).unwrap();
        let heard = Arc::new(AtomicU64::new(0));
        let answers = heard.clone();
        let client = Client::connect(server.local_addr(), "late").unwrap().config(config);
        let client = client.on_message(move |_, _| {
            answers.fetch_add(1, Ordering::Relaxed);
        });
        let client = client.start().unwrap();
        client.peer().pause().unwrap();
        // Nobody reads the answers yet, of which there are more than all rings and buffers on the way hold.
        let second = Duration::from_secs(1);
        let sent = (0..1000).take_while(|_| client.send_timeout(&message, second).is_ok()).count() as u64;
        client.peer().resume().unwrap();
        let begun = Instant::now();
        while heard.load(Ordering::Relaxed) < sent {
            assert!(begun.elapsed() < 60 * second, "{} answers of {sent}", heard.load(Ordering::Relaxed));
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn servers_over_tcp_stand_behind_those_over_zerio_and_all_of_them_below_the_last_port() {
        let first = "127.0.0.1:65530".parse().unwrap();
        let ports =
            |servers, number| addresses(first, servers, number).map(|found| found.map(|a| a.port())).ok();
        assert_eq!(ports(1, 0), Some([65530, 65531]));
        assert_eq!((ports(3, 0), ports(3, 2)), (Some([65530, 65533]), Some([65532, 65535])));
        assert_eq!((ports(4, 0), ports(4, 2)), (Some([65530, 65534]), None));
    }
}
