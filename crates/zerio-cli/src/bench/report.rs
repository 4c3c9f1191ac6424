//! What `zerio bench` prints: tables for people, JSON for programs. Figures are medians over the rounds,
//! ratios are of those medians; a maximum is the highest of all rounds.
#![forbid(unsafe_code)]

use std::io::{Write, stdout};

use comfy_table::{Attribute, Cell, CellAlignment, Color, ColumnConstraint, Table, presets};
use serde::Serialize;
use zerio::DriverInfo;

use super::harness::Latencies;
use super::idle::{Cost, SESSIONS};
use super::machine::Machine;
use super::plan::{Case, IdleCase};
use super::plot::Curve;
use super::{one_way, round_trip};
use crate::args::Drive;
use crate::failure::Failure;

#[derive(Debug, Serialize)]
pub(super) struct Report {
    version: &'static str,
    machine: Machine,
    /// What `auto` took.
    driver: Driver,
    /// Zerio's sessions speak TLS; the control's do not.
    tls: bool,
    rounds: u16,
    pub(super) round_trip: Vec<RoundTripLine>,
    pub(super) one_way: Vec<OneWayLine>,
    pub(super) idle: Vec<IdleLine>,
    /// By any thread, in the measured parts of all of zerio's runs.
    pub(super) allocations: u64,
    /// A Ctrl-C has ended it early.
    pub(super) interrupted: bool,
}

#[derive(Debug, Serialize)]
struct Driver {
    name: &'static str,
    fallback: Option<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct RoundTripLine {
    pub(super) size: usize,
    pub(super) wait: String,
    pub(super) drive: &'static str,
    pub(super) driver: &'static str,
    /// Whether the bare sockets of the control spun or blocked.
    pub(super) control: &'static str,
    /// How many round trips were recorded.
    pub(super) samples: u64,
    pub(super) p50_us: f64,
    pub(super) p90_us: f64,
    pub(super) p99_us: f64,
    pub(super) p999_us: f64,
    pub(super) max_us: f64,
    pub(super) control_p50_us: f64,
    pub(super) control_p99_us: f64,
    pub(super) ratio_p50: f64,
    pub(super) ratio_p99: f64,
    /// All of it, for a picture.
    #[serde(skip)]
    pub(super) curve: Curve,
    #[serde(skip)]
    pub(super) control_curve: Curve,
}

#[derive(Debug, Serialize)]
pub(super) struct OneWayLine {
    pub(super) size: usize,
    pub(super) wait: String,
    pub(super) drive: &'static str,
    pub(super) driver: &'static str,
    pub(super) control: &'static str,
    pub(super) messages_per_second: f64,
    /// Of the messages, their headers not included.
    pub(super) bytes_per_second: f64,
    pub(super) control_messages_per_second: f64,
    pub(super) ratio: f64,
}

#[derive(Debug, Serialize)]
pub(super) struct IdleLine {
    pub(super) wait: String,
    pub(super) driver: &'static str,
    pub(super) sessions: usize,
    pub(super) cpu_percent: f64,
}

impl RoundTripLine {
    pub(super) fn new(case: &Case, control: &[Latencies], zerio: &[round_trip::Run]) -> RoundTripLine {
        let ours = || zerio.iter().map(|run| &run.latencies);
        let p = |quantile| micros(ours(), quantile);
        let control_p = |quantile| micros(control.iter(), quantile);
        let (p50_us, p99_us) = (p(0.5), p(0.99));
        let (control_p50_us, control_p99_us) = (control_p(0.5), control_p(0.99));
        RoundTripLine {
            size: case.size,
            wait: case.wait.to_string(),
            drive: drive(case),
            driver: zerio.first().map_or("", |run| run.driver),
            control: control_name(case),
            samples: ours().map(|run| run.histogram.len()).sum(),
            p50_us,
            p90_us: p(0.9),
            p99_us,
            p999_us: p(0.999),
            max_us: ours().map(|run| run.histogram.max()).max().unwrap_or(0) as f64 / 1e3,
            control_p50_us,
            control_p99_us,
            ratio_p50: round(p50_us / control_p50_us),
            ratio_p99: round(p99_us / control_p99_us),
            curve: Curve::new(ours().map(|run| &run.histogram)),
            control_curve: Curve::new(control.iter().map(|run| &run.histogram)),
        }
    }
}

impl OneWayLine {
    pub(super) fn new(case: &Case, control: &[one_way::Run], zerio: &[one_way::Run]) -> OneWayLine {
        let rate = |runs: &[one_way::Run]| {
            median(runs.iter().map(one_way::Run::messages_per_second).collect()).round()
        };
        let (ours, theirs) = (rate(zerio), rate(control));
        OneWayLine {
            size: case.size,
            wait: case.wait.to_string(),
            drive: drive(case),
            driver: zerio.first().map_or("", |run| run.driver),
            control: control_name(case),
            messages_per_second: ours,
            bytes_per_second: ours * case.size as f64,
            control_messages_per_second: theirs,
            ratio: round(ours / theirs),
        }
    }
}

impl IdleLine {
    pub(super) fn new(case: &IdleCase, cost: &Cost) -> IdleLine {
        let wait = case.wait.to_string();
        IdleLine { wait, driver: cost.driver, sessions: SESSIONS, cpu_percent: round(cost.cpu_percent) }
    }
}

impl Report {
    pub(super) fn new(driver: DriverInfo, tls: bool, rounds: u16) -> Report {
        Report {
            version: env!("CARGO_PKG_VERSION"),
            machine: Machine::new(),
            driver: Driver { name: driver.name, fallback: driver.fallback },
            tls,
            rounds,
            round_trip: Vec::new(),
            one_way: Vec::new(),
            idle: Vec::new(),
            allocations: 0,
            interrupted: false,
        }
    }

