//! Secrets are overwritten when they are dropped, and shown by nothing: no error, no Debug output, no trace.
//!
//! The allocator of this test binary keeps what is in each block that is freed while somebody looks, which is where the
//! library's code runs: its engines are polled, on the test's own thread. The peer is rustls, on another thread, and its
//! key log says which secrets to look for. What rustls itself leaves behind is its own (docs/security.md says what): whose a
//! block is tells the stack on which it was allocated, for which Linux has names.
#![cfg(target_os = "linux")]
#![deny(unsafe_op_in_unsafe_fn)]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::backtrace::Backtrace;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt::{Debug, Write as _};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

use common::PATIENCE;
use common::certs::{Authority, Identity};
use common::raw::frame;
use ring::hkdf;
use rustls::crypto::ring::{cipher_suite, default_provider};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, KeyLog, RootCertStore, ServerConfig, ServerConnection,
    SupportedCipherSuite,
};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};
use zerio::tls::{TlsClient, TlsServer};
use zerio::{Client, Reason, Server};

/// The system's allocator, which keeps what it is given back.
struct Keeping;

thread_local! {
    /// What this thread frees is kept.
    static LOOKS: Cell<bool> = const { Cell::new(false) };
    /// Where each block was allocated.
    static ORIGINS: RefCell<HashMap<usize, Backtrace>> = RefCell::default();
    static KEPT: RefCell<Vec<Kept>> = const { RefCell::new(Vec::new()) };
}

/// What was in a block.
struct Kept {
    bytes: Vec<u8>,
    origin: Option<Backtrace>,
}

impl Kept {
    /// Whether a block is the library's own, and not that of a library that it calls.
    fn is_ours(&self) -> bool {
        const OTHERS: [&str; 4] = ["rustls", "rustls_pki_types", "ring", "webpki"];
        let Some(origin) = &self.origin else { return true };
        let frames = origin.to_string();
        let mut crates = frames.lines().filter_map(|line| {
            let name = line
                .trim_start()
                .trim_start_matches(|next: char| next.is_ascii_digit())
                .strip_prefix(": ")?;
            Some(name.trim_start_matches('<').split("::").next().unwrap_or(name))
        });
        let owner = crates.find(|owner| *owner == "zerio" || OTHERS.contains(owner));
        owner.is_none_or(|owner| owner == "zerio")
    }
}

impl Keeping {
    /// For a thread that looks: does so, without looking at that.
    fn aside(&self, what: impl FnOnce()) {
        if LOOKS.try_with(|looks| looks.replace(false)).unwrap_or(false) {
            what();
            LOOKS.set(true);
        }
    }
}

// SAFETY: every call is passed on to the system's allocator as it is; what is kept is a copy, made before the block goes.
unsafe impl GlobalAlloc for Keeping {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps `alloc`'s contract, which is the same.
        let block = unsafe { System.alloc(layout) };
        self.aside(|| {
            let origin = Backtrace::force_capture();
            ORIGINS.with_borrow_mut(|origins| drop(origins.insert(block.addr(), origin)));
        });
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        self.aside(|| {
            let origin = ORIGINS.with_borrow_mut(|origins| origins.remove(&block.addr()));
            let mut bytes = Vec::with_capacity(layout.size());
            // SAFETY: the block is so long, and nobody else's. Some of its bytes may never have been written; they are
            // whatever they are, which is what is looked at.
            unsafe {
                std::ptr::copy_nonoverlapping(block, bytes.as_mut_ptr(), layout.size());
                bytes.set_len(layout.size());
            }
            KEPT.with_borrow_mut(|all| all.push(Kept { bytes, origin }));
        });
        // SAFETY: as above; every block here comes from the system's allocator.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Keeping = Keeping;

/// Runs the library's code, and keeps what it frees.
fn looking<T>(code: impl FnOnce() -> T) -> T {
    LOOKS.set(true);
    let outcome = code();
    LOOKS.set(false);
    outcome
}

/// Bytes that must not be left, and whose they are.
struct Secret {
    name: String,
    bytes: Vec<u8>,
}

/// So many of its first bytes tell where a secret may stand.
const START: usize = 8;

impl Secret {
    /// Whether a text shows it: as it is, in hex, or as Debug shows bytes.
    fn is_in(&self, text: &str) -> bool {
        let start = &self.bytes[..START];
        let list =
            |each: fn(&u8) -> String, between| start.iter().map(each).collect::<Vec<_>>().join(between);
        let text = text.to_lowercase().replace(['\n', ' '], "");
        text.contains(&String::from_utf8_lossy(start).to_lowercase())
            || text.contains(&list(|byte| format!("{byte:02x}"), ""))
            || text.contains(&list(u8::to_string, ","))
    }

