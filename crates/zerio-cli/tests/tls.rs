//! TLS as flags, and the certificates that `zerio certs` makes for them.
#![deny(unsafe_code)]

mod support;

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;
#[cfg(unix)]
use support::zerio;
use support::{Tool, address, line, lines_until, run, server, text};

/// A folder of this test's own that does not exist yet.
fn folder(name: &str) -> PathBuf {
    let folder =
        PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("tls-{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    folder
}

/// Certificates in a new folder, and the two commands that it printed, without their first word.
fn certs(name: &str, flags: &str) -> (String, [String; 2]) {
    let folder = folder(name).display().to_string();
    let output = run(&format!("certs {folder} {flags}"), b"");
    assert!(output.status.success(), "{}", text(&output.stderr));
    let lines = text(&output.stdout);
    let commands: Vec<String> =
        lines.lines().map(|line| line.strip_prefix("zerio ").unwrap().to_owned()).collect();
    (folder, commands.try_into().unwrap())
}

/// What a server takes that requires no certificates.
fn of_server(folder: &str) -> String {
    format!("--tls-cert {folder}/server.pem --tls-key {folder}/server.key")
}

/// What a client takes that has the certificate of this id.
fn of_client(folder: &str, id: &str) -> String {
    format!("--tls-ca {folder}/ca.pem --tls-cert {folder}/{id}.pem --tls-key {folder}/{id}.key")
}

/// Why a client does not become a session.
fn not_let_in(address: SocketAddr, flags: &str) -> String {
    let output = run(&format!("ping {address} --count 1 {flags}"), b"");
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stdout));
    text(&output.stderr)
}

#[test]
fn mutual_tls_in_two_commands() {
    let (folder, [serve, ping]) = certs("two", "--client alice,bob");
    let mut server = Tool::start(&serve.replace("serve ", "serve 127.0.0.1:0 "));
    let mut out = server.stdout();
    let address = address(&line(&mut out));
    assert!(ping.starts_with("ping 127.0.0.1:7000 --id alice "), "{ping}");
    let ping = ping.replace("127.0.0.1:7000", &address.to_string());
    let output = run(&format!("{ping} --count 3 --interval 0ms --json"), b"");
    assert!(output.status.success(), "{}", text(&output.stderr));
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(summary["received"], 3, "{summary}");
    lines_until(&mut out, "alice");

    let other = not_let_in(address, &format!("--id mallory {}", of_client(&folder, "bob")));
    assert!(other.contains("id not what the certificate says"), "{other}");
    assert!(other.contains("give the --id that --tls-cert names"), "{other}");
    let none = not_let_in(address, &format!("--id bob --tls-ca {folder}/ca.pem"));
    assert!(none.contains("certificate_required: it asks for a certificate; give --tls-cert"), "{none}");
    let plain = not_let_in(address, "--id bob");
    assert!(plain.contains("this server speaks TLS; give --tls-ca, and --tls-cert and --tls-key"), "{plain}");
}

#[test]
fn a_server_is_trusted_by_its_authority_and_its_name() {
    let (folder, _) = certs("name", "--server-names zerio.example");
    let (other, _) = certs("another", "");
    let (_server, address, _out) = server(&of_server(&folder));
    let unnamed = not_let_in(address, &format!("--tls-ca {folder}/ca.pem"));
    assert!(unnamed.contains("is for another name; connect to a name that it has"), "{unnamed}");
    let stranger = not_let_in(address, &format!("--tls-ca {other}/ca.pem --server-name zerio.example"));
    assert!(stranger.contains("not trusted here; give --tls-ca the authority"), "{stranger}");
    let ping = format!("ping {address} --count 1 --tls-ca {folder}/ca.pem --server-name zerio.example");
    assert!(run(&ping, b"").status.success());

    let (_plain, address, _out) = support::server("");
    let plain = not_let_in(address, &format!("--tls-ca {folder}/ca.pem"));
    assert!(plain.contains("does not speak TLS; leave --tls-ca out"), "{plain}");
}