    /// What can be told before anything is measured.
    pub(super) fn head(&self) -> String {
        let driver = &self.driver;
        let why = driver.fallback.as_ref().map_or(String::new(), |why| format!(" ({why})"));
        let tls = if self.tls { ", TLS 1.3 beside bare sockets without" } else { "" };
        let (machine, driver, rounds) = (&self.machine, driver.name, self.rounds);
        let plural = if rounds == 1 { "" } else { "s" };
        format!("{machine}\ndriver {driver}{why}{tls}; medians of {rounds} round{plural}")
    }

    pub(super) fn print_head(&self) -> Result<(), Failure> {
        writeln!(stdout(), "{}", self.head()).map_err(Failure::output)
    }

    pub(super) fn print_json(&self) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(self).map_err(Failure::new)?;
        writeln!(stdout(), "{text}").map_err(Failure::output)
    }

    pub(super) fn print_tables(&self) -> Result<(), Failure> {
        let text = self.tables(Table::new().width());
        stdout().write_all(text.as_bytes()).map_err(Failure::output)
    }

    /// As wide as they are, or, on a terminal of less than `WIDE` columns, without what is left out first.
    fn tables(&self, width: Option<u16>) -> String {
        let narrow = width.is_some_and(|width| width < WIDE);
        let mut text = String::new();
        if !self.round_trip.is_empty() {
            let heads = "size|driven|driver|p50|p90|p99|p99.9|max|control\np50|p99|ratio\np50|p99";
            let mut table = table(heads, narrow);
            for line in &self.round_trip {
                let times = [line.p50_us, line.p90_us, line.p99_us, line.p999_us, line.max_us];
                let controls = [line.control_p50_us, line.control_p99_us];
                let mut row = start(line.size, line.drive, &line.wait, line.driver);
                row.extend(times.iter().chain(&controls).map(|time| number(format!("{time:.1}"))));
                row.extend([ratio(line.ratio_p50), ratio(line.ratio_p99)]);
                table.add_row(row);
            }
            let hidden = if narrow { "; more on a wider terminal" } else { "" };
            text += &format!(
                "\nRound trips in µs, there and back{hidden}\n(ratio: zerio's time over bare sockets'; less is \
                 better)\n{table}\n"
            );
        }
        if !self.one_way.is_empty() {
            let mut table = table("size|driven|driver|M msg/s|MB/s|control\nM msg/s|ratio", narrow);
            for line in &self.one_way {
                let mut row = start(line.size, line.drive, &line.wait, line.driver);
                let numbers =
                    [line.messages_per_second, line.bytes_per_second, line.control_messages_per_second];
                row.extend(numbers.map(|count| number(format!("{:.2}", count / 1e6))));
                row.push(ratio(line.ratio));
                table.add_row(row);
            }
            text += &format!(
                "\nOne way, a call for each message\n(the control writes 64 KiB of frames at a time; more is better)\n\
                 {table}\n"
            );
        }
        if !self.idle.is_empty() {
            let mut table = table("wait|driver|% of a core", narrow);
            for line in &self.idle {
                let cells = [Cell::new(&line.wait), Cell::new(line.driver)];
                let percent = number(format!("{:.2}", line.cpu_percent));
                table.add_row(cells.into_iter().chain([percent]));
            }
            text += &format!("\nAn idle server with {SESSIONS} clients\n{table}\n");
        }
        text + &format!("\n{} heap allocations while zerio's runs were measured\n", self.allocations)
    }
}

