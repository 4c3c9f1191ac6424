//! What was measured: medians, spreads, ratios to the control of the same rounds, and what was to be reached.
#![forbid(unsafe_code)]

use std::io::{self, Write};
use std::path::Path;

use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use crate::failure::{During, Failure};
use crate::job::{Outcome, Peer};
use crate::machine::{self, Machine};
use crate::metric::Metric;
use crate::plan::{Against, Bound, Extent, Target, Workload};
use crate::run::{Measured, Runs};

/// Everything, in the order in which it was measured. This is what the JSON has.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    machine: Machine,
    rounds: usize,
    seconds: f64,
    pub(crate) lines: Vec<ReportedLine>,
    targets: Vec<Reached>,
    /// The machine's load after the last run, which has two threads of this program's own in it.
    load_after: Option<f64>,
}

#[derive(Debug, Serialize)]
pub(crate) struct ReportedLine {
    pub(crate) workload: Workload,
    pub(crate) title: String,
    /// The first is the control.
    pub(crate) rows: Vec<Row>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) peer: Peer,
    driver: Option<String>,
    pub(crate) figures: Vec<Figure>,
    failures: Vec<String>,
    rounds: Vec<Option<Outcome>>,
}

/// A metric over all rounds.
#[derive(Debug, Serialize)]
pub(crate) struct Figure {
    pub(crate) metric: Metric,
    pub(crate) value: Option<Spread>,
    /// To the control, round by round.
    pub(crate) ratio: Option<Spread>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Option<Spread> {
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median =
            if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 };
        Some(Spread { median, min, max })
    }
}

/// A target beside what was measured.
#[derive(Debug, Serialize)]
struct Reached {
    workload: Workload,
    what: String,
    to_reach: String,
    measured: Option<f64>,
    shown: String,
    reached: bool,
}

impl Report {
    pub(crate) fn new(extent: &Extent) -> Report {
        let (rounds, seconds) = (extent.rounds, extent.run.as_secs_f64());
        Report {
            machine: Machine::new(),
            rounds,
            seconds,
            lines: Vec::new(),
            targets: Vec::new(),
            load_after: None,
        }
    }

    /// Takes a line in; gives its index.
    pub(crate) fn add(&mut self, measured: Measured) -> usize {
        let Measured { line, runs } = measured;
        for target in &line.targets {
            self.targets.push(reached(&line.title, line.workload, target, &runs));
        }
        let control = &runs[0];
        let rows = runs.iter().enumerate().map(|(index, runs)| {
            let against = if index == 0 { None } else { Some(control) };
            let figure = |metric: &Metric| Figure {
                metric: *metric,
                value: Spread::of(values(runs, *metric)),
                ratio: against.filter(|_| metric.has_ratio()).and_then(|other| ratio(runs, other, *metric)),
            };
            Row {
                name: runs.contender.name.clone(),
                peer: runs.contender.job.peer,
                driver: runs.outcomes.iter().flatten().find_map(|outcome| outcome.driver.clone()),
                figures: line.metrics.iter().map(figure).collect(),
                failures: runs.failures.clone(),
                rounds: runs.outcomes.clone(),
            }
        });
        let rows = rows.collect();
        self.lines.push(ReportedLine { workload: line.workload, title: line.title, rows });
        self.lines.len() - 1
    }

    pub(crate) fn failures(&self) -> usize {
        self.lines.iter().flat_map(|line| &line.rows).map(|row| row.failures.len()).sum()
    }