    fn new(name: impl Into<String>, bytes: &[u8]) -> Secret {
        assert!(bytes.len() >= 2 * START);
        Secret { name: name.into(), bytes: bytes.to_vec() }
    }
}

/// Which secrets stand in what was freed.
fn left(secrets: &[Secret]) -> Vec<String> {
    let mut by_start: HashMap<&[u8], Vec<&Secret>> = HashMap::new();
    let mut is_start = vec![false; 1 << 16];
    let pair = |bytes: &[u8]| usize::from(bytes[0]) << 8 | usize::from(bytes[1]);
    for secret in secrets {
        by_start.entry(&secret.bytes[..START]).or_default().push(secret);
        is_start[pair(&secret.bytes)] = true;
    }
    let mut left = Vec::new();
    for kept in KEPT.take() {
        let block = &kept.bytes;
        for at in (0..block.len().saturating_sub(START)).filter(|&at| is_start[pair(&block[at..])]) {
            for secret in by_start.get(&block[at..at + START]).into_iter().flatten() {
                if block[at..].starts_with(&secret.bytes) && kept.is_ours() {
                    left.push(format!("{}, {at} bytes into a block of {}", secret.name, block.len()));
                }
            }
        }
    }
    left
}

/// What rustls' peer tells of its sessions.
#[derive(Debug, Default)]
struct Log(Mutex<Vec<(String, Vec<u8>)>>);

impl KeyLog for Log {
    fn log(&self, label: &str, _: &[u8], secret: &[u8]) {
        self.0.lock().unwrap().push((label.to_owned(), secret.to_vec()));
    }
}

impl Log {
    /// The traffic secrets and those that follow them by three updates, and their keys. Not their IVs, which are no secrets
    /// alone: rustls leaves some behind.
    fn secrets(&self, suite: SupportedCipherSuite) -> Vec<Secret> {
        let key_len = if suite == cipher_suite::TLS13_AES_128_GCM_SHA256 { 16 } else { 32 };
        let mut secrets = Vec::new();
        for (label, secret) in self.0.lock().unwrap().iter() {
            let mut secret = secret.clone();
            for generation in 0..=3 {
                let name = format!("{label}, {generation} updates on");
                secrets.push(Secret::new(format!("the key of {name}"), &expand(&secret, "key", key_len)));
                secrets.push(Secret::new(name, &secret));
                secret = expand(&secret, "traffic upd", secret.len());
            }
        }
        assert!(secrets.len() >= 5 * 2 * 4, "the peer has told its secrets");
        secrets
    }
}

/// HKDF-Expand-Label (RFC 8446, 7.1), without a context.
fn expand(secret: &[u8], label: &str, len: usize) -> Vec<u8> {
    struct Len(usize);
    impl hkdf::KeyType for Len {
        fn len(&self) -> usize {
            self.0
        }
    }
    let algorithm = if secret.len() == 48 { hkdf::HKDF_SHA384 } else { hkdf::HKDF_SHA256 };
    let label = format!("tls13 {label}");
    let info = [&(len as u16).to_be_bytes()[..], &[label.len() as u8], label.as_bytes(), &[0]];
    let mut out = vec![0; len];
    let prk = hkdf::Prk::new_less_safe(algorithm, secret);
    prk.expand(&info, Len(len)).unwrap().fill(&mut out).unwrap();
    out
}

/// A private key, as it stands in its DER and in its PEM.
fn private(name: &str, identity: &Identity) -> Vec<Secret> {
    let der = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
    let lines: Vec<&str> = identity.key.lines().collect();
    // PKCS #8 of a key of P-256: 36 bytes that all of them have, the key, and its public key.
    let scalar = &der.secret_der()[36..68];
    assert_eq!(der.secret_der()[34..36], [4, 32]);
    vec![
        Secret::new(format!("{name} in DER"), scalar),
        Secret::new(format!("{name} in PEM, its start"), &lines[1].as_bytes()[48..]),
        Secret::new(format!("{name} in PEM, its end"), &lines[2].as_bytes()[..24]),
    ]
}

const SUITES: [SupportedCipherSuite; 3] = [
    cipher_suite::TLS13_AES_128_GCM_SHA256,
    cipher_suite::TLS13_AES_256_GCM_SHA384,
    cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
];

/// Says what a peer says that has been let in: messages, which come back, and that its key changes.
fn converse<S>(stream: &mut S, refresh: impl Fn(&mut S))
where
    S: Read + Write,
{
    for number in 0..3u8 {
        stream.write_all(&frame(&[number; 100])).unwrap();
        let mut echo = [0; 104];
        stream.read_exact(&mut echo).unwrap();
        assert_eq!(echo[..], frame(&[number; 100]));
        refresh(stream);
    }
}

fn provider(suite: SupportedCipherSuite) -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::CryptoProvider { cipher_suites: vec![suite], ..default_provider() })
}

