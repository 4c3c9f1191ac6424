//! The figures of a run: which there are, how they read, and which way is better.
#![forbid(unsafe_code)]

use serde::Serialize;

use crate::job::Outcome;

/// One figure of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Metric {
    P50,
    P99,
    P999,
    Max,
    MessagesPerSecond,
    BytesPerSecond,
    /// The server's processor time for each message.
    CpuPerMessage,
    /// The server's processor time, in per cent of a core.
    CpuPercent,
    /// The one that got least, by the one that got most: of senders or of clients.
    SlowestByFastest,
    /// The server's resident memory for each session.
    ResidentPerSession,
    /// By both processes, after the start.
    Allocations,
}

impl Metric {
    /// Its value, where a run has one; `clients` is how many there were.
    pub(crate) fn of(self, outcome: &Outcome, clients: usize) -> Option<f64> {
        let micros = |nanos: u64| nanos as f64 / 1000.0;
        // A run that has counted nothing says nothing: its zeros are no latencies and no rates.
        let counted = outcome.messages > 0;
        let latency = outcome.latency.as_ref().filter(|_| counted);
        let seconds = Some(outcome.seconds).filter(|seconds| *seconds > 0.0);
        let cpu = outcome.server_cpu.map(|cpu| cpu.as_secs_f64());
        match self {
            Metric::P50 => latency.map(|latency| micros(latency.p50)),
            Metric::P99 => latency.map(|latency| micros(latency.p99)),
            Metric::P999 => latency.map(|latency| micros(latency.p999)),
            Metric::Max => latency.map(|latency| micros(latency.max)),
            Metric::MessagesPerSecond => seconds.filter(|_| counted).map(|it| outcome.messages as f64 / it),
            Metric::BytesPerSecond => seconds.filter(|_| counted).map(|it| outcome.bytes as f64 / it),
            Metric::CpuPerMessage => {
                let messages = Some(outcome.messages).filter(|messages| *messages > 0);
                Some(1e6 * cpu? / messages? as f64)
            }
            Metric::CpuPercent => Some(100.0 * cpu? / seconds?),
            Metric::SlowestByFastest => {
                let most =
                    *outcome.shares.iter().max().filter(|most| **most > 0 && outcome.shares.len() > 1)?;
                Some(*outcome.shares.iter().min()? as f64 / most as f64)
            }
            Metric::ResidentPerSession => {
                let (before, after) = outcome.resident?;
                Some(after.saturating_sub(before) as f64 / clients as f64)
            }
            Metric::Allocations => outcome.allocations.map(|allocations| allocations as f64),
        }
    }

    /// The head of its column.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Metric::P50 => "p50, µs",
            Metric::P99 => "p99, µs",
            Metric::P999 => "p99.9, µs",
            Metric::Max => "max, µs",
            Metric::MessagesPerSecond => "messages/s",
            Metric::BytesPerSecond => "MB/s",
            Metric::CpuPerMessage => "server CPU, µs/message",
            Metric::CpuPercent => "server CPU, %",
            Metric::SlowestByFastest => "slowest/fastest",
            Metric::ResidentPerSession => "resident, KiB/session",
            Metric::Allocations => "allocations",
        }
    }

    /// A value as its column has it.
    pub(crate) fn show(self, value: f64) -> String {
        match self {
            Metric::MessagesPerSecond => match value {
                millions if millions >= 1e6 => format!("{:.2} M", millions / 1e6),
                thousands if thousands >= 1e4 => format!("{:.1} k", thousands / 1e3),
                few => format!("{few:.0}"),
            },
            Metric::BytesPerSecond => format!("{:.0}", value / 1e6),
            Metric::ResidentPerSession => format!("{:.2}", value / 1024.0),
            Metric::CpuPerMessage | Metric::CpuPercent | Metric::SlowestByFastest => format!("{value:.2}"),
            Metric::Allocations => format!("{value:.0}"),
            Metric::P50 | Metric::P99 | Metric::P999 | Metric::Max => format!("{value:.1}"),
        }
    }

    pub(crate) fn more_is_better(self) -> bool {
        matches!(self, Metric::MessagesPerSecond | Metric::BytesPerSecond | Metric::SlowestByFastest)
    }

    /// Whether a ratio of two values says anything.
    pub(crate) fn has_ratio(self) -> bool {
        !matches!(self, Metric::SlowestByFastest | Metric::Allocations | Metric::Max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Latency;

    #[test]
    fn a_run_that_counted_nothing_has_no_figures() {
        let latency = Some(Latency::default());
        let nothing = Outcome { seconds: 1.0, latency, ..Outcome::default() };
        for metric in [Metric::P50, Metric::MessagesPerSecond, Metric::BytesPerSecond, Metric::CpuPerMessage]
        {
            assert_eq!(metric.of(&nothing, 1), None, "{metric:?}");
        }
    }
}
