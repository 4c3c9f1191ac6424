//! The files of a grid: one CSV, and for each test its percentiles in the text format of High Dynamic Range histograms,
//! which their plotters read.
#![forbid(unsafe_code)]

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use humantime::format_rfc3339_millis;

use super::super::can_be_written;
use super::run::Outcome;
use super::{Test, Transport};
use crate::failure::Failure;

/// The columns. Times from `Average` on are in µs, `Delay` too; bandwidths are in megabits a second.
pub(super) const HEADS: &str = "Transport,Started,Ended,TgtMsgCount,ActMsgCount,MsgSize,Delay,Burst,TgtMsgSec,TgtBwMb,\
     ActMsgSec,ActBwMb,Average,StDev,Min,P10,P20,P30,P40,P50,P60,P70,P80,P90,P925,P95,P975,P99,P999,P9999,P99999,Max";

const QUANTILES: [f64; 16] =
    [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.925, 0.95, 0.975, 0.99, 0.999, 0.9999, 0.99999];

/// `grid.csv` in a folder.
pub(super) struct Csv {
    path: PathBuf,
    /// From the first result on: until then the last ones stay.
    file: Option<File>,
}

fn cannot_write(path: &Path, error: &io::Error) -> Failure {
    Failure::writing(format_args!("write to {}", path.display()), error)
}

impl Csv {
    /// One that is to take the place of any that is there; the folder is made.
    pub(super) fn new(folder: &Path) -> Result<Csv, Failure> {
        fs::create_dir_all(folder).map_err(|error| cannot_write(folder, &error))?;
        let path = folder.join("grid.csv");
        can_be_written(&path).map_err(|error| cannot_write(&path, &error))?;
        Ok(Csv { path, file: None })
    }

    /// Adds a test, and gives its line.
    pub(super) fn add(
        &mut self,
        transport: Transport,
        test: &Test,
        outcome: &Outcome,
    ) -> Result<String, Failure> {
        let line = line(transport, test, outcome);
        let cannot = |error| cannot_write(&self.path, &error);
        let file = match &mut self.file {
            Some(file) => file,
            none => {
                let mut file = File::create(&self.path).map_err(cannot)?;
                writeln!(file, "{HEADS}").map_err(cannot)?;
                none.insert(file)
            }
        };
        writeln!(file, "{line}").map_err(cannot)?;
        Ok(line)
    }
}

fn line(transport: Transport, test: &Test, outcome: &Outcome) -> String {
    let times = &outcome.times;
    let (started, ended) = (format_rfc3339_millis(outcome.started), format_rfc3339_millis(outcome.ended));
    let (target, actual) = (test.per_second(), outcome.per_second());
    let micros = |nanos: f64| format!("{:.1}", nanos / 1e3);
    let mut line = format!(
        "{transport},{started},{ended},{},{},{},{},{},{target:.0},{:.3},{actual:.0},{:.3}",
        test.messages(),
        times.len(),
        test.size,
        micros_of(test.delay),
        test.burst,
        test.megabits(target),
        test.megabits(actual),
    );
    let quantiles = QUANTILES.map(|part| times.value_at_quantile(part) as f64);
    let first = [times.mean(), times.stdev(), times.min() as f64];
    for time in first.into_iter().chain(quantiles).chain([times.max() as f64]) {
        let _ = write!(line, ",{}", micros(time));
    }
    line
}

/// What a terminal shows in place of [`HEADS`], in eighty columns.
pub(super) fn heads_for_people() -> String {
    row(["over", "size", "delay", "burst", "answers", "p50", "p99", "p99.9", "max"].map(str::to_owned))
        + " µs"
}

