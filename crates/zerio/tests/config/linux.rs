//! Where and before whom the threads run, as Linux tells it: `engines`, `cores`, `priority`.
#![forbid(unsafe_code)]

use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::ThreadId;

use zerio::{Arrival, Client, Context, Counters, Disconnection, Error, Handler, Refusal, Rejection, Server};

use crate::hostile::{Echo, PATIENCE, RawPeer, config, drivers, frame, until};
use crate::memory::alone;
use crate::threads::looking;

/// The names of this process's threads.
fn thread_names() -> Vec<String> {
    let name = |entry: std::fs::DirEntry| std::fs::read_to_string(entry.path().join("comm")).ok();
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    tasks.flatten().filter_map(name).map(|name| name.trim().to_owned()).collect()
}

#[test]
fn engines_is_how_many_threads_there_are_each_with_a_name() {
    // Other tests of this binary have servers with fewer engines.
    let config = config(|c| c.engines = 7);
    let server = Server::bind("127.0.0.1:0").unwrap().config(config);
    let server = server.start_each(|_| Echo::default()).unwrap();
    let names = thread_names();
    for engine in 0..7 {
        assert!(names.contains(&format!("zerio-server-{engine}")), "{names:?}");
    }
    assert!(!names.contains(&"zerio-server-7".into()), "{names:?}");
    assert_eq!(server.engine_counters().len(), 7);
    // Sessions are spread over them.
    let _peers: Vec<_> =
        (0..14).map(|number| RawPeer::welcome(server.local_addr(), &format!("peer {number}"))).collect();
    let has_two = |engine: Counters| engine.engine.connected == 2;
    until("two sessions on each engine", || server.engine_counters().into_iter().all(has_two).then_some(()));
    server.stop();
    assert!(!thread_names().contains(&"zerio-server-6".into()), "they end with the server");
}

/// A line of what the system says of the calling thread.
fn status(line: &str) -> String {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    let value = status.lines().find_map(|text| text.strip_prefix(line)?.strip_prefix(':'));
    value.unwrap().trim().to_owned()
}

#[test]
fn cores_is_where_the_engines_run() {
    let everywhere = status("Cpus_allowed_list");
    let first: usize = everywhere.split([',', '-']).next().unwrap().parse().unwrap();
    for (cores, allowed) in [(vec![], everywhere.clone()), (vec![first], first.to_string())] {
        let (server, seen) = looking(config(|c| c.cores = cores), || status("Cpus_allowed_list"));
        let _peer = RawPeer::welcome(server.local_addr(), "peer");
        assert_eq!(seen.recv_timeout(PATIENCE).unwrap(), allowed);
    }
    assert_eq!(status("Cpus_allowed_list"), everywhere, "the thread that starts a server stays free");

    let nowhere = Server::bind("127.0.0.1:0").unwrap().config(config(|c| c.cores = vec![100_000])).start();
    let Err(Error::Config(error)) = nowhere else { panic!("{nowhere:?}") };
    assert_eq!(error.setting, "cores");
    assert!(error.to_string().contains("100000"), "{error}");
    assert!(error.instead.contains(&first.to_string()), "it says which cores would do: {error}");
}

/// Linux lets a wait last 50 µs longer than it is to, for a thread that does not ask for better.
#[test]
fn an_engines_thread_wakes_in_time() {
    let slack = || rustix::thread::current_timer_slack().unwrap();
    let here = slack();
    let (server, seen) = looking(config(|_| {}), slack);
    let _peer = RawPeer::welcome(server.local_addr(), "peer");
    assert_eq!(seen.recv_timeout(PATIENCE).unwrap(), 1);
    assert_eq!(slack(), here, "the thread that starts a server stays as it is");
}

/// The cores that the calling thread may use.
fn allowed() -> Vec<usize> {
    let mut cores = Vec::new();
    for range in status("Cpus_allowed_list").split(',') {
        let mut ends = range.split('-').map(|core| core.parse::<usize>().unwrap());
        let first = ends.next().unwrap();
        cores.extend(first..=ends.next().unwrap_or(first));
    }
    cores
}

