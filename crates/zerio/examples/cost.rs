//! Does one step of the hot path so many times, for `.ci/cost`, which counts instructions.
//!
//! ```console
//! $ cargo run --release -p zerio --features cost --example cost              # the steps' names, a line each
//! $ valgrind --tool=callgrind target/release/examples/cost 'frame found' 1000
//! ```
#![forbid(unsafe_code)]

use zerio::cost::STEPS;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [step, times] = &arguments[..] else {
        STEPS.iter().for_each(|(name, _)| println!("{name}"));
        return Ok(());
    };
    let (_, run) = STEPS.iter().find(|(name, _)| name == step).ok_or("there is no such step")?;
    run(times.parse()?);
    Ok(())
}