    pub(crate) fn print_head(&self) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        writeln!(out, "{}", self.machine)?;
        writeln!(
            out,
            "{} rounds of {} s: median (least most); × is the ratio to the control, the first row, round by round.",
            self.rounds, self.seconds
        )?;
        Ok(())
    }

    pub(crate) fn print_line(&self, index: usize) -> Result<(), Failure> {
        let line = &self.lines[index];
        let mut table = table();
        let mut head = vec![String::new()];
        if let Some(row) = line.rows.first() {
            for figure in &row.figures {
                head.push(figure.metric.name().to_owned());
                if figure.metric.has_ratio() {
                    head.push("×".to_owned());
                }
            }
        }
        let columns = head.len();
        table.set_header(head);
        for row in &line.rows {
            table.add_row(row.cells());
        }
        for column in 1..columns {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        let mut out = io::stdout().lock();
        writeln!(out, "\n{:?}: {}\n{table}", line.workload, line.title)?;
        for row in &line.rows {
            if let Some(why) = row.failures.first() {
                writeln!(
                    out,
                    "{} of {} runs of {} failed: {why}",
                    row.failures.len(),
                    row.rounds.len(),
                    row.name
                )?;
            }
        }
        Ok(())
    }

    /// One row a way to the kernel, one column a workload: what was measured by the control.
    pub(crate) fn print_drivers(&self) -> Result<(), Failure> {
        let lines: Vec<_> = self.lines.iter().filter(|line| line.workload == Workload::Drivers).collect();
        let Some(first) = lines.first() else { return Ok(()) };
        let of =
            |line: &&ReportedLine| line.rows.first().and_then(|row| Some(row.figures.first()?.metric.name()));
        let head = lines.iter().map(|line| format!("{}, {}", line.title, of(line).unwrap_or_default()));
        let mut table = table();
        table.set_header(std::iter::once(String::new()).chain(head));
        for (index, row) in first.rows.iter().enumerate().skip(1) {
            let ratio = |line: &&ReportedLine| line.rows.get(index)?.figures.first()?.ratio;
            let cells = lines
                .iter()
                .map(|line| ratio(line).map_or_else(|| "-".into(), |it| format!("{:.2}", it.median)));
            table.add_row(std::iter::once(row.name.clone()).chain(cells));
        }
        writeln!(io::stdout().lock(), "\nBy driver and path, × the control of each workload:\n{table}")?;
        Ok(())
    }

    /// What is to be reached beside what was measured, and how often zerio allocated.
    pub(crate) fn print_targets(&mut self) -> Result<(), Failure> {
        self.targets.extend(allocations(&self.lines));
        self.load_after = machine::load();
        let mut table = table();
        table.set_header(["", "what", "to reach", "measured", ""]);
        for target in &self.targets {
            let verdict = match (target.measured, target.reached) {
                (None, _) => "not measured",
                (_, true) => "reached",
                (_, false) => "missed",
            };
            let workload = format!("{:?}", target.workload);
            table.add_row([&workload, &target.what, &target.to_reach, &target.shown, verdict]);
        }
        writeln!(io::stdout().lock(), "\n{table}")?;
        if let Some(load) = self.load_after {
            let own = "about two of it are this program's own; more makes bad figures";
            writeln!(io::stdout().lock(), "Load after the last run: {load} ({own}).")?;
        }
        Ok(())
    }

    pub(crate) fn write_json(&self, path: &Path) -> Result<(), Failure> {
        let json = serde_json::to_string_pretty(self)?;
        std::fs::write(path, json + "\n").during(format_args!("can't write {}", path.display()))
    }
}

impl Row {
    fn cells(&self) -> Vec<String> {
        let mut cells = vec![match &self.driver {
            Some(driver) => format!("{} ({driver})", self.name),
            None => self.name.clone(),
        }];
        for figure in &self.figures {
            let show = |value: f64| figure.metric.show(value);
            cells.push(match figure.value {
                None => "-".to_owned(),
                Some(spread) if self.rounds.len() == 1 => show(spread.median),
                Some(Spread { median, min, max }) => {
                    format!("{} ({} {})", show(median), show(min), show(max))
                }
            });
            if figure.metric.has_ratio() {
                cells.push(match figure.ratio {
                    None => String::new(),
                    Some(ratio) if self.rounds.len() == 1 => format!("{:.2}", ratio.median),
                    Some(ratio) => format!("{:.2} ({:.2} {:.2})", ratio.median, ratio.min, ratio.max),
                });
            }
        }
        cells
    }
}

fn table() -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table
}

fn value(runs: &Runs, round: usize, metric: Metric) -> Option<f64> {
    metric.of(runs.outcomes.get(round)?.as_ref()?, runs.contender.job.clients)
}

fn values(runs: &Runs, metric: Metric) -> Vec<f64> {
    (0..runs.outcomes.len()).filter_map(|round| value(runs, round, metric)).collect()
}

/// One's figure by the other's, of the same round each.
fn ratio(one: &Runs, other: &Runs, metric: Metric) -> Option<Spread> {
    by_round(one, other, metric, |one, other| one / other)
}

/// What comes of one's figure and the other's, of the same round each.
fn by_round(one: &Runs, other: &Runs, metric: Metric, of: fn(f64, f64) -> f64) -> Option<Spread> {
    let rounds = 0..one.outcomes.len();
    let both = |round| {
        let (one, other) = (value(one, round, metric)?, value(other, round, metric)?);
        Some(of(one, other)).filter(|_| other > 0.0)
    };
    Spread::of(rounds.filter_map(both).collect())
}