#[test]
fn each_of_two_engines_has_its_own_core_in_the_order_that_was_given_and_so_has_a_client() {
    let [first, second, ..] = allowed()[..] else { return eprintln!("SKIPPED: there is one core") };
    for cores in [[second, first], [first, second]] {
        let (sender, seen) = channel();
        let config = config(|c| (c.engines, c.cores) = (2, cores.to_vec()));
        let server = Server::bind("127.0.0.1:0").unwrap().config(config);
        let server = server.start_each(|engine| Tells { engine, seen: sender.clone() }).unwrap();
        let _peers = ["a", "b"].map(|id| RawPeer::welcome(server.local_addr(), id));
        // Sessions are spread: each engine has one.
        let mut told = [(); 2].map(|()| seen.recv_timeout(PATIENCE).unwrap());
        told.sort();
        assert_eq!(told, [(0, cores[0].to_string()), (1, cores[1].to_string())]);

        let (sender, seen) = channel();
        let client = Client::connect(server.local_addr(), "client").unwrap();
        let client = client.config(crate::hostile::config(|c| c.cores = vec![cores[0]]));
        let tells = Tells { engine: 7, seen: sender };
        let _client = client.handler(tells).start().unwrap();
        assert_eq!(seen.recv_timeout(PATIENCE).unwrap(), (7, cores[0].to_string()));
    }
}

/// Tells where it runs when somebody comes.
struct Tells {
    engine: usize,
    seen: Sender<(usize, String)>,
}

impl Handler for Tells {
    fn on_connected(&mut self, _: &mut Context<'_>) {
        let _ = self.seen.send((self.engine, status("Cpus_allowed_list")));
    }
}

/// Who was called, by which thread, and what its name is.
type Call = (&'static str, ThreadId, String);

/// Tells of each call. It admits everybody but `stranger`.
struct Calls(Sender<Call>);

impl Calls {
    fn note(&self, what: &'static str) {
        let _ = self.0.send((what, std::thread::current().id(), status("Name")));
    }
}

impl Handler for Calls {
    fn admit(&mut self, arrival: &Arrival<'_>) -> Result<(), Refusal> {
        self.note("admit");
        if arrival.id() == "stranger" { Err(Refusal::new("a stranger")) } else { Ok(()) }
    }

    fn on_connected(&mut self, _: &mut Context<'_>) {
        self.note("connected");
    }

    fn on_message(&mut self, _: &mut Context<'_>, _: &[u8]) {
        self.note("message");
    }

    fn on_disconnected(&mut self, _: &mut Context<'_>, _: &Disconnection) {
        self.note("disconnected");
    }

    fn on_rejected(&mut self, _: SocketAddr, _: &Rejection) {
        self.note("rejected");
    }
}

/// Waits for these calls, and sees that all come by one thread with that name, which is not the test's.
#[track_caller]
fn all_by_one(calls: &Receiver<Call>, mut expected: Vec<&'static str>, name: &str) {
    let mut thread = None;
    while !expected.is_empty() {
        let (what, id, its) = calls.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("never: {expected:?}"));
        expected.retain(|it| *it != what);
        assert_eq!((its.as_str(), id), (name, *thread.get_or_insert(id)), "{what}");
    }
    assert_ne!(thread, Some(std::thread::current().id()));
}

#[test]
fn every_call_of_a_handler_and_of_closures_comes_by_the_engines_own_thread_which_has_its_name() {
    for driver in drivers() {
        let config = config(|c| c.driver = driver);
        let (sender, calls) = channel();
        let server = Server::bind("127.0.0.1:0").unwrap().config(config.clone());
        let server = server.handler(Calls(sender)).start().unwrap();
        let (sender, by_client) = channel();
        let client = Client::connect(server.local_addr(), "client").unwrap().config(config.clone());
        let client = client.handler(Calls(sender)).start().unwrap();
        client.send(b"oui").unwrap();
        server.send("client", b"quoi").unwrap();
        let stranger = Client::connect(server.local_addr(), "stranger").unwrap();
        let stranger = stranger.config(config.clone()).start();
        assert!(matches!(stranger, Err(Error::Refused { .. })), "{stranger:?}");
        // It stops by another thread's word, and its handler hears so by its own.
        client.stop();
        let all = vec!["admit", "connected", "message", "disconnected", "rejected"];
        all_by_one(&calls, all, "zerio-server-0");
        all_by_one(&by_client, vec!["connected", "message", "disconnected"], "zerio-client-0");

        let (sender, calls) = channel();
        let note = |what| {
            let calls = Calls(sender.clone());
            move || calls.note(what)
        };
        let [admit, connected, message, disconnected] =
            ["admit", "connected", "message", "disconnected"].map(note);
        let server = Server::bind("127.0.0.1:0").unwrap().config(config.clone());
        let server = server
            .admit(move |_: &Arrival<'_>| {
                admit();
                Ok(())
            })
            .on_connected(move |_| connected())
            .on_message(move |_, _| message())
            .on_disconnected(move |_, _| disconnected());
        let server = server.start().unwrap();
        let mut peer = RawPeer::welcome(server.local_addr(), "peer");
        peer.say(&frame(b"oui"));
        drop(peer);
        all_by_one(&calls, vec!["admit", "connected", "message", "disconnected"], "zerio-server-0");
    }
}

