//! `zerio serve --metrics`: what a server counts, for Prometheus to scrape, in its text format. It is read from the
//! counters file, so a scrape costs the engines nothing; a peer's id is in none of it, because there are as many
//! series as names.
#![forbid(unsafe_code)]

use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use zerio::{CountersFile, Error, Field, FieldKind, FieldScope, Histogram};

use crate::failure::Failure;

/// How long a scraper may take, to ask and to read together.
const PATIENCE: Duration = Duration::from_secs(2);

/// The longest request that is read; what a scraper asks is shorter.
const REQUEST_MAX: usize = 8192;

/// Answers scrapers on a thread of its own, as long as the process lives. Gives where it listens.
pub(crate) fn serve(address: &str, file: CountersFile) -> Result<SocketAddr, Failure> {
    let cannot = |why: io::Error| match address.parse() {
        Ok(address) => Failure::new(format!("for scrapers: {}", Error::Bind { address, why })),
        Err(_) => Failure::new(format!("can't listen on {address} for scrapers: {why}")),
    };
    let listener = TcpListener::bind(address).map_err(cannot)?;
    let bound = listener.local_addr().map_err(cannot)?;
    let answer_all = move || {
        for stream in listener.incoming() {
            // One after the other, and each for so long at the most: a scraper comes every few seconds.
            match stream {
                Ok(stream) => drop(answer(stream, &file)),
                // As for want of descriptors: it may be better in a moment.
                Err(_) => std::thread::sleep(Duration::from_millis(100)),
            }
        }
    };
    std::thread::Builder::new().name("zerio-metrics".into()).spawn(answer_all).map_err(Failure::from)?;
    Ok(bound)
}

/// A scraper's connection, as long as there is patience for it.
struct Visit {
    stream: TcpStream,
    until: Instant,
}

impl Visit {
    fn left(&self) -> io::Result<Option<Duration>> {
        match self.until.saturating_duration_since(Instant::now()) {
            Duration::ZERO => Err(io::ErrorKind::TimedOut.into()),
            left => Ok(Some(left)),
        }
    }
}

impl Read for Visit {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(self.left()?)?;
        self.stream.read(into)
    }
}

impl Write for Visit {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(self.left()?)?;
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

fn answer(stream: TcpStream, file: &CountersFile) -> io::Result<()> {
    let mut visit = Visit { stream, until: Instant::now() + PATIENCE };
    let mut request = Vec::new();
    let mut piece = [0; 1024];
    while !request.windows(4).any(|end| end == b"\r\n\r\n") && request.len() < REQUEST_MAX {
        match visit.read(&mut piece)? {
            0 => break,
            len => request.extend_from_slice(&piece[..len]),
        }
    }
    let line = request.split(|&byte| byte == b'\r').next().unwrap_or_default();
    let words: Vec<&[u8]> = line.split(|&byte| byte == b' ').collect();
    let (status, body) = match words[..] {
        [b"GET", path, ..] if path.split(|&byte| byte == b'?').next() == Some(b"/metrics") => {
            ("200 OK", page(file))
        }
        [b"GET", ..] => ("404 Not Found", "it is at /metrics\n".to_owned()),
        _ => ("405 Method Not Allowed\r\nAllow: GET", "GET /metrics is all there is\n".to_owned()),
    };
    let len = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\nContent-Length: {len}\r\n\
         Connection: close\r\n\r\n"
    );
    visit.write_all(head.as_bytes())?;
    visit.write_all(body.as_bytes())
}

/// All of it, in the text format, version 0.0.4.
fn page(file: &CountersFile) -> String {
    let (fields, writer, snapshot) = (file.fields(), file.writer(), file.read());
    let mut page = String::new();
    for (name, what, value) in [
        ("start_time_seconds", "When the server was started, since 1970.", writer.started as f64 / 1e9),
        ("sessions_max", "How many sessions it has at the most.", writer.sessions_max as f64),
        ("send_ring_bytes", "Each session's send ring.", writer.send_ring as f64),
    ] {
        head(&mut page, &format!("zerio_{name}"), what, "gauge");
        let _ = writeln!(page, "zerio_{name} {value}");
    }
    for field in fields.iter().filter(|field| field.scope == FieldScope::Engine) {
        let (name, kind) = match field.kind {
            FieldKind::Counter => (format!("{}_total", name(field)), "counter"),
            FieldKind::Gauge => (name(field), "gauge"),
            _ => continue,
        };
        head(&mut page, &name, &field.meaning, kind);
        for engine in &snapshot.engines {
            let value = in_base_unit(field, engine.get(&field.label).unwrap_or(0));
            let _ = writeln!(page, "{name}{{engine=\"{}\"}} {value}", engine.engine);
        }
    }
    for (label, what) in [
        ("bytes_unsent", "Of the session whose ring is the fullest: the bytes in it."),
        ("bytes_unsent_max", "The most bytes that were in the ring of a session that is connected now."),
        ("oldest_unsent_ns", "Of all sessions: how long the oldest unsent byte has been waiting."),
    ] {
        let Some(field) = fields.iter().find(|field| field.label == label) else { continue };
        let most = snapshot.sessions.iter().filter_map(|session| session.get(label)).max().unwrap_or(0);
        let name = format!("zerio_session_most_{}", name(field).trim_start_matches("zerio_"));
        head(&mut page, &name, what, "gauge");
        let _ = writeln!(page, "{name} {}", in_base_unit(field, most));
    }
    for field in fields.iter().filter(|field| field.scope == FieldScope::Histogram) {
        if let Some(times) = snapshot.histogram(&field.label) {
            buckets(&mut page, field, times);
        }
    }
    page
}

fn head(page: &mut String, name: &str, meaning: &str, kind: &str) {
    let meaning = meaning.replace('\\', "\\\\").replace('\n', "\\n");
    let _ = writeln!(page, "# HELP {name} {meaning}\n# TYPE {name} {kind}");
}

fn buckets(page: &mut String, field: &Field, times: &Histogram) {
    let (name, seconds) = (name(field), |nanos: u64| nanos as f64 / 1e9);
    head(page, &name, &field.meaning, "histogram");
    for (time, count) in times.cumulative() {
        let _ = writeln!(page, "{name}_bucket{{le=\"{}\"}} {count}", seconds(time));
    }
    let (sum, count) = (seconds(times.sum()), times.count());
    let _ = writeln!(page, "{name}_bucket{{le=\"+Inf\"}} {count}\n{name}_sum {sum}\n{name}_count {count}");
}

/// A field's name with its unit, which is one of Prometheus' base units.
fn name(field: &Field) -> String {
    match field.label.strip_suffix("_ns") {
        Some(label) => format!("zerio_{label}_seconds"),
        None => format!("zerio_{}", field.label),
    }
}

fn in_base_unit(field: &Field, value: u64) -> f64 {
    if field.label.ends_with("_ns") { value as f64 / 1e9 } else { value as f64 }
}
