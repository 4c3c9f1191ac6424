//! What the doctor prints: a table as wide as the terminal, a line for each finding in a pipe, JSON for programs.
#![forbid(unsafe_code)]

use std::io::{Write, stdout};
use std::time::Duration;

use comfy_table::{Attribute, Cell, Color, ColumnConstraint, ContentArrangement, Table, Width, presets};
use serde::Serialize;

use super::facts::{self, Facts};
use super::finding::{Finding, Verdict};
use crate::failure::Failure;

/// From so many columns on, what was found, what it costs and what to do stand beside each other.
const WIDE: u16 = 120;

/// Columns of a terminal that does not say how many it has, and the least that there is a table for.
const USUAL: u16 = 80;
const NARROW: u16 = 50;

#[derive(Debug, Serialize)]
pub(super) struct Report {
    version: &'static str,
    system: System,
    findings: Vec<Finding>,
    wrong: usize,
    costs: usize,
    seconds: f64,
}

#[derive(Debug, Serialize)]
struct System {
    os: &'static str,
    arch: &'static str,
    kernel: Option<String>,
    cpu: Option<String>,
}

impl Report {
    pub(super) fn new(facts: &Facts, findings: Vec<Finding>, took: Duration) -> Report {
        let system = System {
            os: std::env::consts::OS,
            arch: std::env::consts::ARCH,
            kernel: facts.text(facts::KERNEL).map(str::to_owned),
            cpu: facts.processor("model name").map(str::to_owned),
        };
        let count = |verdict| findings.iter().filter(|finding| finding.verdict == verdict).count();
        let (wrong, costs) = (count(Verdict::Wrong), count(Verdict::Costs));
        let seconds = (took.as_secs_f64() * 1000.0).round() / 1000.0;
        Report { version: env!("CARGO_PKG_VERSION"), system, findings, wrong, costs, seconds }
    }

    pub(super) fn count(&self, verdict: Verdict) -> usize {
        self.findings.iter().filter(|finding| finding.verdict == verdict).count()
    }

    pub(super) fn print(&self, json: bool) -> Result<(), Failure> {
        let text = if json {
            serde_json::to_string_pretty(self).map_err(Failure::new)? + "\n"
        } else {
            self.head() + &self.table(None) + &self.sum()
        };
        stdout().write_all(text.as_bytes()).map_err(Failure::output)
    }

    fn head(&self) -> String {
        let System { os, arch, kernel, cpu } = &self.system;
        let cpu = cpu.as_ref().map_or(String::new(), |cpu| format!(", {cpu}"));
        format!("{os} {}{cpu}\n\n", kernel.as_deref().unwrap_or(arch))
    }

    fn sum(&self) -> String {
        format!("\n{} wrong, {} that cost something; {:.1} s\n", self.wrong, self.costs, self.seconds)
    }

    /// As wide as this, or as the terminal; without one a finding is a line.
    fn table(&self, width: Option<u16>) -> String {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_content_arrangement(ContentArrangement::Dynamic);
        let Some(width) = width.or_else(|| table.width()) else { return self.lines() };
        // Some terminals say that they have no width at all, and in few columns nothing can be read.
        let width = if width == 0 { USUAL } else { width.max(NARROW) };
        table.set_width(width);
        let wide = width >= WIDE;
        let heads: &[&str] =
            if wide { &["", "what", "found", "costs", "do"] } else { &["", "what", "found, costs, do"] };
        table.set_header(heads.iter().map(|head| Cell::new(head).add_attribute(Attribute::Bold)));
        for finding in &self.findings {
            let mut row = vec![mark(finding.verdict), Cell::new(finding.check)];
            if wide {
                let texts = [Some(&finding.found), finding.cost.as_ref(), finding.advice.as_ref()];
                row.extend(texts.map(|text| Cell::new(text.map_or("", |text| text))));
            } else {
                row.push(Cell::new(finding.parts().join("\n")));
            }
            table.add_row(row);
        }
        // What is short stays on one line, so that only what is long is wrapped.
        let short = ColumnConstraint::ContentWidth;
        let long = ColumnConstraint::LowerBoundary(Width::Percentage(20));
        let constraints = if wide { vec![short, short, long, long, long] } else { vec![short, short] };
        table.set_constraints(constraints);
        table.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
    }

    fn lines(&self) -> String {
        let line = |finding: &Finding| {
            format!("{:<8} {:<19} {}\n", finding.verdict, finding.check, finding.parts().join("; "))
        };
        self.findings.iter().map(line).collect()
    }
}

impl Finding {
    /// What there is of what was found, what it costs and what to do.
    fn parts(&self) -> Vec<String> {
        let cost = self.cost.as_ref().map(|cost| format!("costs: {cost}"));
        let advice = self.advice.as_ref().map(|advice| format!("do: {advice}"));
        [Some(self.found.clone()), cost, advice].into_iter().flatten().collect()
    }
}

fn mark(verdict: Verdict) -> Cell {
    let cell = Cell::new(verdict);
    match verdict {
        Verdict::Fine => cell.fg(Color::Green),
        Verdict::Costs => cell.fg(Color::Yellow),
        Verdict::Wrong => cell.fg(Color::Red).add_attribute(Attribute::Bold),
        Verdict::Unknown | Verdict::Elsewhere => cell.add_attribute(Attribute::Dim),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let long =
            "what is said of it in so many words that no line of eighty columns could hold all of them";
        let findings = vec![
            Finding::fine("driver", "uring"),
            Finding::costs("huge pages", long).cost("some memory").advice(long),
            Finding::wrong("descriptors", "too few").figure("allowed", 3.0),
        ];
        Report::new(&Facts::of(&[(facts::KERNEL, "6.18")]), findings, Duration::from_millis(1500))
    }

    #[test]
    fn every_line_fits_the_terminal_and_nothing_is_lost() {
        for width in [50, 80, 119, 120, 200] {
            let table = report().table(Some(width));
            assert!(
                table.lines().all(|line| line.chars().count() <= usize::from(width)),
                "{width}:\n{table}"
            );
            let words = table.split_whitespace().filter(|word| *word == "hold").count();
            assert_eq!(words, 2, "{width}:\n{table}");
        }
    }

    #[test]
    fn in_a_pipe_a_finding_is_a_line() {
        let table = report().table(None);
        assert_eq!(table.lines().count(), 3, "{table}");
        assert!(table.contains("; costs: some memory; do: what is said"), "{table}");
        assert!(!table.contains('\u{1b}'));
    }

    #[test]
    fn json_has_every_finding_and_how_many_are_wrong() {
        let json = serde_json::to_value(report()).unwrap();
        assert_eq!((&json["wrong"], &json["costs"], &json["seconds"]), (&1.into(), &1.into(), &1.5.into()));
        assert_eq!(json["findings"][2]["verdict"], "wrong");
        assert_eq!(json["findings"][2]["figures"]["allowed"], 3.0);
        assert!(json["findings"][0]["advice"].is_null());
    }
}