fn chain(identity: &Identity) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let certificate = CertificateDer::from_pem_slice(identity.certificate.as_bytes()).unwrap();
    (vec![certificate], PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap())
}

/// A client of rustls', in a thread of its own, which ends in order.
fn client_of(
    address: SocketAddr,
    suite: SupportedCipherSuite,
    roots: RootCertStore,
    identity: &Identity,
    log: &Arc<Log>,
) -> thread::JoinHandle<()> {
    let (certificates, key) = chain(identity);
    let config = ClientConfig::builder_with_provider(provider(suite)).with_safe_default_protocol_versions();
    let config = config.unwrap().with_root_certificates(roots);
    let mut config = config.with_client_auth_cert(certificates, key).unwrap();
    config.key_log = log.clone();
    thread::spawn(move || {
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let tls = ClientConnection::new(Arc::new(config), name).unwrap();
        let socket = TcpStream::connect(address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut stream = rustls::StreamOwned::new(tls, socket);
        stream.write_all(&frame(b"a")).unwrap();
        let mut answer = [0; 5];
        stream.read_exact(&mut answer).unwrap();
        converse(&mut stream, |stream| stream.conn.refresh_traffic_keys().unwrap());
        stream.conn.send_close_notify();
        stream.flush().unwrap();
        let _ = stream.read(&mut answer);
    })
}

/// A server of rustls' for one client.
fn server_of(
    listener: TcpListener,
    suite: SupportedCipherSuite,
    identity: &Identity,
    log: &Arc<Log>,
) -> thread::JoinHandle<()> {
    let (certificates, key) = chain(identity);
    let config = ServerConfig::builder_with_provider(provider(suite)).with_safe_default_protocol_versions();
    let mut config = config.unwrap().with_no_client_auth().with_single_cert(certificates, key).unwrap();
    config.key_log = log.clone();
    thread::spawn(move || {
        let (socket, _) = listener.accept().unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let tls = ServerConnection::new(Arc::new(config)).unwrap();
        let mut stream = rustls::StreamOwned::new(tls, socket);
        let mut hello = [0; 5];
        stream.read_exact(&mut hello).unwrap();
        stream.write_all(&hello).unwrap();
        converse(&mut stream, |stream| stream.conn.refresh_traffic_keys().unwrap());
        stream.conn.send_close_notify();
        stream.flush().unwrap();
        let _ = stream.read(&mut hello);
    })
}

/// An authority, a server's identity and a client's.
fn identities() -> (Authority, Identity, Identity) {
    let authority = Authority::new("an authority");
    let (server, client) = (authority.signs(&["127.0.0.1"]), authority.signs(&["a"]));
    (authority, server, client)
}

fn roots(authority: &Authority) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.certificate.as_bytes()).unwrap()).unwrap();
    roots
}

#[test]
fn what_is_freed_is_looked_at() {
    let secret = Secret::new("a secret", &[7; 32]);
    looking(|| drop(vec![7; 31]));
    assert_eq!(left(std::slice::from_ref(&secret)), Vec::<String>::new());
    looking(|| drop([&[1; 5][..], &secret.bytes, &[2]].concat()));
    assert_eq!(left(&[secret]), ["a secret, 5 bytes into a block of 38"]);
}