#[test]
fn bench_takes_certificates_of_files() {
    let (folder, _) = certs("bench", "--client bench,other --server-names zerio.example");
    let smoke = format!(
        "bench --smoke --only round-trip --size 32 --wait park --drive thread --driver poll --json {} --tls-ca {folder}/ca.pem",
        of_server(&folder)
    );
    let of = |id: &str| {
        format!("--require-client-cert --client-cert {folder}/{id}.pem --client-key {folder}/{id}.key")
    };
    for flags in ["--server-name zerio.example", &format!("--server-name zerio.example {}", of("bench"))] {
        let output = run(&format!("{smoke} {flags}"), b"");
        assert!(output.status.success(), "{flags}: {}", text(&output.stderr));
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(report["round_trip"][0]["p50_us"].as_f64() > Some(0.0), "{report}");
    }
    let report = PathBuf::from(&folder).join("report.html");
    fs::write(&report, "the last one").unwrap();
    let unnamed = run(&format!("{smoke} --report {}", report.display()), b"");
    assert_eq!(fs::read_to_string(&report).unwrap(), "the last one", "it was emptied for a run that failed");
    assert_eq!(unnamed.status.code(), Some(1));
    assert!(text(&unnamed.stderr).contains("another name"), "{}", text(&unnamed.stderr));
    let other = run(&format!("{smoke} --server-name zerio.example {}", of("other")), b"");
    assert_eq!(other.status.code(), Some(1));
    assert!(text(&other.stderr).contains("id not what the certificate says"), "{}", text(&other.stderr));
    let alone = run(&format!("bench --smoke {}", of_server(&folder)), b"");
    assert_eq!(alone.status.code(), Some(2));
    assert!(text(&alone.stderr).contains("--tls-ca"), "{}", text(&alone.stderr));
}

#[test]
fn lines_go_under_tls_too_and_long_ones_have_room() {
    let (folder, _) = certs("lines", "");
    let flags = "--message-max 1m --count 2";
    let mut listen = Tool::start(&format!("listen 127.0.0.1:0 {flags} {}", of_server(&folder)));
    let (mut err, out) = (listen.stderr(), listen.stdout());
    let address = address(&line(&mut err));
    let long = "x".repeat(1_000_000);
    let send = format!("send {address} --message-max 1m --tls-ca {folder}/ca.pem");
    let sent = run(&send, format!("oui\n{long}\n").as_bytes());
    assert!(sent.status.success(), "{}", text(&sent.stderr));
    let lines: Vec<String> = std::io::BufRead::lines(out).map(Result::unwrap).collect();
    assert!(lines == ["oui", &long]);
    assert!(listen.wait().success());
}

#[test]
fn lines_come_from_those_alone_whose_certificate_says_who_they_are() {
    let (folder, _) = certs("mutual-lines", "--client alice,bob --server-names zerio.example");
    let strict = format!("--tls-ca {folder}/ca.pem --require-client-cert --count 1");
    let mut listen = Tool::start(&format!("listen 127.0.0.1:0 {strict} {}", of_server(&folder)));
    let (mut err, mut out) = (listen.stderr(), listen.stdout());
    let address = address(&line(&mut err));
    let send = |id: &str, of: &str| {
        let flags = format!("--id {id} --server-name zerio.example {of}");
        run(&format!("send {address} {flags}"), format!("of {id}\n").as_bytes())
    };
    let none = send("alice", &format!("--tls-ca {folder}/ca.pem"));
    assert_eq!(none.status.code(), Some(1));
    assert!(text(&none.stderr).contains("certificate_required"), "{}", text(&none.stderr));
    let other = send("alice", &of_client(&folder, "bob"));
    assert_eq!(other.status.code(), Some(1));
    assert!(text(&other.stderr).contains("id not what the certificate says"), "{}", text(&other.stderr));
    let alice = send("alice", &of_client(&folder, "alice"));
    assert!(alice.status.success(), "{}", text(&alice.stderr));
    assert_eq!(line(&mut out), "of alice");
    assert!(listen.wait().success());
}