fn reached(title: &str, workload: Workload, target: &Target, runs: &[Runs]) -> Reached {
    let named = |name: &str| runs.iter().find(|runs| runs.contender.name == name);
    let (whose, beside) = match target.against {
        Against::Control => (runs.first(), runs[0].contender.name.as_str()),
        Against::Contender(name) | Against::Above(name) => (named(name), name),
        Against::Itself => (None, ""),
    };
    let spread = named(target.contender).and_then(|runs| match target.against {
        Against::Itself => Spread::of(values(runs, target.metric)),
        Against::Above(_) => by_round(runs, whose?, target.metric, |one, other| one - other),
        Against::Control | Against::Contender(_) => ratio(runs, whose?, target.metric),
    });
    let show = |value: f64| match target.against {
        Against::Itself | Against::Above(_) => target.metric.show(value),
        Against::Control | Against::Contender(_) => format!("{value:.2}"),
    };
    let (most, bound) = match target.bound {
        Bound::AtMost(bound) => ("≤", bound),
        Bound::AtLeast(bound) => ("≥", bound),
    };
    let unit = match target.against {
        Against::Itself => String::new(),
        Against::Above(_) => format!(" above {beside}"),
        Against::Control | Against::Contender(_) => format!(" × {beside}"),
    };
    let measured = spread.map(|spread| spread.median);
    Reached {
        workload,
        what: format!("{title}: {}, {}", target.contender, target.metric.name()),
        to_reach: format!("{most} {}{unit}", show(bound)),
        measured,
        shown: spread.map_or_else(String::new, |spread| {
            format!("{} ({} {})", show(spread.median), show(spread.min), show(spread.max))
        }),
        reached: measured.is_some_and(|measured| match target.bound {
            Bound::AtMost(bound) => measured <= bound,
            Bound::AtLeast(bound) => measured >= bound,
        }),
    }
}

/// The most that zerio allocated after its start in any run of each workload.
fn allocations(lines: &[ReportedLine]) -> Vec<Reached> {
    let mut most: Vec<(Workload, f64)> = Vec::new();
    for line in lines {
        let outcomes = line.rows.iter().flat_map(|row| row.rounds.iter().flatten());
        let counts = outcomes.filter_map(|outcome| Metric::Allocations.of(outcome, 1));
        let Some(worst) = counts.reduce(f64::max) else { continue };
        match most.iter_mut().find(|(workload, _)| *workload == line.workload) {
            Some((_, before)) => *before = before.max(worst),
            None => most.push((line.workload, worst)),
        }
    }
    let reached = |(workload, worst)| Reached {
        workload,
        what: "zerio: allocations after the start, both processes, the worst run".into(),
        to_reach: "0".into(),
        measured: Some(worst),
        shown: format!("{worst:.0}"),
        reached: worst == 0.0,
    };
    most.into_iter().map(reached).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_tls_may_take_more_is_a_difference_of_microseconds() {
        let extent = Extent {
            rounds: 1,
            run: std::time::Duration::from_millis(50),
            smoke: true,
            only: vec![Workload::Tls],
            peers: vec![],
            cores: (None, None),
        };
        let lines = extent.lines();
        let line =
            lines.iter().find(|line| !line.targets.is_empty() && line.contenders[0].job.peer == Peer::Bare);
        let line = line.expect("round trips");
        let with = |nanos: [u64; 3]| {
            let runs = line.contenders.iter().zip(nanos).map(|(contender, p50)| {
                let latency = Some(crate::job::Latency { p50, ..Default::default() });
                let outcome = Outcome { messages: 1, latency, ..Outcome::default() };
                Runs { contender: contender.clone(), outcomes: vec![Some(outcome)], failures: vec![] }
            });
            reached(&line.title, line.workload, &line.targets[0], &runs.collect::<Vec<_>>())
        };
        assert!(with([1000, 5000, 6499]).reached);
        let over = with([1000, 5000, 6501]);
        assert!(!over.reached);
        assert_eq!(
            (over.to_reach.as_str(), over.shown.as_str()),
            ("≤ 1.5 above zerio, polled", "1.5 (1.5 1.5)")
        );
    }

    #[test]
    fn a_spread_has_the_middle_and_both_ends() {
        let spread = |values: &[f64]| Spread::of(values.to_vec());
        assert_eq!(spread(&[]), None);
        assert_eq!(spread(&[3.0, 1.0, 2.0]), Some(Spread { median: 2.0, min: 1.0, max: 3.0 }));
        assert_eq!(spread(&[4.0, 1.0]).unwrap().median, 2.5);
    }
}