/// What a terminal shows in place of a test's line: times in µs.
pub(super) fn line_for_people(transport: Transport, test: &Test, outcome: &Outcome) -> String {
    let times = &outcome.times;
    let micros = |nanos: u64| format!("{:.1}", nanos as f64 / 1e3);
    let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|part| micros(times.value_at_quantile(part)));
    let (delay, burst) = (format!("{:?}", test.delay), test.burst.to_string());
    let (size, answers) = (test.size.to_string(), times.len().to_string());
    let mut line =
        row([transport.to_string(), size, delay, burst, answers, p50, p99, p999, micros(times.max())]);
    let missing = test.messages().saturating_sub(times.len());
    if missing > 0 {
        let _ = write!(line, "\n      {missing} messages of {} were not answered", test.messages());
    }
    line
}

fn row([over, size, delay, burst, answers, p50, p99, p999, max]: [String; 9]) -> String {
    format!("{over:<5} {size:>6} {delay:>7} {burst:>7} {answers:>9} {p50:>8} {p99:>8} {p999:>8} {max:>9}")
}

/// In µs, as short as it can be said: no two delays are said alike.
fn micros_of(delay: Duration) -> f64 {
    delay.as_nanos() as f64 / 1e3
}

/// The percentiles of a test, in µs.
pub(super) fn percentiles(
    folder: &Path,
    transport: Transport,
    test: &Test,
    outcome: &Outcome,
) -> Result<(), Failure> {
    let Test { size, delay, burst, .. } = test;
    let delay = micros_of(*delay);
    let path = folder.join(format!("{transport}-{size}-{delay}us-{burst}.hgrm"));
    fs::write(&path, hgrm(outcome)).map_err(|error| cannot_write(&path, &error))
}

fn hgrm(outcome: &Outcome) -> String {
    let times = &outcome.times;
    let mut text =
        format!("{:>12} {:>14} {:>10} {:>14}\n\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)");
    let mut total = 0;
    for step in times.iter_quantiles(5) {
        total += step.count_since_last_iteration();
        let (value, part) = (step.value_iterated_to() as f64 / 1e3, step.quantile_iterated_to());
        let _ = write!(text, "{value:>12.3} {part:>2.12} {total:>10}");
        let _ = match 1.0 - part {
            left if left > 0.0 => writeln!(text, " {:>14.2}", 1.0 / left),
            _ => writeln!(text),
        };
    }
    let (mean, deviation, max) = (times.mean() / 1e3, times.stdev() / 1e3, times.max() as f64 / 1e3);
    let _ = writeln!(text, "#[Mean    = {mean:>12.3}, StdDeviation   = {deviation:>12.3}]");
    let _ = writeln!(text, "#[Max     = {max:>12.3}, Total count    = {:>12}]", times.len());
    // The buckets of a histogram of three digits.
    let _ = writeln!(text, "#[Buckets = {:>12}, SubBuckets     = {:>12}]", times.buckets(), 2048);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    use hdrhistogram::Histogram;

    #[test]
    fn what_a_terminal_shows_fits_eighty_columns() {
        let test = Test {
            size: 65_536,
            delay: Duration::from_millis(100),
            burst: 1_000_000,
            time: Duration::from_secs(10),
            servers: 1,
            clients: 1,
        };
        let mut times = Histogram::new_with_bounds(1, 60_000_000_000, 3).unwrap();
        times.record_n(999_999_000, 99_999_000).unwrap();
        let now = std::time::SystemTime::now();
        let outcome = Outcome::new(now, Duration::from_secs(10), times);
        let shown = line_for_people(Transport::Zerio, &test, &outcome);
        let (row, missing) = shown.split_once('\n').unwrap();
        assert!(row.len() <= 80 && heads_for_people().chars().count() <= 80, "{row}\n{}", heads_for_people());
        assert!(row.contains(" 65536   100ms 1000000  99999000 "), "{row}");
        assert_eq!(missing.trim(), "1000 messages of 100000000 were not answered");
    }

    #[test]
    fn a_delay_of_whole_microseconds_had_a_fraction_and_one_of_a_fraction_had_none() {
        let said = |nanos| micros_of(Duration::from_nanos(nanos)).to_string();
        assert_eq!([100, 1500, 123_000, 10_000_000].map(said), ["0.1", "1.5", "123", "10000"]);
    }
}
