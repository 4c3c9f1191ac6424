//! What a reader of figures has to know of the machine that they come from.
#![forbid(unsafe_code)]

use std::fmt;
use std::fs::read_to_string;

use serde::Serialize;

/// Facts about this machine; what the system does not tell is `null`.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Machine {
    kernel: Option<String>,
    cpu: Option<String>,
    cores: Option<usize>,
    congestion: Option<String>,
    /// How many threads wanted to run, over the last minute, before this started: a busy machine makes bad
    /// figures.
    load: Option<f64>,
    debug_build: bool,
}

impl Machine {
    pub(crate) fn new() -> Machine {
        let model = |text: String| {
            let line = text.lines().find(|line| line.starts_with("model name"))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        Machine {
            kernel: read("/proc/sys/kernel/osrelease"),
            cpu: read("/proc/cpuinfo").and_then(model),
            cores: std::thread::available_parallelism().ok().map(usize::from),
            congestion: read("/proc/sys/net/ipv4/tcp_congestion_control"),
            load: load(),
            debug_build: cfg!(debug_assertions),
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or = |text: &Option<String>, what: &str| text.clone().unwrap_or_else(|| what.to_owned());
        write!(f, "Linux {}", or(&self.kernel, "of an unknown version"))?;
        write!(f, ", {}", or(&self.cpu, "an unknown processor"))?;
        if let Some(cores) = self.cores {
            write!(f, ", {cores} cores")?;
        }
        write!(f, ", {}", or(&self.congestion, "an unknown congestion control"))?;
        if let Some(load) = self.load {
            write!(f, ", load {load} before the first run")?;
        }
        if self.debug_build {
            write!(f, "\nThis is a debug build, whose figures mean nothing: use `cargo run --release`.")?;
        }
        Ok(())
    }
}

/// How many threads wanted to run, over the last minute.
pub(crate) fn load() -> Option<f64> {
    read("/proc/loadavg")?.split(' ').next()?.parse().ok()
}

fn read(path: &str) -> Option<String> {
    read_to_string(path).ok().map(|text| text.trim().to_owned())
}
