//! What `zerio top` draws: who it is, what all of it does, and a line for each session. It fits 80 columns; a wider
//! terminal gets more of them, a narrower one fewer.
#![forbid(unsafe_code)]

use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize};
use ratatui::text::{Line as TextLine, Span};
use ratatui::widgets::{Cell, Paragraph, Row, Table};
use zerio::WriterState;

use super::model::{Line, Model};
use crate::args::SortBy;
use crate::counters::{harmless, short, short_time};

/// From so many columns on addresses and states have room, and from so many totals.
const WIDE: u16 = 112;
const WIDEST: u16 = 136;

/// The columns that peers have at the least, and what goes for that, one after the other.
const PEER_LEAST: u16 = 12;
const DISPENSABLE: [&str; 6] = ["HIGH", "OUT B/s", "IN B/s", "FULL", "OLDEST", "RING"];

/// From so full on a ring is worth a look, in percent, and from so old on what is unsent, in nanoseconds.
const HIGH_RING: u64 = 50;
const OLD: u64 = 100_000_000;

pub(super) fn draw(frame: &mut Frame, model: &mut Model) {
    let areas = Layout::vertical([Constraint::Length(6), Constraint::Min(2), Constraint::Length(1)]);
    let [head, sessions, foot] = areas.areas(frame.area());
    // Without the names of the columns.
    model.room = usize::from(sessions.height.saturating_sub(1));
    frame.render_widget(Paragraph::new(summary(model, head.width)), head);
    draw_sessions(frame, model, sessions);
    frame.render_widget(Paragraph::new(keys(model)), foot);
}

fn summary(model: &Model, width: u16) -> Vec<TextLine<'static>> {
    let rates = |messages: &str, bytes: &str| {
        format!("{} msg/s {}B/s", short(model.rate(messages)), short(model.rate(bytes)))
    };
    let time = |label: &str, part: f64| model.times(label).map_or(0, |times| times.quantile(part));
    let percentiles = |label: &str| {
        format!(
            "p50 {}  p99 {}  p99.9 {}  longest {}",
            short_time(time(label, 0.5)),
            short_time(time(label, 0.99)),
            short_time(time(label, 0.999)),
            short_time(model.longest(label)),
        )
    };
    let sessions = format!("{} of {}", model.total("sessions"), model.sessions_max());
    let mut lines = vec![
        title(model, width),
        labelled(
            "sessions",
            format!(
                "{sessions}   in {}   out {}",
                rates("messages_received", "bytes_received"),
                rates("messages_accepted", "bytes_sent"),
            ),
        ),
        labelled(
            "turns",
            format!(
                "{}/s  last {}  {}",
                short(model.rate("turns")),
                short_time(model.most("last_turn_ns")),
                percentiles("turn_ns"),
            ),
        ),
        labelled("to kernel", percentiles("to_kernel_ns")),
    ];
    lines.extend(trouble(|label| model.total(label), width));
    lines
}

/// Whether it lives, and who it is.
fn title(model: &Model, width: u16) -> TextLine<'static> {
    let (who, process) = model.who();
    let engines = if model.engines() > 1 { format!(" ×{}", model.engines()) } else { String::new() };
    let more = format!(", process {process}, {}{engines}", model.driver());
    arranged(state(model), model.paused, who, more, width)
}

/// What matters most stands first, and what has no room is left out.
fn arranged(state: Span<'static>, paused: bool, who: String, more: String, width: u16) -> TextLine<'static> {
    let mut line = TextLine::from(vec![Span::from("zerio top ").bold(), state]);
    if paused {
        line.push_span(Span::styled("  PAUSED", Style::new().fg(Color::Yellow).bold()));
    }
    line.push_span(format!("  {who}"));
    let more = Span::from(more);
    if line.width() + more.width() <= usize::from(width) {
        line.push_span(more);
    }
    line
}

fn labelled(label: &str, text: String) -> TextLine<'static> {
    TextLine::from(vec![Span::from(format!("{label:<10}")).dim(), Span::from(text)])
}

fn state(model: &Model) -> Span<'static> {
    let red = Style::new().fg(Color::Red).bold();
    if let Some((engine, silence)) = model.silent() {
        let silence = short_time(silence.as_nanos() as u64);
        return Span::styled(format!("engine {engine} silent for {silence}"), red);
    }
    match model.state {
        WriterState::Running => {
            Span::from(format!("up {}", short_time(model.age().as_nanos() as u64))).fg(Color::Green)
        }
        gone => Span::styled(format!("{gone}; waiting for it"), red),
    }
}

/// What went wrong so far, losses first: a line, or two where they need it.
fn trouble(count: impl Fn(&str) -> u64, width: u16) -> Vec<TextLine<'static>> {
    let mut line = labelled("trouble", String::new());
    let mut lines = Vec::new();
    let mut none = true;
    for (label, name) in [
        ("messages_undelivered", "undelivered"),
        ("refused", "refused"),
        ("failed_handshakes", "failed"),
        ("bad_frames", "bad frames"),
        ("full_rings", "full rings"),
        ("accept_errors", "accept errors"),
    ] {
        let count = count(label);
        if count > 0 {
            none = false;
            let text = format!("{name} {}", short(count as f64));
            if line.width() + text.len() > usize::from(width) && lines.is_empty() {
                lines.push(std::mem::replace(&mut line, labelled("", String::new())));
            }
            line.push_span(Span::styled(text, Style::new().fg(Color::Yellow).bold()));
            line.push_span("  ");
        }
    }
    if none {
        line.push_span(Span::from("no losses, refusals, failed handshakes, bad frames or full rings").dim());
    }
    lines.push(line);
    lines
}

