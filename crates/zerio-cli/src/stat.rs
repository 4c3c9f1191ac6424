//! `zerio stat`: what a running server or client counts, as a table or in JSON, once or again and again.
#![forbid(unsafe_code)]

use std::io::{IsTerminal, Write, stdout};
use std::time::{Duration, Instant};

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde_json::{Map, Value, json};
use zerio::{
    CountersFile, CountersRow, CountersSnapshot, CountersValue, FieldKind, FieldScope, Histogram, WriterState,
};

use crate::args;
use crate::counters::{ago, describe, find, harmless, key, rate, short, short_time, state_name, total_rate};
use crate::failure::Failure;
use crate::interrupt;
use crate::terminal;

/// How often it is looked whether it is to end, while it waits for the next look.
const LOOK: Duration = Duration::from_millis(50);

/// The percentiles that are printed.
const PARTS: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p999", 0.999)];

pub(crate) fn run(args: &args::Stat) -> Result<(), Failure> {
    let file = find(args.which.as_deref())?;
    let Some(interval) = args.watch else {
        let snapshot = file.read();
        return print(&if args.json {
            as_json(&file, &snapshot, None).to_string()
        } else {
            as_text(&file, &snapshot)
        });
    };
    interrupt::catch(|| {})?;
    watch(&file, interval, args.json)
}

fn print(text: &str) -> Result<(), Failure> {
    writeln!(stdout(), "{text}").and_then(|()| stdout().flush()).map_err(Failure::output)
}

/// Prints what happens in each interval, until it ends.
fn watch(file: &CountersFile, interval: Duration, as_lines: bool) -> Result<(), Failure> {
    let mut then = file.read();
    // On a terminal each look takes the place of the last one.
    let clear = if stdout().is_terminal() { "\x1b[H\x1b[2J" } else { "" };
    while wait(interval) {
        let now = file.read();
        let state = file.state();
        if as_lines {
            print(&as_json(file, &now, Some(&then)).to_string())?;
        } else {
            print(&format!("{clear}{}\n", news(file, &then, &now)))?;
        }
        if state != WriterState::Running {
            terminal::note(format_args!("{} has {state}", describe(file)));
            return Ok(());
        }
        then = now;
    }
    Ok(())
}

/// Waits for so long; false where it is to end.
fn wait(interval: Duration) -> bool {
    let begun = Instant::now();
    while begun.elapsed() < interval && !interrupt::seen() {
        std::thread::sleep(LOOK.min(interval.saturating_sub(begun.elapsed())));
    }
    !interrupt::seen()
}

/// Who it is, and since when.
fn title(file: &CountersFile, snapshot: &CountersSnapshot) -> String {
    let writer = file.writer();
    let driver = snapshot.engines.first().and_then(|engine| engine.text("driver")).unwrap_or_default();
    let engines = match writer.engines {
        1 => String::new(),
        many => format!(", {many} engines"),
    };
    let state = match file.state() {
        WriterState::Running => format!("up {}", short_time(ago(writer.started).as_nanos() as u64)),
        state => format!("has {state}; these are its last counts"),
    };
    format!("{}, {}, driver {driver}{engines}: {state}", describe(file), writer.library)
}

/// All of it, for people.
fn as_text(file: &CountersFile, snapshot: &CountersSnapshot) -> String {
    let mut text = title(file, snapshot);
    text += "\n\n";
    let mut table = plain_table();
    for field in
        file.fields().iter().filter(|field| is_number(field.kind) && field.scope == FieldScope::Engine)
    {
        // The longest of all is the longest of any; everything else adds up.
        let is_time = field.unit == "ns";
        let value = if is_time { snapshot.most(&field.label) } else { snapshot.total(&field.label) };
        let value = if is_time { short_time(value) } else { value.to_string() };
        table.add_row([value, name(&field.label), field.meaning.clone()]);
    }
    right(&mut table, &[0]);
    text += &lines(&table);
    text += "\n\n";
    text += &lines(&times(snapshot, None));
    if !snapshot.sessions.is_empty() {
        text += "\n\n";
        text += &lines(&sessions(snapshot, None, file.writer().send_ring));
    }
    text
}

/// What has happened from one look to the next, for people.
fn news(file: &CountersFile, then: &CountersSnapshot, now: &CountersSnapshot) -> String {
    let mut text = title(file, now);
    text += "\n\n";
    let mut table = plain_table();
    table.set_header(["per second", "in all", ""]);
    for field in file.fields() {
        if field.scope == FieldScope::Engine && field.kind == FieldKind::Counter {
            let total = now.total(&field.label);
            if total > 0 {
                table.add_row([
                    short(total_rate(then, now, &field.label)),
                    total.to_string(),
                    name(&field.label),
                ]);
            }
        }
    }
    right(&mut table, &[0, 1]);
    text += &lines(&table);
    text += "\n\n";
    text += &lines(&times(now, Some(then)));
    if !now.sessions.is_empty() {
        text += "\n\n";
        text += &lines(&sessions(now, Some(then), file.writer().send_ring));
    }
    text
}