#[test]
fn no_error_and_no_debug_output_shows_a_private_key() {
    let (authority, identity, other) = identities();
    let secrets = private("the key", &identity);
    let (certificate, key) = (&identity.certificate, &identity.key);
    let der = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    for (secret, shown) in secrets.iter().zip([&format!("{:#?}", der.secret_der()), key, key]) {
        assert!(secret.is_in(shown), "it would be seen");
    }
    let mut damaged = key.clone().into_bytes();
    damaged[100] = b'!';
    let damaged = String::from_utf8(damaged).unwrap();
    let unusable = [
        key.replace('\n', " "),
        key[..key.len() - 30].to_owned(),
        key.replacen("-----\n", "\n", 1),
        key.replace("PRIVATE KEY", "CERTIFICATE"),
        key.replace("PRIVATE", "ENCRYPTED PRIVATE"),
        key.replace("BEGIN PRIVATE", "BEGIN EC PRIVATE").replace("END PRIVATE", "END EC PRIVATE"),
        format!("{key}{}", other.certificate),
        damaged,
    ];
    let mut errors = 0;
    for pem in &unusable {
        let (pem, certificate, key) = (pem.as_bytes(), certificate.as_bytes(), key.as_bytes());
        let client = || authority.trusting();
        let outcomes = [
            TlsServer::from_pem(certificate, pem).map(drop),
            TlsServer::from_pem(pem, key).map(drop),
            TlsServer::from_pem(pem, pem).map(drop),
            identity.server().and_for_name("name", pem, pem).map(drop),
            identity.server().require_client_certificates(pem).map(drop),
            TlsClient::with_roots(pem).map(drop),
            client().certificate(certificate, pem).map(drop),
            client().certificate(pem, key).map(drop),
        ];
        for error in outcomes.into_iter().filter_map(Result::err) {
            errors += 1;
            let shown = format!("{error} {error:?} {error:#?}");
            for secret in &secrets {
                assert!(!secret.is_in(&shown), "{shown}");
            }
        }
    }
    assert!(errors > 6 * unusable.len(), "they can't be used");
    let client = authority.trusting().certificate(certificate.as_bytes(), key.as_bytes()).unwrap();
    let made = (
        Server::bind("127.0.0.1:0").unwrap().tls(identity.server()).start_polled(),
        identity.server(),
        client,
    );
    let shown = format!("{made:?} {made:#?}");
    assert!(!secrets.iter().any(|secret| secret.is_in(&shown)), "{shown}");
}

/// All that is traced, by whomever, as text.
#[derive(Clone, Default)]
struct Traced(Arc<Mutex<String>>);

impl Subscriber for Traced {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        span.record(&mut self.clone());
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, values: &Record<'_>) {
        values.record(&mut self.clone());
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        event.record(&mut self.clone());
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

impl Visit for Traced {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        writeln!(self.0.lock().unwrap(), "{field}: {value:?} {value:#?}").unwrap();
    }
}

#[test]
fn no_trace_of_a_session_or_of_who_is_kept_out_shows_a_secret() {
    let (authority, identity, client) = identities();
    let stranger = Authority::new("another authority").signs(&["a"]);
    let (log, traced, ended) = (Arc::new(Log::default()), Traced::default(), Arc::new(Mutex::new(None)));
    // Everybody's: an event that another test's thread came to first is one that a subscriber of this thread alone is never
    // asked about.
    tracing::subscriber::set_global_default(traced.clone()).unwrap();
    let tls = identity.server().require_client_certificates(authority.certificate.as_bytes()).unwrap();
    let end = ended.clone();
    let server = Server::bind("127.0.0.1:0").unwrap().tls(tls);
    let server = server.on_message(|peer, message| peer.send(message).unwrap());
    let server = server.on_disconnected(move |_, why| *end.lock().unwrap() = Some(why.reason));
    let mut server = server.start_polled().unwrap();
    let (address, suite) = (server.local_addr(), SUITES[0]);
    let peer = client_of(address, suite, roots(&authority), &client, &log);
    until_its_peer_closes(&ended, || _ = server.poll().unwrap());
    peer.join().unwrap();
    let (certificate, key) = (stranger.certificate.as_bytes(), stranger.key.as_bytes());
    let tls = authority.trusting().certificate(certificate, key).unwrap();
    let kept_out = thread::spawn(move || Client::connect(address, "a").unwrap().tls(tls).start().map(drop));
    while !kept_out.is_finished() || server.counters().engine.failed_handshakes == 0 {
        server.poll().unwrap();
    }
    assert!(kept_out.join().unwrap().is_err());
    drop(server);
    let traced = traced.0.lock().unwrap().clone();
    assert!(traced.contains("\"a\"") && traced.contains("authority"), "both were told of: {traced}");
    let keys = [&identity, &client, &stranger].map(|identity| private("a key", identity));
    for secret in log.secrets(SUITES[0]).iter().chain(keys.iter().flatten()) {
        assert!(!secret.is_in(&traced), "{} in {traced}", secret.name);
    }
}

