//! `zerio bench --report`: the same as the tables, with pictures, as one page that needs nothing but itself.
#![forbid(unsafe_code)]

use std::fmt::{Display, Write};
use std::ops::RangeInclusive;

use super::idle::SESSIONS;
use super::plot;
use super::report::{OneWayLine, Report, RoundTripLine, driven};
use crate::shell;

const STYLE: &str = include_str!("page.css");

/// The page's pictures, each as a file of its own, with the name that it is to have.
pub(super) fn pictures(report: &Report) -> impl Iterator<Item = (String, String)> {
    let decades = decades(&report.round_trip);
    report.round_trip.iter().map(move |line| {
        let title = format!("Round trip, {}", line_title(line));
        let words: Vec<&str> = title.split(|c: char| !c.is_ascii_alphanumeric()).collect();
        let words: Vec<&str> = words.into_iter().filter(|word| !word.is_empty()).collect();
        (
            words.join("-").to_lowercase() + ".svg",
            plot::alone(&picture(line, decades.clone()), &escaped(&title), STYLE),
        )
    })
}

/// The page. `command` is what was typed.
pub(super) fn page(report: &Report, command: &[String]) -> String {
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>zerio bench</title>\n\
         <style>\n{STYLE}</style>\n</head>\n<body>\n<h1>zerio bench</h1>\n"
    );
    for line in report.head().lines() {
        let _ = writeln!(page, "<p>{}</p>", escaped(line));
    }
    if report.interrupted {
        page += "<p><strong>It was interrupted: this is what was measured until then.</strong></p>\n";
    }
    let _ = writeln!(
        page,
        "<p class=\"quiet\">To repeat it:</p>\n<pre><span>{}</span></pre>",
        // A line that is too long ends before a flag, and not behind its hyphens.
        escaped(shell::command(command)).replace(" --", "</span> <span>--")
    );
    if !report.round_trip.is_empty() {
        round_trips(&mut page, &report.round_trip);
    }
    if !report.one_way.is_empty() {
        one_way(&mut page, &report.one_way);
    }
    if !report.idle.is_empty() {
        let _ = writeln!(page, "<h2>An idle server with {SESSIONS} clients</h2>");
        let rows = report.idle.iter().map(|line| {
            [line.wait.clone(), line.driver.to_owned(), format!("{:.2}", line.cpu_percent)].to_vec()
        });
        table(&mut page, 2, &["wait", "driver", "% of a core"], rows);
    }
    let _ = writeln!(
        page,
        "<p class=\"quiet\">{} heap allocations while zerio's runs were measured</p>\n</body>\n</html>",
        report.allocations
    );
    page
}

fn round_trips(page: &mut String, lines: &[RoundTripLine]) {
    *page += "<h2>Round trips</h2>\n<p>There and back, by percentile, of all rounds together: \
              <span class=\"key zerio\">zerio</span>, and dashed <span class=\"key control\">bare sockets</span>, which \
              do the same beside it. Lower is better, and a line that stays flat to the right even more so. Both axes \
              are logarithmic.</p>\n<div class=\"cards\">\n";
    let decades = decades(lines);
    for line in lines {
        let (title, p50, control) = (line_title(line), line.p50_us, line.control_p50_us);
        let picture = picture(line, decades.clone());
        let _ = writeln!(
            page,
            "<figure>\n<h3>{title}</h3>\n{picture}<figcaption>p50 {p50:.1} µs, {} bare sockets {control:.1} µs; {} round \
             trips</figcaption>\n</figure>",
            line.control, line.samples
        );
    }
    *page += "</div>\n<p>In µs, medians of the rounds; the ratio is zerio's time over bare sockets', and less is \
              better.</p>\n";
    let heads = "size|drive|wait|driver|p50|p90|p99|p99.9|max|control p50|p99|ratio p50|p99";
    let heads: Vec<&str> = heads.split('|').collect();
    let rows = lines.iter().map(|line| {
        let times = [line.p50_us, line.p90_us, line.p99_us, line.p999_us, line.max_us];
        let controls = [line.control_p50_us, line.control_p99_us];
        let mut row = start(line.size, line.drive, &line.wait, line.driver);
        row.extend(times.iter().chain(&controls).map(|time| format!("{time:.1}")));
        row.extend([line.ratio_p50, line.ratio_p99].map(|ratio| format!("{ratio:.2}")));
        row
    });
    table(page, 4, &heads, rows);
}

