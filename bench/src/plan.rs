//! What is measured: lines, who contends in each, and what is to be reached.
#![forbid(unsafe_code)]

mod options;
mod tls;

use std::time::Duration;

use serde::Serialize;

use crate::job::{Drive, Driver, Job, Options, Peer, Pins, Task};
use crate::metric::Metric;
use crate::peers;

/// The families of lines, by the names that the documentation uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Workload {
    /// Round trips of one client.
    W1,
    /// A stream one way.
    W2,
    /// Many clients, one message out for each.
    W3,
    /// One server to a hundred clients.
    W4,
    /// An open loop, at a rate.
    W5,
    /// Connecting, and the memory of idle sessions.
    W6,
    /// One engine and two.
    Engines,
    /// The processor time of a server to which nobody says anything.
    Idle,
    /// Streams and round trips under TLS 1.3.
    Tls,
    /// zerio's ways to the kernel, each in several of the workloads above.
    Drivers,
}

/// One row of a line: who, and how.
#[derive(Clone, Debug)]
pub(crate) struct Contender {
    /// Unique within its line; the control is the first.
    pub(crate) name: String,
    pub(crate) job: Job,
}

/// What is compared: the first contender is the control of all others.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) workload: Workload,
    pub(crate) title: String,
    pub(crate) contenders: Vec<Contender>,
    pub(crate) metrics: Vec<Metric>,
    pub(crate) targets: Vec<Target>,
}

/// A bound that a contender's figure is to keep.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) metric: Metric,
    pub(crate) contender: &'static str,
    pub(crate) against: Against,
    pub(crate) bound: Bound,
}

