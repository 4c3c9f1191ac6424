//! A line of what the doctor says.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

/// What was looked at, what was found, what it costs, and what to do.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Finding {
    pub(super) check: &'static str,
    pub(super) verdict: Verdict,
    pub(super) found: String,
    pub(super) cost: Option<String>,
    pub(super) advice: Option<String>,
    /// What was measured or counted, by names that end in their units.
    pub(super) figures: BTreeMap<&'static str, f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Verdict {
    /// There is nothing to gain.
    Fine,
    /// It costs latency or capacity; whether that matters is for the user to say.
    Costs,
    /// The configuration can't work here as it stands, or nobody can want what this costs.
    Wrong,
    /// The system does not tell, or it could not be measured.
    Unknown,
    /// This system has no such thing, or it is not looked at there.
    Elsewhere,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Verdict::Fine => "fine",
            Verdict::Costs => "costs",
            Verdict::Wrong => "wrong",
            Verdict::Unknown => "unknown",
            Verdict::Elsewhere => "-",
        })
    }
}

impl Finding {
    fn new(check: &'static str, verdict: Verdict, found: impl fmt::Display) -> Finding {
        let found = found.to_string();
        Finding { check, verdict, found, cost: None, advice: None, figures: BTreeMap::new() }
    }

    pub(super) fn fine(check: &'static str, found: impl fmt::Display) -> Finding {
        Finding::new(check, Verdict::Fine, found)
    }

    pub(super) fn costs(check: &'static str, found: impl fmt::Display) -> Finding {
        Finding::new(check, Verdict::Costs, found)
    }

    pub(super) fn wrong(check: &'static str, found: impl fmt::Display) -> Finding {
        Finding::new(check, Verdict::Wrong, found)
    }

    pub(super) fn unknown(check: &'static str, found: impl fmt::Display) -> Finding {
        Finding::new(check, Verdict::Unknown, found)
    }

    /// What this system does not have; `what` says where to look instead, or what it would be.
    pub(super) fn elsewhere(check: &'static str, what: &str) -> Finding {
        let found = format!("not looked at on {}: {what}", std::env::consts::OS);
        Finding::new(check, Verdict::Elsewhere, found)
    }

    pub(super) fn cost(mut self, cost: impl fmt::Display) -> Finding {
        self.cost = Some(cost.to_string());
        self
    }

    pub(super) fn advice(mut self, advice: impl fmt::Display) -> Finding {
        self.advice = Some(advice.to_string());
        self
    }

    /// To three decimals: what is behind them is noise.
    pub(super) fn figure(mut self, name: &'static str, value: f64) -> Finding {
        self.figures.insert(name, (value * 1000.0).round() / 1000.0);
        self
    }
}

/// A number of bytes, as people say it.
pub(super) fn bytes(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{:.0} KiB", bytes as f64 / 1024.0),
        1_048_576..1_073_741_824 => format!("{:.0} MiB", bytes as f64 / 1_048_576.0),
        _ => format!("{:.1} GiB", bytes as f64 / 1_073_741_824.0),
    }
}

/// A number of microseconds, as people say it.
pub(super) fn micros(micros: f64) -> String {
    if micros < 1000.0 { format!("{micros:.1} µs") } else { format!("{:.1} ms", micros / 1000.0) }
}

#[cfg(test)]
mod tests {
    #[test]
    fn times_are_said_as_people_say_them() {
        assert_eq!([8.04, 999.0, 29_668.0].map(super::micros), ["8.0 µs", "999.0 µs", "29.7 ms"]);
    }

    #[test]
    fn bytes_are_said_as_people_say_them() {
        let said = [0, 1023, 8192, 8 << 20, 3 << 29].map(super::bytes);
        assert_eq!(said, ["0 B", "1023 B", "8 KiB", "8 MiB", "1.5 GiB"]);
    }
}