fn drive(case: &Case) -> &'static str {
    match case.drive {
        Drive::Polled => "polled",
        Drive::Thread => "thread",
    }
}

fn control_name(case: &Case) -> &'static str {
    if case.spins() { "spinning" } else { "blocking" }
}

/// The median over the rounds of one quantile, in microseconds.
fn micros<'a>(runs: impl Iterator<Item = &'a Latencies>, quantile: f64) -> f64 {
    round(median(runs.map(|run| run.histogram.value_at_quantile(quantile) as f64 / 1e3).collect()))
}

/// The middle one, or the mean of the two in the middle.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => 0.0,
        even if even % 2 == 0 => (values[middle - 1] + values[middle]) / 2.0,
        _ => values[middle],
    }
}

/// To three decimals: what is behind them is noise.
fn round(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// From so many columns on a terminal has room for all.
const WIDE: u16 = 120;

/// What a narrow terminal does not show.
const WIDE_ONLY: [&str; 3] = ["p90", "p99.9", "max"];

/// An empty table with these heads; it has colours on a terminal only.
fn table(heads: &str, narrow: bool) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(heads.split('|').map(|head| Cell::new(head).add_attribute(Attribute::Bold)));
    for (column, head) in table.column_iter_mut().zip(heads.split('|')).filter(|_| narrow) {
        column.set_padding((1, 0));
        if WIDE_ONLY.contains(&head) {
            column.set_constraint(ColumnConstraint::Hidden);
        }
    }
    table
}

/// The columns that every line begins with.
fn start(size: usize, drive: &str, wait: &str, driver: &str) -> Vec<Cell> {
    vec![number(size.to_string()), Cell::new(driven(drive, wait)), Cell::new(driver)]
}

/// How an engine is driven, in a word: whoever polls has no wait strategy.
pub(super) fn driven<'a>(drive: &'a str, wait: &'a str) -> &'a str {
    if drive == "polled" { drive } else { wait }
}

fn number(text: String) -> Cell {
    Cell::new(text).set_alignment(CellAlignment::Right)
}

fn ratio(value: f64) -> Cell {
    number(format!("{value:.2}")).fg(Color::Cyan)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_of_80_columns_was_too_narrow_for_the_tables() {
        let round_trip = |drive, wait: &str| RoundTripLine {
            size: 65536,
            wait: wait.to_owned(),
            drive,
            driver: "uring",
            control: "spinning",
            samples: 1,
            p50_us: 1113.0,
            p90_us: 2113.5,
            p99_us: 12113.5,
            p999_us: 21130.5,
            max_us: 321_130.5,
            control_p50_us: 1019.1,
            control_p99_us: 12031.8,
            ratio_p50: 15.93,
            ratio_p99: 16.90,
            curve: Curve::default(),
            control_curve: Curve::default(),
        };
        let one_way = OneWayLine {
            size: 65536,
            wait: "spin-then-park:20us".to_owned(),
            drive: "thread",
            driver: "uring",
            control: "blocking",
            messages_per_second: 123.45e6,
            bytes_per_second: 12345.67e6,
            control_messages_per_second: 123.45e6,
            ratio: 1.0,
        };
        let report = Report {
            version: "",
            machine: Machine::new(),
            driver: Driver { name: "uring", fallback: None },
            tls: false,
            rounds: 5,
            round_trip: vec![round_trip("polled", "busy-spin"), round_trip("thread", "spin-then-park:20us")],
            one_way: vec![one_way],
            idle: Vec::new(),
            allocations: 0,
            interrupted: false,
        };
        let (narrow, wide) = (report.tables(Some(80)), report.tables(Some(200)));
        assert!(narrow.lines().all(|line| line.trim_end().chars().count() <= 80), "{narrow}");
        assert_eq!(wide, report.tables(None), "into a file as on a wide terminal");
        assert!(wide.lines().all(|line| line.trim_end().chars().count() < WIDE.into()), "{wide}");
        for head in WIDE_ONLY {
            assert!(wide.contains(head) && !narrow.contains(head), "{head}");
        }
    }

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(Vec::new()), 0.0);
    }
}
