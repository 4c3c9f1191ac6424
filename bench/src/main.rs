//! The comparison benchmarks of zerio: the same workloads against bare sockets (the control), zerio, tokio with
//! tokio-util's codec, and libzmq. Server and client are processes, pinned to a core each.
//!
//! ```text
//!  plan ──▶ run ──▶ role, as a process ──▶ peers      (each peer plays the same tasks)
//!             └───▶ report ──▶ plot
//! ```
//!
//! Linux only: it pins processes, and reads their processor time and memory, by what Linux has for that.
#![deny(unsafe_code)]

#[cfg(target_os = "linux")]
mod allocations;
#[cfg(target_os = "linux")]
mod args;
#[cfg(target_os = "linux")]
mod child;
#[cfg(target_os = "linux")]
mod failure;
#[cfg(target_os = "linux")]
mod interrupt;
#[cfg(target_os = "linux")]
mod job;
#[cfg(target_os = "linux")]
mod machine;
#[cfg(target_os = "linux")]
mod measure;
#[cfg(target_os = "linux")]
mod metric;
#[cfg(target_os = "linux")]
mod peers;
#[cfg(target_os = "linux")]
mod plan;
#[cfg(target_os = "linux")]
mod plot;
#[cfg(target_os = "linux")]
mod report;
#[cfg(target_os = "linux")]
mod role;
#[cfg(target_os = "linux")]
mod run;
#[cfg(target_os = "linux")]
mod script;
#[cfg(target_os = "linux")]
mod system;
#[cfg(target_os = "linux")]
mod tls;
#[cfg(target_os = "linux")]
mod wire;

/// Counts only where a role asks for it; see there.
#[cfg(target_os = "linux")]
#[global_allocator]
static ALLOCATOR: allocations::Counting = allocations::Counting;

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    args::main()
}

#[cfg(not(target_os = "linux"))]
fn main() -> std::process::ExitCode {
    eprintln!(
        "zerio-bench runs on Linux only; `zerio bench` measures zerio beside bare sockets on every system"
    );
    std::process::ExitCode::FAILURE
}
