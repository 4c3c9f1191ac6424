//! Where and before whom the threads run, as Linux tells it: `engines`, `cores`, `priority`.
#![forbid(unsafe_code)]

use zerio::{Counters, Error, Server};

use crate::hostile::{Echo, PATIENCE, RawPeer, config, until};
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