fn keys(model: &Model) -> TextLine<'static> {
    if model.typing {
        return TextLine::from(format!("filter: {}▏  Enter keeps it, Esc drops it", harmless(&model.filter)));
    }
    let pause = if model.paused { "p go on" } else { "p pause" };
    TextLine::from(format!("q quit  s sort  r reverse  / filter{}  {pause}  ↑↓ scroll", kept(&model.filter)))
        .dim()
}

/// The filter in force, and how to drop it, in what eighty columns leave to it.
fn kept(filter: &str) -> String {
    if filter.is_empty() { String::new() } else { format!(": {} (Esc)", fit(&harmless(filter), 16)) }
}

/// A column of the table.
struct Column {
    title: &'static str,
    width: Constraint,
    right: bool,
    sort: Option<SortBy>,
    text: fn(&Line) -> String,
    alarms: fn(&Line) -> bool,
}

impl Column {
    /// What it takes of a line, with the blank before it; the peers' takes what the others leave.
    fn taken(&self) -> u16 {
        match self.width {
            Constraint::Length(width) => width + 1,
            _ => 0,
        }
    }
}

/// What the others leave to the peers.
fn left_to_peers(columns: &[Column], width: u16) -> u16 {
    width.saturating_sub(columns.iter().map(Column::taken).sum())
}

/// The columns of a table that is so wide; the one that it is sorted by is always there.
fn columns(width: u16, sort: SortBy) -> Vec<Column> {
    fn never(_: &Line) -> bool {
        false
    }
    let number = |title, width, sort, text: fn(&Line) -> String| Column {
        title,
        width: Constraint::Length(width),
        right: true,
        sort: Some(sort),
        text,
        alarms: never,
    };
    let words = |title, width, sort, text: fn(&Line) -> String| Column {
        title,
        width,
        right: false,
        sort,
        text,
        alarms: never,
    };
    let mut columns =
        vec![words("PEER", Constraint::Fill(1), Some(SortBy::Peer), |line| harmless(&line.peer))];
    if width >= WIDE {
        columns.push(words("ADDRESS", Constraint::Length(21), None, |line| line.address.clone()));
        columns.push(words("STATE", Constraint::Length(10), None, |line| line.state.to_owned()));
    }
    if width >= WIDEST {
        let total = |title, text| Column { sort: None, ..number(title, 9, SortBy::In, text) };
        columns.push(total("RECEIVED", |line| short(line.received as f64)));
        columns.push(total("SENT", |line| short(line.sent as f64)));
    }
    columns.extend([
        number("IN/s", 6, SortBy::In, |line| short(line.incoming)),
        number("OUT/s", 6, SortBy::Out, |line| short(line.outgoing)),
        number("IN B/s", 7, SortBy::InBytes, |line| short(line.incoming_bytes)),
        number("OUT B/s", 8, SortBy::OutBytes, |line| short(line.outgoing_bytes)),
        Column {
            alarms: |line| line.ring >= HIGH_RING,
            ..number("RING", 5, SortBy::Ring, |line| format!("{}%", line.ring))
        },
        Column {
            alarms: |line| line.high >= HIGH_RING,
            ..number("HIGH", 5, SortBy::High, |line| format!("{}%", line.high))
        },
        Column {
            alarms: |line| line.oldest >= OLD,
            ..number("OLDEST", 7, SortBy::Oldest, |line| short_time(line.oldest))
        },
        Column {
            alarms: |line| line.full > 0,
            ..number("FULL", 6, SortBy::Full, |line| short(line.full as f64))
        },
    ]);
    for title in DISPENSABLE {
        if left_to_peers(&columns, width) < PEER_LEAST {
            columns.retain(|column| column.title != title || column.sort == Some(sort));
        }
    }
    columns
}

/// A text in so many columns: of one that is longer the start and the end, which is where ids differ.
fn fit(text: &str, columns: usize) -> String {
    let width = |text: &str| Span::from(text).width();
    if width(text) <= columns {
        return text.to_owned();
    }
    let room = columns.saturating_sub(1);
    let (mut start, mut end) = (0, text.len());
    for (at, c) in text.char_indices() {
        if width(&text[..at + c.len_utf8()]) > room / 2 {
            break;
        }
        start = at + c.len_utf8();
    }
    for (at, _) in text.char_indices().rev() {
        if at < start || width(&text[..start]) + width(&text[at..]) > room {
            break;
        }
        end = at;
    }
    format!("{}…{}", &text[..start], &text[end..])
}