/// Polls until the session has ended, which its peer does.
fn until_its_peer_closes(ended: &Mutex<Option<Reason>>, mut poll: impl FnMut()) {
    let begun = Instant::now();
    while ended.lock().unwrap().is_none() {
        assert!(begun.elapsed() < PATIENCE, "the session ends");
        poll();
        thread::yield_now();
    }
    assert_eq!(*ended.lock().unwrap(), Some(Reason::PeerClosed));
}

#[test]
fn a_server_whose_session_has_ended_leaves_no_secret_in_memory() {
    let (authority, server, client) = identities();
    let file = |name, pem: &String| {
        let path = std::env::temp_dir().join(format!("zerio-secrets-{}-{name}", std::process::id()));
        std::fs::write(&path, pem).unwrap();
        path
    };
    let files = (file("certificate", &server.certificate), file("key", &server.key));
    for suite in SUITES {
        let log = Arc::new(Log::default());
        let ended = Arc::new(Mutex::new(None));
        let mut polled = looking(|| {
            let tls = TlsServer::from_pem_files(&files.0, &files.1).unwrap();
            let tls = tls.require_client_certificates(authority.certificate.as_bytes()).unwrap();
            let (end, builder) = (ended.clone(), Server::bind("127.0.0.1:0").unwrap().tls(tls));
            builder
                .on_message(|peer, message| peer.send(message).unwrap())
                .on_disconnected(move |_, why| *end.lock().unwrap() = Some(why.reason))
                .start_polled()
                .unwrap()
        });
        let peer = client_of(polled.local_addr(), suite, roots(&authority), &client, &log);
        until_its_peer_closes(&ended, || looking(|| polled.poll().map(drop)).unwrap());
        looking(|| drop(polled));
        peer.join().unwrap();
        let mut secrets = log.secrets(suite);
        secrets.extend(private("the server's key", &server));
        assert_eq!(left(&secrets), Vec::<String>::new(), "{suite:?}");
    }
    for path in [files.0, files.1] {
        std::fs::remove_file(path).unwrap();
    }
}

#[test]
fn a_key_that_came_through_a_pipe_was_left_in_memory() {
    let (_, server, _) = identities();
    let (reader, mut writer) = std::io::pipe().unwrap();
    writer.write_all(server.key.as_bytes()).unwrap();
    drop(writer);
    let path = format!("/proc/self/fd/{}", reader.as_raw_fd());
    let certificate = std::env::temp_dir().join(format!("zerio-secrets-{}-piped", std::process::id()));
    std::fs::write(&certificate, &server.certificate).unwrap();
    looking(|| drop(TlsServer::from_pem_files(&certificate, &path).unwrap()));
    std::fs::remove_file(certificate).unwrap();
    assert_eq!(left(&private("the key", &server)), Vec::<String>::new());
}

#[test]
fn a_client_whose_session_has_ended_leaves_no_secret_in_memory() {
    let (authority, server, client) = identities();
    for suite in SUITES {
        let log = Arc::new(Log::default());
        let ended = Arc::new(Mutex::new(None));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let peer = server_of(listener, suite, &server, &log);
        let mut polled = looking(|| {
            let tls = TlsClient::with_roots(authority.certificate.as_bytes()).unwrap();
            let tls = tls.certificate(client.certificate.as_bytes(), client.key.as_bytes()).unwrap();
            let (end, builder) = (ended.clone(), Client::connect(address, "a").unwrap().tls(tls));
            builder
                .on_message(|peer, message| peer.send(message).unwrap())
                .on_disconnected(move |_, why| *end.lock().unwrap() = Some(why.reason))
                .start_polled()
                .unwrap()
        });
        until_its_peer_closes(&ended, || looking(|| polled.poll().map(drop)).unwrap());
        looking(|| drop(polled));
        peer.join().unwrap();
        let mut secrets = log.secrets(suite);
        secrets.extend(private("the client's key", &client));
        assert_eq!(left(&secrets), Vec::<String>::new(), "{suite:?}");
    }
}