fn line_title(line: &RoundTripLine) -> String {
    title(line.size, line.drive, &line.wait, line.driver)
}

/// Of all lines, so that their pictures can be held against each other.
fn decades(lines: &[RoundTripLine]) -> RangeInclusive<i32> {
    plot::decades(lines.iter().flat_map(|line| [&line.curve, &line.control_curve]))
}

fn picture(line: &RoundTripLine, decades: RangeInclusive<i32>) -> String {
    plot::percentiles(&[("control", &line.control_curve), ("zerio", &line.curve)], decades)
}

fn one_way(page: &mut String, lines: &[OneWayLine]) {
    *page += "<h2>One way</h2>\n<p>Messages a second, a call for each: <span class=\"key zerio\">zerio</span>, and \
              <span class=\"key control\">bare sockets</span> that write 64 KiB of frames at a time. Longer is \
              better.</p>\n<div class=\"cards\">\n";
    let rates = lines.iter().flat_map(|line| [line.messages_per_second, line.control_messages_per_second]);
    let most = rates.fold(f64::MIN_POSITIVE, f64::max);
    for line in lines {
        let _ =
            writeln!(page, "<figure>\n<h3>{}</h3>", title(line.size, line.drive, &line.wait, line.driver));
        for (class, name, rate) in [
            ("zerio", "zerio", line.messages_per_second),
            ("control", "bare sockets", line.control_messages_per_second),
        ] {
            let width = 100.0 * rate / most;
            let _ = writeln!(
                page,
                "<div class=\"bar {class}\" style=\"width: {width:.1}%\"></div>\n<p>{name}: {:.2} million a second, {:.0} MB/s</p>",
                rate / 1e6,
                rate * line.size as f64 / 1e6
            );
        }
        *page += "</figure>\n";
    }
    *page += "</div>\n";
    let heads = ["size", "drive", "wait", "driver", "M msg/s", "MB/s", "control M msg/s", "ratio"];
    let rows = lines.iter().map(|line| {
        let mut row = start(line.size, line.drive, &line.wait, line.driver);
        let numbers = [line.messages_per_second, line.bytes_per_second, line.control_messages_per_second];
        row.extend(numbers.map(|number| format!("{:.2}", number / 1e6)));
        row.push(format!("{:.2}", line.ratio));
        row
    });
    table(page, 4, &heads, rows);
}

fn title(size: usize, drive: &str, wait: &str, driver: &str) -> String {
    format!("{size} bytes, {}, {driver}", driven(drive, wait))
}

fn start(size: usize, drive: &str, wait: &str, driver: &str) -> Vec<String> {
    vec![size.to_string(), drive.to_owned(), wait.to_owned(), driver.to_owned()]
}

/// A table of which so many columns are words, which begin at the left.
fn table(page: &mut String, words: usize, heads: &[&str], rows: impl Iterator<Item = Vec<String>>) {
    let row = |page: &mut String, tag: &str, cells: &mut dyn Iterator<Item = &str>| {
        *page += "<tr>";
        for (column, cell) in cells.enumerate() {
            let class = if column < words { " class=\"left\"" } else { "" };
            let _ = write!(page, "<{tag}{class}>{}</{tag}>", escaped(cell));
        }
        *page += "</tr>\n";
    };
    *page += "<div class=\"wide\">\n<table>\n";
    row(page, "th", &mut heads.iter().copied());
    for cells in rows {
        row(page, "td", &mut cells.iter().map(String::as_str));
    }
    *page += "</table>\n</div>\n";
}

/// A text as HTML.
fn escaped(text: impl Display) -> String {
    text.to_string().replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_html_would_take_for_its_own_is_text() {
        assert_eq!(escaped("a <b> & c"), "a &lt;b&gt; &amp; c");
    }
}