/// The percentiles of each histogram, of all that is in it or of what was added since.
fn times(now: &CountersSnapshot, then: Option<&CountersSnapshot>) -> Table {
    let mut table = plain_table();
    table.set_header(["times", "p50", "p90", "p99", "p99.9", "longest", "count"]);
    for (label, times) in &now.histograms {
        let earlier = then.and_then(|then| then.histogram(label));
        let times = earlier.map_or_else(|| times.clone(), |earlier| times.since(earlier));
        let mut row = vec![name(label)];
        row.extend(PARTS.map(|(_, part)| short_time(times.quantile(part))));
        row.extend([short_time(times.max()), times.count().to_string()]);
        table.add_row(row);
    }
    right(&mut table, &[1, 2, 3, 4, 5, 6]);
    table
}

/// A line for each session: what it has sent and received in all, or in a second.
fn sessions(now: &CountersSnapshot, then: Option<&CountersSnapshot>, ring: u64) -> Table {
    let mut table = plain_table();
    let header = if then.is_some() { ["in/s", "out/s"] } else { ["received", "sent"] };
    table.set_header([
        "peer", "address", "state", header[0], header[1], "unsent", "at most", "oldest", "full",
    ]);
    let mut rows: Vec<&CountersRow> = now.sessions.iter().collect();
    rows.sort_by_key(|row| row.text("peer"));
    for session in rows {
        let earlier = then.map(|then| then.sessions.iter().find(|earlier| key(earlier) == key(session)));
        let count = |label: &str| match earlier {
            None => session.get(label).unwrap_or(0).to_string(),
            Some(earlier) => short(earlier.and_then(|then| rate(then, session, label)).unwrap_or(0.0)),
        };
        let part = |label: &str| {
            let used = session.get(label).unwrap_or(0);
            format!("{}%", (used * 100).div_ceil(ring.max(1)))
        };
        table.add_row([
            harmless(session.text("peer").unwrap_or_default()),
            session.text("address").unwrap_or_default().to_owned(),
            state_name(session).to_owned(),
            count("messages_received"),
            count("messages_accepted"),
            part("bytes_unsent"),
            part("bytes_unsent_max"),
            short_time(session.get("oldest_unsent_ns").unwrap_or(0)),
            session.get("full_rings").unwrap_or(0).to_string(),
        ]);
    }
    right(&mut table, &[3, 4, 5, 6, 7, 8]);
    table
}

fn is_number(kind: FieldKind) -> bool {
    matches!(kind, FieldKind::Counter | FieldKind::Gauge)
}

/// A label for people, whose values have their units behind them.
fn name(label: &str) -> String {
    label.trim_end_matches("_ns").replace('_', " ")
}

/// A table without lines, as wide as the terminal at the most.
fn plain_table() -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table
}

fn right(table: &mut Table, columns: &[usize]) {
    for &column in columns {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}

/// A table's lines, without the blanks at their ends.
fn lines(table: &Table) -> String {
    let lines: Vec<String> = table.to_string().lines().map(|line| line.trim_end().to_owned()).collect();
    lines.join("\n")
}

/// All of it, for programs; with `then` the rates as well.
fn as_json(file: &CountersFile, now: &CountersSnapshot, then: Option<&CountersSnapshot>) -> Value {
    let writer = file.writer();
    let mut totals = Map::new();
    let mut rates = Map::new();
    for field in
        file.fields().iter().filter(|field| is_number(field.kind) && field.scope == FieldScope::Engine)
    {
        let label = field.label.as_str();
        let value = if field.unit == "ns" { now.most(label) } else { now.total(label) };
        totals.insert(label.to_owned(), value.into());
        if let (Some(then), FieldKind::Counter) = (then, field.kind) {
            rates.insert(format!("{label}_per_second"), total_rate(then, now, label).into());
        }
    }
    let times: Map<String, Value> = now
        .histograms
        .iter()
        .map(|(label, times)| {
            let since = then.and_then(|then| then.histogram(label)).map(|earlier| times.since(earlier));
            (label.clone(), percentiles(since.as_ref().unwrap_or(times)))
        })
        .collect();
    let mut all = json!({
        "file": file.path(), "state": file.state().to_string(), "process": writer.process,
        "role": if writer.is_server { "server" } else { "client" }, "address": writer.address,
        "library": writer.library, "started_ns": writer.started, "sessions_max": writer.sessions_max,
        "send_ring": writer.send_ring, "receive_buffer": writer.receive_buffer, "message_max": writer.message_max,
        "totals": totals, "engines": now.engines.iter().map(row).collect::<Vec<_>>(),
        "sessions": now.sessions.iter().map(row).collect::<Vec<_>>(), "times": times,
    });
    if then.is_some() {
        all["rates"] = rates.into();
    }
    all
}

fn row(row: &CountersRow) -> Value {
    let mut values: Map<String, Value> = Map::new();
    values.insert("engine".to_owned(), row.engine.into());
    for (label, value) in &row.values {
        let value = match value {
            CountersValue::Number(number) => Value::from(*number),
            CountersValue::Text(text) => Value::from(text.as_str()),
            _ => Value::Null,
        };
        values.insert(label.clone(), value);
    }
    if let Some(state) = values.get_mut("state") {
        *state = state_name(row).into();
    }
    values.into()
}

fn percentiles(times: &Histogram) -> Value {
    let mut values: Map<String, Value> = Map::new();
    values.insert("count".to_owned(), times.count().into());
    values.insert("mean".to_owned(), times.mean().into());
    values.extend(PARTS.map(|(name, part)| (name.to_owned(), times.quantile(part).into())));
    values.insert("max".to_owned(), times.max().into());
    values.into()
}