fn draw_sessions(frame: &mut Frame, model: &Model, area: Rect) {
    let lines = model.lines();
    let columns = columns(area.width, model.sort);
    let aligned = |text: String, right: bool| {
        TextLine::from(text).alignment(if right { Alignment::Right } else { Alignment::Left })
    };
    let header = columns.iter().map(|column| {
        let chosen = column.sort == Some(model.sort);
        let arrow = match (chosen, model.reversed) {
            (false, _) => "",
            (true, false) => "▾",
            (true, true) => "▴",
        };
        let title = aligned(format!("{}{arrow}", column.title), column.right);
        Cell::from(if chosen { title.underlined() } else { title })
    });
    let header = Row::new(header).style(Style::new().add_modifier(Modifier::BOLD | Modifier::REVERSED));
    let peer_width = usize::from(left_to_peers(&columns, area.width));
    let first = model.first.min(lines.len().saturating_sub(model.room));
    let rows = lines.iter().skip(first).take(model.room).map(|line| {
        Row::new(columns.iter().map(|column| {
            let text = (column.text)(line);
            let is_peer = column.sort == Some(SortBy::Peer);
            let text = aligned(if is_peer { fit(&text, peer_width) } else { text }, column.right);
            // Bold, too: some see no colours, and some want none.
            Cell::from(if (column.alarms)(line) { text.fg(Color::Yellow).bold() } else { text })
        }))
    });
    let widths = columns.iter().map(|column| column.width);
    frame.render_widget(Table::new(rows, widths).header(header).column_spacing(1), area);
    if lines.is_empty() {
        let why =
            if model.filter.is_empty() { "nobody is connected" } else { "no session matches the filter" };
        let below = Rect { y: area.y + 1, height: area.height.saturating_sub(1), ..area };
        frame.render_widget(Paragraph::new(why).dim(), below);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(line: &TextLine<'_>) -> String {
        line.spans.iter().map(|span| span.content.as_ref()).collect()
    }

    #[test]
    fn in_eighty_columns_the_state_of_a_server_had_been_cut_off() {
        let state = || Span::from("died; waiting for it");
        let line = |paused, width| {
            let (who, more) =
                ("server 192.168.100.10:7000".to_owned(), ", process 4123456, uring ×16".to_owned());
            text(&arranged(state(), paused, who, more, width))
        };
        for paused in [false, true] {
            let narrow = line(paused, 80);
            assert!(narrow.starts_with("zerio top died; waiting for it"), "{narrow}");
            assert!(narrow.ends_with("server 192.168.100.10:7000") && narrow.len() <= 80, "{narrow}");
            assert_eq!(narrow.contains("PAUSED"), paused);
            assert!(line(paused, 100).ends_with(", process 4123456, uring ×16"));
        }
    }

    #[test]
    fn all_that_can_be_wrong_at_once_fits_eighty_columns_and_losses_stand_first() {
        let all = trouble(|_| 123_456, 80);
        let all: Vec<String> = all.iter().map(text).collect();
        assert!(all[0].starts_with("trouble   undelivered 123k  "), "{all:?}");
        assert!(all.len() == 2 && all.iter().all(|line| line.trim_end().len() <= 80), "{all:?}");
        assert!(all[1].trim_end().ends_with("accept errors 123k"), "{all:?}");
        let one = trouble(|label| u64::from(label == "full_rings"), 80);
        assert_eq!(one.iter().map(text).collect::<Vec<_>>(), ["trouble   full rings 1  "]);
        let none = trouble(|_| 0, 80);
        assert!(none.len() == 1 && none[0].width() <= 80, "{none:?}");
    }

    #[test]
    fn in_forty_columns_there_had_been_no_peers() {
        let titles = |width, sort| -> Vec<&str> { columns(width, sort).iter().map(|c| c.title).collect() };
        let all = ["PEER", "IN/s", "OUT/s", "IN B/s", "OUT B/s", "RING", "HIGH", "OLDEST", "FULL"];
        assert_eq!(titles(70, SortBy::In), all);
        assert_eq!(titles(69, SortBy::In), [&all[..6], &all[7..]].concat());
        assert_eq!(titles(40, SortBy::In), ["PEER", "IN/s", "OUT/s", "RING", "OLDEST"]);
        assert_eq!(titles(40, SortBy::High), ["PEER", "IN/s", "OUT/s", "RING", "HIGH"]);
        for width in 26..=200 {
            assert!(left_to_peers(&columns(width, SortBy::Peer), width) >= PEER_LEAST, "{width}");
        }
    }

    #[test]
    fn long_ids_keep_their_start_and_their_end() {
        assert_eq!(fit("client-1", 8), "client-1");
        assert_eq!(fit("client-12", 8), "cli…t-12");
        assert_eq!((kept("").as_str(), kept("192.168.1.").as_str()), ("", ": 192.168.1. (Esc)"));
        // With the keys beside it 79.
        assert_eq!(kept("2001:db8:0:1234::").chars().count(), 24);
        assert_eq!(fit("日本日本日本", 8), "日…日本");
        for columns in 0..20 {
            let fitted = fit("ünïcødé-日本-and-so-on-1", columns);
            assert!(Span::from(fitted.as_str()).width() <= columns.max(1), "{columns}: {fitted}");
        }
    }
}
