//! `zerio top`: a running server or client, live in the terminal. `model` is what is known and chosen, `view` what is
//! drawn of it; this is the loop between the two and the keys.
#![forbid(unsafe_code)]

mod model;
mod view;

use std::io::{IsTerminal, stdin, stdout};
use std::time::{Duration, Instant};

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use crate::args;
use crate::counters::find;
use crate::failure::Failure;
use crate::interrupt;
use model::Model;

/// How often it is looked whether it is to end, while no key is pressed.
const LOOK: Duration = Duration::from_millis(100);

/// How long its end may take after a signal.
const LONGEST_END: Duration = Duration::from_secs(1);

pub(crate) fn run(args: &args::Top) -> Result<(), Failure> {
    let file = find(args.which.as_deref())?;
    if !stdout().is_terminal() || !stdin().is_terminal() {
        return Err(Failure::new(
            "it draws on a terminal, and this is none; `zerio stat --watch` prints lines",
        ));
    }
    // Where the terminal itself has gone, whoever reads keys from it goes on for ever: then the loop does not see the
    // signal that tells so.
    interrupt::catch(|| {
        std::thread::sleep(LONGEST_END);
        std::process::exit(1);
    })?;
    let mut model = Model::new(file, args.sort);
    let mut terminal = ratatui::try_init().map_err(on_terminal)?;
    let outcome = show(&mut terminal, &mut model, args.interval);
    ratatui::restore();
    outcome
}

fn on_terminal(error: std::io::Error) -> Failure {
    Failure::new(format!("can't draw on this terminal: {error}; `zerio stat --watch` prints lines"))
}

fn show(terminal: &mut DefaultTerminal, model: &mut Model, interval: Duration) -> Result<(), Failure> {
    let mut looked = Instant::now();
    while !interrupt::seen() {
        terminal.draw(|frame| view::draw(frame, model)).map_err(on_terminal)?;
        let left = interval.saturating_sub(looked.elapsed());
        if event::poll(left.min(LOOK)).map_err(on_terminal)? {
            match event::read().map_err(on_terminal)? {
                Event::Key(key) if key.kind != KeyEventKind::Release && !press(model, key) => return Ok(()),
                _ => {}
            }
        }
        if looked.elapsed() >= interval {
            looked = Instant::now();
            model.look();
        }
    }
    Ok(())
}

/// What a key does; false where it ends.
fn press(model: &mut Model, key: KeyEvent) -> bool {
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return key.code != KeyCode::Char('c');
    }
    if key.modifiers.contains(KeyModifiers::ALT) {
        return true;
    }
    if model.typing {
        match key.code {
            KeyCode::Char(c) => model.filter.push(c),
            KeyCode::Backspace => drop(model.filter.pop()),
            KeyCode::Enter => model.typing = false,
            KeyCode::Esc => {
                model.typing = false;
                model.filter.clear();
            }
            _ => {}
        }
        model.scroll(0);
        return true;
    }
    match key.code {
        KeyCode::Char('q') => return false,
        KeyCode::Char('s') => model.sort_by_next(),
        KeyCode::Char('r') => model.reversed = !model.reversed,
        KeyCode::Char('/') => model.typing = true,
        KeyCode::Esc => model.filter.clear(),
        KeyCode::Char('p' | ' ') => model.pause(),
        KeyCode::Down | KeyCode::Char('j') => model.scroll(1),
        KeyCode::Up | KeyCode::Char('k') => model.scroll(-1),
        KeyCode::PageDown => model.scroll(10),
        KeyCode::PageUp => model.scroll(-10),
        KeyCode::Home => model.scroll(isize::MIN),
        KeyCode::End => model.scroll(isize::MAX),
        _ => {}
    }
    true
}
