//! What TLS 1.3 costs: beside the AEAD alone, beside zerio without TLS, and beside tokio with tokio-rustls.
#![forbid(unsafe_code)]

use super::{Against, Bound, DEFAULTS, Extent, Line, POLLED, TOKIO, Target, Workload, at_least};
use crate::job::{Drive, Peer, Task};
use crate::metric::Metric;

const TLS: &str = "zerio, TLS";
const TLS_POLLED: &str = "zerio, TLS, polled";
const TOKIO_TLS: &str = "tokio, TLS";

impl Extent {
    pub(super) fn under_tls(&self) -> Vec<Line> {
        let mut lines: Vec<Line> = [32, 256, 4096, 65536].map(|size| self.sealed_stream(size)).into();
        lines.extend([self.sealed_round_trips(), self.sealed_round_trips_with_defaults()]);
        lines
    }

    fn sealed_stream(&self, size: usize) -> Line {
        let job = self.job(Task::Stream, Drive::Default).size(size);
        let polled = self.job(Task::Stream, Drive::Spin).size(size);
        let targets = match size {
            32 => vec![at_least(Metric::MessagesPerSecond, TLS, Against::Contender(TOKIO_TLS), 2.0)],
            4096 | 65536 => vec![
                // tokio can't spin.
                at_least(Metric::BytesPerSecond, TLS, Against::Contender(TOKIO_TLS), 1.1),
                at_least(Metric::BytesPerSecond, TLS, Against::Control, 0.8),
                at_least(Metric::BytesPerSecond, TLS_POLLED, Against::Control, 0.8),
            ],
            _ => Vec::new(),
        };
        let sealed = |job: &super::Job| job.clone().with(|job| job.tls = true);
        Line {
            workload: Workload::Tls,
            title: format!("one way under TLS, {size} B"),
            contenders: vec![
                job.contends("AEAD alone, one core", Peer::Aead),
                sealed(&job).contends(TLS, Peer::Zerio),
                sealed(&polled).contends(TLS_POLLED, Peer::Zerio),
                sealed(&job).contends(TOKIO_TLS, Peer::Tokio),
                job.contends(DEFAULTS, Peer::Zerio),
                polled.contends(POLLED, Peer::Zerio),
                job.contends(TOKIO, Peer::Tokio),
            ],
            metrics: vec![Metric::BytesPerSecond, Metric::MessagesPerSecond],
            targets,
        }
    }

    fn sealed_round_trips(&self) -> Line {
        let job = self.job(Task::RoundTrip, Drive::Spin).size(32);
        Line {
            workload: Workload::Tls,
            title: "round trip under TLS, 32 B, spinning and polled on both sides".into(),
            contenders: vec![
                job.contends("bare, spinning", Peer::Bare),
                job.contends(POLLED, Peer::Zerio),
                job.with(|job| job.tls = true).contends(TLS_POLLED, Peer::Zerio),
            ],
            metrics: vec![Metric::P50, Metric::P99, Metric::P999, Metric::Max],
            targets: vec![Target {
                metric: Metric::P50,
                contender: TLS_POLLED,
                against: Against::Above(POLLED),
                bound: Bound::AtMost(1.5),
            }],
        }
    }

    /// tokio can't spin, so it stands here.
    fn sealed_round_trips_with_defaults(&self) -> Line {
        let job = self.job(Task::RoundTrip, Drive::Default).size(32);
        let sealed = job.clone().with(|job| job.tls = true);
        Line {
            workload: Workload::Tls,
            title: "round trip under TLS, 32 B, defaults".into(),
            contenders: vec![
                job.contends("bare, blocking", Peer::Bare),
                job.contends(DEFAULTS, Peer::Zerio),
                sealed.contends(TLS, Peer::Zerio),
                job.contends(TOKIO, Peer::Tokio),
                sealed.contends(TOKIO_TLS, Peer::Tokio),
            ],
            metrics: vec![Metric::P50, Metric::P99, Metric::P999, Metric::Max],
            targets: Vec::new(),
        }
    }
}