#[test]
fn under_tls_every_interface_takes_no_flag() {
    let (folder, _) = certs("everywhere", "");
    let mut server = Tool::start(&format!("serve 0.0.0.0:0 {}", of_server(&folder)));
    let first = line(&mut server.stdout());
    assert!(address(&first).ip().is_unspecified(), "{first}");
}

#[test]
fn the_bill_has_what_is_sealed() {
    let (folder, _) = certs("bill", "");
    let bill = |flags: &str| -> Value {
        let output = run(&format!("serve --explain --json {flags}"), b"");
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let (plain, sealed) = (bill(""), bill(&of_server(&folder)));
    assert_eq!(plain["sealed"], 0);
    let more = sealed["total"].as_u64().unwrap() - plain["total"].as_u64().unwrap();
    assert!(more > 0 && sealed["sealed"] == more, "{sealed}");
}

#[test]
fn flags_that_do_nothing_alone_are_refused() {
    for wrong in [
        "serve --tls-cert a.pem",
        "serve --tls-key a.key",
        "serve --tls-ca ca.pem --tls-cert a.pem --tls-key a.key",
        "serve --require-client-cert --tls-cert a.pem --tls-key a.key",
        "listen --require-client-cert --tls-ca ca.pem",
        "ping 127.0.0.1:1 --tls-cert a.pem --tls-key a.key",
        "ping 127.0.0.1:1 --tls-ca ca.pem --tls-cert a.pem",
        "send 127.0.0.1:1 --server-name zerio.example",
    ] {
        let output = run(wrong, b"");
        assert_eq!(output.status.code(), Some(2), "{wrong}: {}", text(&output.stderr));
    }
}

#[test]
fn what_can_not_be_used_is_named() {
    let (folder, _) = certs("named", "");
    let why = |flags: &str| {
        let output = run(&format!("serve 127.0.0.1:0 {flags}"), b"");
        assert_eq!(output.status.code(), Some(1), "{flags}");
        text(&output.stderr)
    };
    let missing = why("--tls-cert nowhere.pem --tls-key nowhere.key");
    assert!(missing.contains("can't use nowhere.pem: ") && missing.contains("`zerio certs`"), "{missing}");
    let swapped = why(&format!("--tls-cert {folder}/server.key --tls-key {folder}/server.pem"));
    assert!(swapped.contains("BEGIN CERTIFICATE"), "{swapped}");
    let files = format!("(--tls-cert {folder}/server.key, --tls-key {folder}/server.pem)");
    assert!(cfg!(windows) || swapped.contains(&files), "{swapped}");
    let others = why(&format!("--tls-cert {folder}/server.pem --tls-key {folder}/client-1.key"));
    assert!(others.contains("private key"), "{others}");
}

#[test]
fn certificates_are_not_written_over_and_keys_are_their_owners() {
    let (folder, _) = certs("once", "--client a");
    let before = fs::read(format!("{folder}/ca.pem")).unwrap();
    let again = run(&format!("certs {folder}"), b"");
    assert_eq!(again.status.code(), Some(1));
    let why = text(&again.stderr);
    assert!(why.contains("ca.pem is there") || why.contains("server.pem is there"), "{why}");
    assert!(why.contains("not written over: choose another folder, or remove it"), "{why}");
    assert_eq!(fs::read(format!("{folder}/ca.pem")).unwrap(), before);
    #[cfg(unix)]
    for (name, mode) in [("server.key", 0o600), ("a.key", 0o600)] {
        use std::os::unix::fs::PermissionsExt;
        let permissions = fs::metadata(format!("{folder}/{name}")).unwrap().permissions();
        assert_eq!(permissions.mode() & 0o777, mode, "{name}");
    }
    let mut names: Vec<_> =
        fs::read_dir(&folder).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(
        names,
        ["a.key", "a.pem", "ca.pem", "server.key", "server.pem"],
        "the authority's key is not kept"
    );
    // One that can't be had is told before anything is there; what is there keeps the others away, too.
    for flags in [
        "--client a,ca",
        "--client server",
        "--client ../a",
        "--client a,",
        "--client a,b,a",
        "--client é",
        "--server-names é",
    ] {
        let bad = self::folder("bad");
        let output = run(&format!("certs {} {flags}", bad.display()), b"");
        assert_eq!(output.status.code(), Some(2), "{flags}");
        let why = text(&output.stderr);
        assert!(why.contains(flags.split(' ').next().unwrap()) && !why.contains("IA5"), "{flags}: {why}");
        assert!(!flags.contains('é') || why.contains("\"é\""), "{flags}: {why}");
        assert!(!bad.exists(), "{flags}");
    }
    let another = run(&format!("certs {folder} --client b"), b"");
    assert_eq!(another.status.code(), Some(1));
    assert!(!PathBuf::from(&folder).join("b.pem").exists());
    #[cfg(unix)]
    {
        let file = format!("{folder}/a.pem/inner");
        let output = run(&format!("certs {file}"), b"");
        assert!(text(&output.stderr).contains(&format!("can't make {file}: ")), "{}", text(&output.stderr));
    }
}

/// When a certificate in PEM begins and ends to be valid, in seconds since 1970, by its two times (`UTCTime`, two digits of
/// the year).
fn validity(pem: &str) -> [u64; 2] {
    const DIGITS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let body = pem.lines().filter(|line| !line.starts_with('-')).flat_map(str::chars);
    let digits: Vec<usize> = body.filter_map(|digit| DIGITS.find(digit)).collect();
    let bytes = |four: &[usize]| {
        let bits = four.iter().enumerate().fold(0, |bits, (at, digit)| bits | digit << (18 - 6 * at));
        [(bits >> 16) as u8, (bits >> 8) as u8, bits as u8]
    };
    let der: Vec<u8> = digits.chunks(4).flat_map(bytes).collect();
    let times = der.windows(15).filter(|at| at[..2] == [23, 13] && at[14] == b'Z');
    let seconds = |time: &[u8]| {
        let number = |at: usize| text(&time[at..at + 2]).parse::<u64>().unwrap();
        let (year, month, day) = (2000 + number(2), number(4), number(6));
        // March begins a year, so that the leap day ends one.
        let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
        let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 719_469;
        ((days * 24 + number(8)) * 60 + number(10)) * 60 + number(12)
    };
    times.map(seconds).collect::<Vec<_>>().try_into().expect("two times")
}

#[test]
fn certificates_were_valid_for_two_thousand_years() {
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let (day, before) = (24 * 60 * 60, now());
    let (folder, _) = certs("valid", "--client a");
    let after = now();
    for name in ["ca", "server", "a"] {
        let [from, to] = validity(&fs::read_to_string(format!("{folder}/{name}.pem")).unwrap());
        assert!((before - day..=after - day).contains(&from), "{name}: a day ago, for clocks that are slow");
        assert_eq!(to - from, 825 * day, "{name}");
    }
}

#[cfg(unix)]
#[test]
fn the_commands_of_a_folder_with_a_blank_in_its_name_can_be_typed() {
    let folder = folder("with a blank");
    let output = zerio("certs").arg(&folder).output().unwrap();
    let commands = text(&output.stdout);
    let quoted = format!("--tls-ca '{}/ca.pem' ", folder.display());
    assert_eq!(commands.matches(&quoted).count(), 2, "{commands}");
    fs::remove_dir_all(&folder).unwrap();
}