/// What a figure is divided by before it is held against the bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Against {
    Control,
    Contender(&'static str),
    /// Another's is taken from it in place of dividing.
    Above(&'static str),
    /// Nothing: the figure itself.
    Itself,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

/// How long, how often, and which part.
#[derive(Clone, Debug)]
pub(crate) struct Extent {
    pub(crate) rounds: usize,
    pub(crate) run: Duration,
    pub(crate) smoke: bool,
    pub(crate) only: Vec<Workload>,
    pub(crate) peers: Vec<Peer>,
    /// For server and client.
    pub(crate) cores: (Option<usize>, Option<usize>),
}

/// The names of contenders that targets speak of.
const POLLED: &str = "zerio, polled";
const DEFAULTS: &str = "zerio";
const FOUR: &str = "zerio, 4 senders";
const TWO_ENGINES: &str = "zerio, 2 engines";
const TOKIO: &str = "tokio";
const ZMQ: &str = "zmq";

impl Extent {
    /// All lines of what was asked for. A line of which only the control is left is none.
    pub(crate) fn lines(&self) -> Vec<Line> {
        let mut lines = self.round_trips();
        lines.extend(self.streams());
        lines.extend(self.crowds());
        lines.push(self.fan());
        lines.extend(self.paced());
        lines.extend([self.connecting(), self.held(), self.engines(), self.idle()]);
        lines.extend(self.under_tls());
        lines.extend(self.drivers());
        lines.retain(|line| self.only.is_empty() || self.only.contains(&line.workload));
        for line in &mut lines {
            let control = line.contenders[0].name.clone();
            line.contenders.retain(|contender| {
                let (peer, load) = (contender.job.peer, contender.job.load);
                // The AEAD is a control, as bare sockets are elsewhere.
                let asked = if peer == Peer::Aead { Peer::Bare } else { peer };
                let wanted = self.peers.is_empty() || self.peers.contains(&asked);
                wanted && peers::has(peer) && peers::has(load)
            });
            if line.contenders.first().is_none_or(|first| first.name != control) {
                line.contenders.clear();
            }
            let present = |name| line.contenders.iter().any(|contender| contender.name == name);
            line.targets.retain(|target| {
                present(target.contender)
                    && match target.against {
                        Against::Contender(other) | Against::Above(other) => present(other),
                        Against::Control | Against::Itself => true,
                    }
            });
        }
        lines.retain(|line| line.contenders.len() > 1);
        lines
    }

    fn round_trips(&self) -> Vec<Line> {
        let sizes = [32, 256, 4096, 65536];
        let spinning = sizes.map(|size| {
            let job = self.job(Task::RoundTrip, Drive::Spin).size(size);
            let p50 = if size == 65536 { 1.08 } else { 1.05 };
            Line {
                workload: Workload::W1,
                title: format!("round trip, {size} B, spinning and polled on both sides"),
                contenders: vec![
                    job.contends("bare, spinning", Peer::Bare),
                    job.contends(POLLED, Peer::Zerio),
                ],
                metrics: vec![Metric::P50, Metric::P99, Metric::P999, Metric::Max],
                targets: vec![at_most(Metric::P50, POLLED, p50), at_most(Metric::P99, POLLED, 1.10)],
            }
        });
        let defaults = sizes.map(|size| {
            let job = self.job(Task::RoundTrip, Drive::Default).size(size);
            Line {
                workload: Workload::W1,
                title: format!("round trip, {size} B, defaults"),
                contenders: job.all_four(),
                metrics: vec![Metric::P50, Metric::P99, Metric::P999, Metric::Max],
                targets: vec![at_most(Metric::P50, DEFAULTS, 1.03)],
            }
        });
        spinning.into_iter().chain(defaults).collect()
    }

    fn streams(&self) -> Vec<Line> {
        let sizes = [32, 256, 4096, 65536];
        let metrics = vec![Metric::MessagesPerSecond, Metric::BytesPerSecond];
        let mut lines = Vec::new();
        for size in sizes {
            let job = self.job(Task::Stream, Drive::Spin).size(size);
            let (metric, bound) = match size {
                32 => (Metric::MessagesPerSecond, 1.1),
                _ => (Metric::BytesPerSecond, 1.0),
            };
            lines.push(Line {
                workload: Workload::W2,
                title: format!("one way, {size} B, polled, one call a message"),
                contenders: vec![
                    job.contends("bare, spinning", Peer::Bare),
                    job.contends(POLLED, Peer::Zerio),
                ],
                metrics: metrics.clone(),
                targets: vec![at_least(metric, POLLED, Against::Control, bound)],
            });
        }
        for size in sizes {
            let job = self.job(Task::Stream, Drive::Default).size(size);
            let rate = Metric::MessagesPerSecond;
            let targets = vec![
                at_least(rate, DEFAULTS, Against::Control, 0.6),
                at_least(rate, DEFAULTS, Against::Contender(TOKIO), 2.0),
                at_least(rate, DEFAULTS, Against::Contender(ZMQ), 7.0),
            ];
            lines.push(Line {
                workload: Workload::W2,
                title: format!("one way, {size} B, defaults, plain `send` from one thread"),
                contenders: job.all_four(),
                metrics: metrics.clone(),
                // For the smallest messages only: of large ones the kernel's copying is all there is.
                targets: if size == 32 { targets } else { Vec::new() },
            });
        }
        let job = self.job(Task::Stream, Drive::Default).size(32);
        lines.push(Line {
            workload: Workload::W2,
            title: "one way, 32 B, four threads send on one session".into(),
            contenders: vec![
                job.contends("bare", Peer::Bare),
                job.contends(DEFAULTS, Peer::Zerio),
                job.clone().with(|job| job.senders = 4).contends(FOUR, Peer::Zerio),
            ],
            metrics: vec![Metric::MessagesPerSecond, Metric::BytesPerSecond, Metric::SlowestByFastest],
            targets: vec![
                at_least(Metric::MessagesPerSecond, FOUR, Against::Contender(DEFAULTS), 0.5),
                at_least(Metric::SlowestByFastest, FOUR, Against::Itself, 0.25),
            ],
        });
        lines
    }

    fn crowds(&self) -> Vec<Line> {
        [10, 100, 1000, 10_000].map(|clients| self.crowd(clients)).into()
    }

    fn crowd(&self, clients: usize) -> Line {
        let bound = if clients >= 1000 { 1.1 } else { 1.0 };
        let clients = self.clients(clients);
        let job = self.job(Task::Crowd, Drive::Default).size(64).with(|job| job.clients = clients).loaded();
        let mut contenders = vec![
            job.contends("bare, epoll", Peer::Bare),
            job.contends(DEFAULTS, Peer::Zerio),
            job.clone().with(|job| job.drive = Drive::Spin).contends(POLLED, Peer::Zerio),
            job.contends(TOKIO, Peer::Tokio),
        ];
        // libzmq takes two descriptors for each client, and asks all sockets of its process in turn.
        if clients <= 1000 {
            contenders.push(job.clone().with(|job| job.load = Peer::Zmq).contends(ZMQ, Peer::Zmq));
        }
        let targets = |name| {
            [
                at_least(Metric::MessagesPerSecond, name, Against::Control, bound),
                at_most(Metric::CpuPerMessage, name, 1.0),
                at_most(Metric::P99, name, 1.1),
            ]
        };
        Line {
            workload: Workload::W3,
            title: format!("{clients} clients, one 64 B message out for each, echoed"),
            contenders,
            metrics: vec![Metric::MessagesPerSecond, Metric::P50, Metric::P99, Metric::CpuPerMessage],
            targets: targets(DEFAULTS).into(),
        }
    }

    fn fan(&self) -> Line {
        let job =
            self.job(Task::Fan, Drive::Default).size(64).with(|job| (job.clients, job.batch) = (100, 64));
        let job = job.loaded();
        let targets = |name| {
            [
                at_least(Metric::MessagesPerSecond, name, Against::Control, 0.6),
                at_least(Metric::SlowestByFastest, name, Against::Itself, 0.5),
            ]
        };
        Line {
            workload: Workload::W4,
            title: "one server to 100 clients, the same 64 B message to each, one call a message".into(),
            contenders: vec![
                job.contends("bare, 64 a write", Peer::Bare),
                job.clone().with(|job| job.batch = 1).contends("bare, 1 a write", Peer::Bare),
                job.contends(DEFAULTS, Peer::Zerio),
                job.clone().with(|job| job.drive = Drive::Spin).contends(POLLED, Peer::Zerio),
                job.contends(TOKIO, Peer::Tokio),
                job.clone().with(|job| job.load = Peer::Zmq).contends(ZMQ, Peer::Zmq),
            ],
            metrics: vec![Metric::MessagesPerSecond, Metric::SlowestByFastest],
            targets: targets(DEFAULTS).into_iter().chain(targets(POLLED)).collect(),
        }
    }

    fn paced(&self) -> Vec<Line> {
        let metrics = vec![Metric::P50, Metric::P99, Metric::P999, Metric::Max];
        let targets =
            |name| [Metric::P50, Metric::P99, Metric::P999].map(|metric| at_most(metric, name, 1.1)).into();
        let mut lines = Vec::new();
        for rate in [10_000, 100_000] {
            let job = self.job(Task::Paced, Drive::Spin).size(64).with(|job| job.rate = rate);
            lines.push(Line {
                workload: Workload::W5,
                title: format!("open loop, {rate} messages/s, 64 B, spinning"),
                contenders: vec![
                    job.contends("bare, spinning", Peer::Bare),
                    job.contends(POLLED, Peer::Zerio),
                ],
                metrics: metrics.clone(),
                targets: targets(POLLED),
            });
            lines.push(Line {
                workload: Workload::W5,
                title: format!("open loop, {rate} messages/s, 64 B, defaults"),
                contenders: job.with(|job| job.drive = Drive::Default).all_four(),
                metrics: metrics.clone(),
                targets: targets(DEFAULTS),
            });
        }
        lines
    }

    fn connecting(&self) -> Line {
        let job = self.job(Task::Connect, Drive::Default).size(64).loaded();
        Line {
            workload: Workload::W6,
            title: "connect, handshake, one message, close: one client after the other".into(),
            contenders: vec![
                job.contends("bare, epoll", Peer::Bare),
                job.contends(DEFAULTS, Peer::Zerio),
                job.clone().with(|job| job.load = Peer::Zerio).contends("zerio, its own client", Peer::Zerio),
                job.contends(TOKIO, Peer::Tokio),
                job.clone().with(|job| job.load = Peer::Zmq).contends(ZMQ, Peer::Zmq),
            ],
            metrics: vec![Metric::MessagesPerSecond, Metric::P50, Metric::P99],
            targets: vec![at_least(Metric::MessagesPerSecond, DEFAULTS, Against::Control, 0.8)],
        }
    }

    fn held(&self) -> Line {
        let clients = self.clients(10_000);
        let job = self.job(Task::Hold, Drive::Default).with(|job| job.clients = clients).loaded();
        let bound = Target {
            metric: Metric::ResidentPerSession,
            contender: DEFAULTS,
            against: Against::Itself,
            bound: Bound::AtMost(4096.0),
        };
        Line {
            workload: Workload::W6,
            title: format!("{clients} idle sessions, default rings and buffers"),
            contenders: vec![
                job.contends("bare, epoll", Peer::Bare),
                job.contends(DEFAULTS, Peer::Zerio),
                job.contends(TOKIO, Peer::Tokio),
            ],
            metrics: vec![Metric::ResidentPerSession, Metric::CpuPercent],
            targets: vec![bound],
        }
    }

    /// Each engine has a load of its own, on the same two cores, so nothing is pinned.
    fn engines(&self) -> Line {
        let job = self.job(Task::Crowd, Drive::Park).size(64).loaded().with(|job| job.core = None);
        let of = |engines: usize, peer, name: &str| {
            let job = job.clone().with(|job| {
                (job.engines, job.senders, job.clients) = (engines, engines, 64 * engines);
            });
            job.contends(name, peer)
        };
        Line {
            workload: Workload::Engines,
            title: "64 clients for each engine, 64 B echoed, engines that park; two cores".into(),
            contenders: vec![
                of(1, Peer::Bare, "bare, epoll"),
                of(1, Peer::Zerio, "zerio, 1 engine"),
                of(2, Peer::Zerio, TWO_ENGINES),
            ],
            metrics: vec![Metric::MessagesPerSecond, Metric::P50, Metric::CpuPerMessage],
            targets: vec![Target {
                metric: Metric::CpuPerMessage,
                contender: TWO_ENGINES,
                against: Against::Contender("zerio, 1 engine"),
                bound: Bound::AtMost(1.1),
            }],
        }
    }

    fn idle(&self) -> Line {
        let clients = self.clients(1000);
        let job = self.job(Task::Hold, Drive::Default).with(|job| job.clients = clients).loaded();
        Line {
            workload: Workload::Idle,
            title: format!("{clients} clients that say nothing, default strategy"),
            contenders: vec![
                job.contends("bare, epoll", Peer::Bare),
                job.contends(DEFAULTS, Peer::Zerio),
                job.contends(TOKIO, Peer::Tokio),
                job.clone().with(|job| job.load = Peer::Zmq).contends(ZMQ, Peer::Zmq),
            ],
            metrics: vec![Metric::CpuPercent, Metric::ResidentPerSession],
            targets: vec![Target {
                metric: Metric::CpuPercent,
                contender: DEFAULTS,
                against: Against::Itself,
                bound: Bound::AtMost(1.0),
            }],
        }
    }

    /// What chooses `auto`, and how it sends: one metric a workload, and the ways in the same order in each.
    fn drivers(&self) -> Vec<Line> {
        let job = |task| self.job(task, Drive::Default).size(64);
        let crowd = |clients| {
            let job = job(Task::Crowd).with(|job| job.clients = self.clients(clients)).loaded();
            (format!("{} clients", job.clients), "bare, epoll", job, Metric::MessagesPerSecond)
        };
        let fan = job(Task::Fan).with(|job| (job.clients, job.batch) = (100, 64)).loaded();
        let workloads = [
            ("round trip".into(), "bare, blocking", job(Task::RoundTrip), Metric::P50),
            ("one way".into(), "bare, blocking", job(Task::Stream), Metric::MessagesPerSecond),
            crowd(10),
            crowd(100),
            crowd(1000),
            crowd(10_000),
            ("one to 100".into(), "bare, 64 a write", fan, Metric::MessagesPerSecond),
            (
                "10,000 a second".into(),
                "bare, blocking",
                job(Task::Paced).with(|job| job.rate = 10_000),
                Metric::P50,
            ),
        ];
        let line = |(title, control, job, metric): (String, &str, Job, Metric)| {
            let by = |name, driver, batch_from| {
                job.clone()
                    .with(|job| (job.driver, job.batch_from) = (driver, batch_from))
                    .contends(name, Peer::Zerio)
            };
            Line {
                workload: Workload::Drivers,
                title,
                contenders: vec![
                    job.contends(control, Peer::Bare),
                    by("poll", Driver::Poll, None),
                    by("uring, each by itself", Driver::Uring, Some(usize::MAX)),
                    by("uring, all at once", Driver::Uring, Some(1)),
                    by("auto", Driver::Auto, None),
                ],
                metrics: vec![metric],
                targets: Vec::new(),
            }
        };
        workloads.map(line).into()
    }

    /// As many clients as a smoke run can have.
    fn clients(&self, clients: usize) -> usize {
        if self.smoke { clients.min(100) } else { clients }
    }

    fn job(&self, task: Task, drive: Drive) -> Job {
        Job {
            task,
            drive,
            peer: Peer::Bare,
            load: Peer::Bare,
            driver: Driver::Auto,
            batch_from: None,
            size: 64,
            clients: 1,
            senders: 1,
            engines: 1,
            rate: 1,
            batch: 1,
            warm_up: self.run / 4,
            run: self.run,
            // For the server; `run` gives the client its own.
            core: self.cores.0,
            pins: Pins::Process,
            options: Options::default(),
            tls: false,
            server: None,
        }
    }
}

impl Job {
    fn with(mut self, change: impl FnOnce(&mut Job)) -> Job {
        change(&mut self);
        self
    }

    fn size(self, size: usize) -> Job {
        self.with(|job| job.size = size)
    }

    /// Only the server is measured; bare sockets are the load.
    fn loaded(self) -> Job {
        self.with(|job| job.load = Peer::Bare)
    }

    /// The same job for a peer, which plays the clients too, except where they are the load of another: tasks of
    /// many clients are that by themselves.
    fn contends(&self, name: &str, peer: Peer) -> Contender {
        let many = matches!(self.task, Task::Crowd | Task::Fan | Task::Connect | Task::Hold);
        let load = if many { self.load } else { peer };
        Contender { name: name.to_owned(), job: Job { peer, load, ..self.clone() } }
    }

    fn all_four(&self) -> Vec<Contender> {
        vec![
            self.contends("bare, blocking", Peer::Bare),
            self.contends(DEFAULTS, Peer::Zerio),
            self.contends(TOKIO, Peer::Tokio),
            self.contends(ZMQ, Peer::Zmq),
        ]
    }
}

fn at_most(metric: Metric, contender: &'static str, bound: f64) -> Target {
    Target { metric, contender, against: Against::Control, bound: Bound::AtMost(bound) }
}

fn at_least(metric: Metric, contender: &'static str, against: Against, bound: f64) -> Target {
    Target { metric, contender, against, bound: Bound::AtLeast(bound) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extent() -> Extent {
        let run = Duration::from_millis(50);
        Extent { rounds: 1, run, smoke: true, only: vec![], peers: vec![], cores: (None, None) }
    }

    #[test]
    fn names_are_unique_within_a_line_and_targets_speak_of_who_is_there() {
        for line in extent().lines() {
            let names: Vec<_> = line.contenders.iter().map(|contender| contender.name.as_str()).collect();
            let unique: std::collections::BTreeSet<_> = names.iter().collect();
            assert_eq!(unique.len(), names.len(), "{}", line.title);
            let sealed = line.workload == Workload::Tls && line.contenders[0].job.task == Task::Stream;
            let control = if sealed { Peer::Aead } else { Peer::Bare };
            assert_eq!(line.contenders[0].job.peer, control, "{}", line.title);
            for target in &line.targets {
                assert!(names.contains(&target.contender), "{}: {}", line.title, target.contender);
                assert!(line.metrics.contains(&target.metric), "{}: {:?}", line.title, target.metric);
            }
        }
    }

    #[test]
    fn only_and_peers_leave_the_rest_out() {
        let mut extent = extent();
        (extent.only, extent.peers) = (vec![Workload::W4], vec![Peer::Bare, Peer::Zerio]);
        let lines = extent.lines();
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0].contenders.len(), 4);
        extent.only = Vec::new();
        for without_control in [Peer::Tokio, Peer::Zerio] {
            extent.peers = vec![without_control];
            assert!(extent.lines().is_empty(), "a line without its control says nothing");
        }
        extent.peers = vec![Peer::Bare, Peer::Zerio];
        for line in extent.lines() {
            let control = line.contenders[0].job.peer;
            assert!(matches!(control, Peer::Bare | Peer::Aead), "{}: {control}", line.title);
        }
    }
}