#[test]
fn a_started_server_has_one_thread_for_each_engine_and_a_polled_one_has_none() {
    if !alone("linux::a_started_server_has_one_thread_for_each_engine_and_a_polled_one_has_none") {
        return;
    }
    for driver in drivers() {
        let config = config(|c| c.driver = driver);
        let count = || std::fs::read_dir("/proc/self/task").unwrap().count();
        // One that has been joined may be seen for a moment still.
        let threads = |many| until(&format!("{many} threads"), || (count() == many).then_some(()));
        let before = count();
        for engines in [1, 3] {
            let mut config = config.clone();
            config.engines = engines;
            let server = Server::bind("127.0.0.1:0").unwrap().config(config.clone());
            let server = server.start_each(|_| Echo::default()).unwrap();
            assert_eq!(count(), before + engines, "{driver}: {:?}", thread_names());
            let mut peer = RawPeer::welcome(server.local_addr(), "peer");
            peer.say(&frame(b"oui"));
            assert_eq!(peer.hear(), b"oui");
            assert_eq!(count(), before + engines, "{driver}, in use: {:?}", thread_names());
            server.stop();
            threads(before);
        }
        let mut server = Server::bind("127.0.0.1:0").unwrap().config(config.clone()).start_polled().unwrap();
        let client = Client::connect(server.local_addr(), "client").unwrap().config(config);
        // Whoever resolves the address is a thread for a moment, and gone.
        threads(before);
        let mut client = client.start_polled().unwrap();
        until("a session", || {
            server.poll().unwrap();
            client.poll().unwrap();
            client.is_connected().then_some(())
        });
        assert_eq!(count(), before, "{driver}, polled: {:?}", thread_names());
    }
}

/// The policy (1 is SCHED_FIFO) and the real-time priority of the calling thread: the last fields but some of its
/// `stat`, counted behind the name, which may have blanks (proc_pid_stat(5), 41 and 40).
fn scheduled() -> (u32, u32) {
    let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    (fields[38].parse().unwrap(), fields[37].parse().unwrap())
}

#[test]
fn priority_is_that_of_the_engines_threads_or_what_is_missing_for_it_is_said() {
    let before = scheduled();
    for priority in [1, 7] {
        let outcome =
            Server::bind("127.0.0.1:0").unwrap().config(config(|c| c.priority = Some(priority))).start();
        match outcome {
            Ok(_) => {
                let (server, seen) = looking(config(|c| c.priority = Some(priority)), scheduled);
                let _peer = RawPeer::welcome(server.local_addr(), "peer");
                assert_eq!(seen.recv_timeout(PATIENCE).unwrap(), (1, priority.into()));
            }
            // Who may not, as most users.
            Err(Error::Config(error)) => {
                assert_eq!(
                    (error.setting, error.value.as_str()),
                    ("priority", priority.to_string().as_str())
                );
                assert!(
                    error.instead.contains("CAP_SYS_NICE") && error.instead.contains("ulimit -r"),
                    "{error}"
                );
            }
            Err(error) => panic!("{error}"),
        }
    }
    let (server, seen) = looking(config(|_| {}), scheduled);
    let _peer = RawPeer::welcome(server.local_addr(), "peer");
    assert_eq!(seen.recv_timeout(PATIENCE).unwrap(), before, "by default as the thread that starts it");
    assert_eq!(scheduled(), before, "which stays what it is");
}
