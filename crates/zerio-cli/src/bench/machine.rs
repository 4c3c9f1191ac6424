//! What a reader of figures has to know of the machine that they come from.
#![forbid(unsafe_code)]

use std::fs::read_to_string;

use serde::Serialize;

/// Facts about this machine; what the system does not tell is `null`.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Machine {
    os: &'static str,
    arch: &'static str,
    kernel: Option<String>,
    cpu: Option<String>,
    cores: Option<usize>,
    /// How many threads wanted to run, over the last minute, before this started: a busy machine makes
    /// bad figures.
    load: Option<f64>,
    /// Whether the tool was built without optimisation, whose figures mean nothing.
    debug_build: bool,
}

impl Machine {
    pub(super) fn new() -> Machine {
        Machine {
            os: std::env::consts::OS,
            arch: std::env::consts::ARCH,
            kernel: read("/proc/sys/kernel/osrelease").map(|text| text.trim().to_owned()),
            cpu: read("/proc/cpuinfo").and_then(|text| model(&text)).or_else(identifier),
            cores: std::thread::available_parallelism().ok().map(usize::from),
            load: read("/proc/loadavg").and_then(|text| text.split(' ').next()?.parse().ok()),
            debug_build: cfg!(debug_assertions),
        }
    }
}

impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let unknown = || "an unknown processor".to_owned();
        write!(f, "{} {}", self.os, self.kernel.as_deref().unwrap_or(self.arch))?;
        write!(f, ", {}", self.cpu.clone().unwrap_or_else(unknown))?;
        if let Some(cores) = self.cores {
            write!(f, ", {cores} cores")?;
        }
        if let Some(load) = self.load {
            write!(f, ", load {load}")?;
        }
        if self.debug_build {
            write!(f, "\nThis is a debug build, whose figures mean nothing: use `cargo run --release`.")?;
        }
        Ok(())
    }
}

fn read(path: &str) -> Option<String> {
    read_to_string(path).ok()
}

/// The first processor's name.
fn model(cpuinfo: &str) -> Option<String> {
    let line = cpuinfo.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// What Windows tells every process of the processor.
fn identifier() -> Option<String> {
    std::env::var("PROCESSOR_IDENTIFIER").ok().filter(|_| cfg!(windows))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_processor_is_named_where_the_system_tells() {
        let cpuinfo = "processor\t: 0\nmodel name\t: A Fast One\nmodel name\t: Another\n";
        assert_eq!(super::model(cpuinfo).as_deref(), Some("A Fast One"));
        assert_eq!(super::model("processor\t: 0\n"), None);
    }
}
