//! What bare sockets do over loopback here: there and back, spinning and blocking; and one way, under the
//! congestion control in force and under cubic.
#![forbid(unsafe_code)]

use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use super::measure::median;

/// So long each time, so often: the two that are compared take turns, and meet the same weather.
const TRIPS: Duration = Duration::from_millis(80);
const LANES: Duration = Duration::from_millis(120);
const ROUNDS: usize = 4;

/// So that nothing here waits for ever; a busy machine may keep a thread off its cores for seconds.
const GRACE: Duration = Duration::from_secs(10);

/// Bytes that go there and back, and those of one write one way.
const PING: usize = 36;
const PIECE: usize = 64 * 1024;

/// What it is compared with.
const USUAL: &str = "cubic";

/// Microseconds there and back.
pub(super) struct Trips {
    pub(super) spinning_us: f64,
    pub(super) blocking_us: f64,
}

/// One way.
pub(super) struct Lanes {
    /// The congestion control's name, and bytes in a second.
    pub(super) here: (String, f64),
    /// Under cubic; `None` where it is the one in force, and why where it can't be had.
    pub(super) usual: Option<Result<f64, String>>,
}

pub(super) fn trips() -> io::Result<Trips> {
    let (mut spinning, mut blocking) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        spinning.extend(round_trips(true)?);
        blocking.extend(round_trips(false)?);
    }
    Ok(Trips { spinning_us: median(spinning), blocking_us: median(blocking) })
}

fn round_trips(spins: bool) -> io::Result<Vec<f64>> {
    let (mut here, mut there) = pair()?;
    here.set_nonblocking(spins)?;
    there.set_nonblocking(spins)?;
    std::thread::scope(|scope| {
        let echo = scope.spawn(move || {
            let mut ping = [0; PING];
            while read(&mut there, &mut ping)? {
                there.write_all(&ping)?;
            }
            io::Result::Ok(())
        });
        let begun = Instant::now();
        let (mut ping, mut times) = ([0; PING], Vec::new());
        while begun.elapsed() < TRIPS {
            let sent = Instant::now();
            here.write_all(&ping)?;
            if !read(&mut here, &mut ping)? {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            times.push(sent.elapsed().as_nanos() as f64 / 1e3);
        }
        drop(here);
        echo.join().map_err(|_| io::Error::other("the echo has panicked"))??;
        Ok(times)
    })
}

/// Reads so much, spinning where the socket does not block; false at the end of the connection.
fn read(stream: &mut TcpStream, bytes: &mut [u8]) -> io::Result<bool> {
    let (mut filled, mut until) = (0, None);
    while filled < bytes.len() {
        match stream.read(&mut bytes[filled..]) {
            Ok(0) => return Ok(false),
            Ok(n) => (filled, until) = (filled + n, None),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                // Of a socket that blocks it means that it has waited for GRACE.
                if Instant::now() > *until.get_or_insert(Instant::now() + GRACE) {
                    return Err(ErrorKind::TimedOut.into());
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

/// Under the congestion control that the user named, or the system's own.
pub(super) fn lanes(named: Option<&str>) -> io::Result<Lanes> {
    let (name, first) = lane(named)?;
    let (mut here, mut usual, mut refused) = (vec![first], Vec::new(), None);
    for _ in 0..ROUNDS {
        if refused.is_none() && name != USUAL && !name.is_empty() {
            match lane(Some(USUAL)) {
                Ok((_, rate)) => usual.push(rate),
                Err(why) => refused = Some(why.to_string()),
            }
        }
        here.push(lane(named)?.1);
    }
    let usual = match refused {
        Some(why) => Some(Err(why)),
        None if usual.is_empty() => None,
        None => Some(Ok(median(usual))),
    };
    Ok(Lanes { here: (name, median(here)), usual })
}

/// Writes as much as the other side reads; which congestion control it was, and bytes in a second.
fn lane(congestion: Option<&str>) -> io::Result<(String, f64)> {
    let (mut here, mut there) = pair()?;
    let name = choose(&here, congestion)?;
    std::thread::scope(|scope| {
        let reader = scope.spawn(move || {
            let (mut room, mut all) = (vec![0; 4 * PIECE], 0_usize);
            loop {
                match there.read(&mut room) {
                    Ok(0) => return io::Result::Ok(all),
                    Ok(n) => all += n,
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
        });
        let (piece, begun) = (vec![7; PIECE], Instant::now());
        while begun.elapsed() < LANES {
            here.write_all(&piece)?;
        }
        drop(here);
        let all = reader.join().map_err(|_| io::Error::other("the reader has panicked"))??;
        Ok((name, all as f64 / begun.elapsed().as_secs_f64()))
    })
}

/// Sets the congestion control, where one is named, and tells which it is; "" where the system does not tell.
#[cfg(target_os = "linux")]
fn choose(stream: &TcpStream, congestion: Option<&str>) -> io::Result<String> {
    let socket = socket2::SockRef::from(stream);
    if let Some(name) = congestion {
        socket.set_tcp_congestion(name.as_bytes())?;
    }
    let name = socket.tcp_congestion()?;
    Ok(String::from_utf8_lossy(&name).trim_end_matches('\0').to_owned())
}

#[cfg(not(target_os = "linux"))]
fn choose(_: &TcpStream, _: Option<&str>) -> io::Result<String> {
    Ok(String::new())
}

/// Two ends of a connection over loopback.
fn pair() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let here = TcpStream::connect(listener.local_addr()?)?;
    let there = listener.accept()?.0;
    for stream in [&here, &there] {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(GRACE))?;
        stream.set_write_timeout(Some(GRACE))?;
    }
    Ok((here, there))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trips_and_lanes_come_to_an_end_with_figures() {
        let trips = trips().unwrap();
        assert!(trips.spinning_us > 0.0 && trips.blocking_us > 0.0);
        let lanes = lanes(None).unwrap();
        assert!(lanes.here.1 > 0.0);
        assert_eq!(lanes.here.0.is_empty(), !cfg!(target_os = "linux"));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_congestion_control_that_does_not_exist_is_refused() {
        assert!(lanes(Some("none-such")).is_err());
        assert_eq!(lane(Some("reno")).unwrap().0, "reno");
    }
}
