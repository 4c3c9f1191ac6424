//! zerio's options for speed's sake: each of them on, beside zerio without any, which is the control.
#![forbid(unsafe_code)]

use std::time::Duration;

use super::{Contender, Extent, Line, Workload};
use crate::job::{Drive, Job, Options, Peer, Pins, Task};
use crate::metric::Metric;

/// What the kernel's documentation recommends for a few sockets.
const BUSY_POLL: Duration = Duration::from_micros(50);

/// Over every ordinary thread, and under the kernel's for interrupts, which have 50.
const PRIORITY: u8 = 10;

impl Extent {
    /// A line for each workload and way to drive. Both processes are pinned, where no row says otherwise.
    pub(crate) fn options(&self) -> Vec<Line> {
        let latency = [Metric::P50, Metric::P99, Metric::P999, Metric::CpuPerMessage];
        let rate = [Metric::MessagesPerSecond, Metric::BytesPerSecond, Metric::CpuPerMessage];
        let mut lines = Vec::new();
        for (drive, driven) in [(Drive::Spin, "polled"), (Drive::Default, "defaults")] {
            let mut add = |workload, what: &str, job: Job, metrics: &[Metric]| {
                let (title, contenders) = (format!("{what}, {driven}"), contenders(&job));
                lines.push(Line { workload, title, contenders, metrics: metrics.to_vec(), targets: vec![] });
            };
            add(Workload::W1, "round trip, 32 B", self.job(Task::RoundTrip, drive).size(32), &latency);
            for size in [32, 4096] {
                let job = self.job(Task::Stream, drive).size(size);
                add(Workload::W2, &format!("one way, {size} B"), job, &rate);
            }
            let job = self.job(Task::Paced, drive).size(64).with(|job| job.rate = 10_000);
            add(Workload::W5, "open loop, 10000 messages/s, 64 B", job, &latency);
        }
        lines.sort_by_key(|line| line.workload as u8);
        lines.retain(|line| self.only.is_empty() || self.only.contains(&line.workload));
        lines
    }
}

/// The control; the control once more, which shows how much of a ratio is noise; and one option each.
fn contenders(job: &Job) -> Vec<Contender> {
    let with = |name: &str, change: &dyn Fn(&mut Job)| job.clone().with(change).contends(name, Peer::Zerio);
    let set = |name: &str, options: Options| with(name, &|job| job.options = options.clone());
    let none = Options::default;
    let congestion = |name: &str| Options { congestion: Some(name.into()), ..none() };
    let mut contenders = vec![
        with("nothing set", &|_| {}),
        with("nothing set, again", &|_| {}),
        set("congestion cubic", congestion("cubic")),
        set("congestion bbr", congestion("bbr")),
        set("busy_poll 50 µs", Options { busy_poll: Some(BUSY_POLL), ..none() }),
        set("huge_pages", Options { huge_pages: true, ..none() }),
        with("nothing pinned", &|job| job.core = None),
    ];
    // Whose engine is polled has given it a thread himself.
    if job.drive != Drive::Spin {
        contenders.push(set("priority 10", Options { priority: Some(PRIORITY), ..none() }));
        contenders.push(with("cores, nothing else pinned", &|job| job.pins = Pins::Engine));
    }
    contenders
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_row_is_the_control_but_for_one_thing() {
        let run = Duration::from_millis(50);
        let cores = (Some(0), Some(1));
        let extent = Extent { rounds: 1, run, smoke: true, only: vec![], peers: vec![], cores };
        let lines = extent.options();
        assert_eq!(lines.len(), 8);
        for line in &lines {
            let told = |contender: &Contender| serde_json::to_string(&contender.job).unwrap();
            let jobs: BTreeSet<String> = line.contenders.iter().map(told).collect();
            assert_eq!(
                jobs.len(),
                line.contenders.len() - 1,
                "{}: the control alone is there twice",
                line.title
            );
            let names: BTreeSet<&str> =
                line.contenders.iter().map(|contender| contender.name.as_str()).collect();
            assert_eq!(names.len(), line.contenders.len(), "{}", line.title);
        }
    }
}
