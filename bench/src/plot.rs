//! A plot for each workload: bars of each line's first figure, the control's first, with the range over the rounds.
//! Drawn as SVG by hand, because bars of one line have nothing to do with those of another: each line has a scale of
//! its own.
#![forbid(unsafe_code)]

use std::path::Path;

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::failure::{During, Failure};
use crate::job::Peer;
use crate::report::{Report, ReportedLine, Row};

const WIDTH: i32 = 900;
const MARGIN: i32 = 16;
/// Where bars begin, and how long the longest is. Behind it stands the value.
const BARS: i32 = 220;
const LONGEST: i32 = 440;
const BAR: i32 = 16;
const STEP: i32 = 22;
const HEAD: i32 = 26;
const GAP: i32 = 18;

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

/// Writes `w1.svg` and so on, for what was measured.
pub(crate) fn draw(report: &Report, folder: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(folder).during(format_args!("can't make {}", folder.display()))?;
    let mut left = report.lines.as_slice();
    while let Some(first) = left.first() {
        let family = left.partition_point(|line| line.workload == first.workload);
        let (lines, rest) = left.split_at(family);
        let path = folder.join(format!("{:?}.svg", first.workload).to_lowercase());
        plot(lines, &path).during(format_args!("can't write {}", path.display()))?;
        left = rest;
    }
    Ok(())
}

fn plot(lines: &[ReportedLine], path: &Path) -> Result<(), Failure> {
    let height = |line: &ReportedLine| HEAD + STEP * line.rows.len() as i32 + GAP;
    let whole = 2 * MARGIN + lines.iter().map(height).sum::<i32>();
    let area = SVGBackend::new(path, (WIDTH as u32, whole as u32)).into_drawing_area();
    area.fill(&WHITE).map_err(Failure::new)?;
    let mut top = MARGIN;
    for line in lines {
        draw_line(&area, line, top).map_err(Failure::new)?;
        top += height(line);
    }
    area.present().map_err(Failure::new)
}

type Drawn = Result<(), DrawingAreaErrorKind<std::io::Error>>;

fn draw_line(area: &Area<'_>, line: &ReportedLine, top: i32) -> Drawn {
    let Some(metric) = line.rows.first().and_then(|row| row.figures.first()).map(|figure| figure.metric)
    else {
        return Ok(());
    };
    let better = if metric.more_is_better() { "more is better" } else { "less is better" };
    let title = format!("{:?}: {}  [{}; {better}]", line.workload, line.title, metric.name());
    write(area, title, (MARGIN, top + HEAD / 2), HPos::Left, 15.0)?;
    let values = line.rows.iter().filter_map(|row| row.figures.first()?.value);
    let most = values.map(|value| value.max).fold(0.0, f64::max);
    let scale = |value: f64| BARS + if most > 0.0 { (f64::from(LONGEST) * value / most) as i32 } else { 0 };
    for (index, row) in line.rows.iter().enumerate() {
        draw_row(area, row, top + HEAD + STEP * index as i32, &scale)?;
    }
    Ok(())
}

fn draw_row(area: &Area<'_>, row: &Row, top: i32, scale: &impl Fn(f64) -> i32) -> Drawn {
    let middle = top + BAR / 2;
    write(area, row.name.clone(), (BARS - 8, middle), HPos::Right, 13.0)?;
    let Some(figure) = row.figures.first() else { return Ok(()) };
    let Some(value) = figure.value else {
        return write(area, "not measured".into(), (BARS + 4, middle), HPos::Left, 13.0);
    };
    let bar = Rectangle::new([(BARS, top), (scale(value.median), top + BAR)], colour(row.peer).filled());
    area.draw(&bar)?;
    let (least, most) = (scale(value.min), scale(value.max));
    area.draw(&PathElement::new([(least, middle), (most, middle)], BLACK.stroke_width(1)))?;
    for end in [least, most] {
        area.draw(&PathElement::new([(end, middle - 4), (end, middle + 4)], BLACK.stroke_width(1)))?;
    }
    let ratio = figure.ratio.map_or_else(String::new, |ratio| format!("  ({:.2} ×)", ratio.median));
    let label = format!("{}{ratio}", figure.metric.show(value.median));
    write(area, label, (BARS + LONGEST + 10, middle), HPos::Left, 13.0)
}

fn write(area: &Area<'_>, text: String, at: (i32, i32), side: HPos, size: f64) -> Drawn {
    let style = TextStyle::from(("sans-serif", size).into_font()).pos(Pos::new(side, VPos::Center));
    area.draw(&Text::new(text, at, style))
}

/// Told apart by people who see colours otherwise, too.
fn colour(peer: Peer) -> RGBColor {
    match peer {
        Peer::Bare => RGBColor(150, 150, 150),
        Peer::Zerio => RGBColor(0, 114, 178),
        Peer::Tokio => RGBColor(230, 159, 0),
        Peer::Zmq => RGBColor(0, 158, 115),
        Peer::Aead => RGBColor(86, 86, 86),
    }
}
