//! The guide: every chapter is in its list, every link and every include leads somewhere, and all of its code is
//! compiled, with the examples that it comes from or as a test of the documentation.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|why| panic!("{}: {why}", path.display())).replace("\r\n", "\n")
}

/// Name and text of each file of the guide.
fn chapters() -> Vec<(String, String)> {
    let folder = root().join("docs/guide/src");
    let paths = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let mut chapters: Vec<_> =
        paths.map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), read(&path))).collect();
    chapters.sort();
    assert!(chapters.len() > 8, "the guide was found");
    chapters
}

/// Where the links of a text lead, code apart.
fn links(text: &str) -> Vec<&str> {
    let mut code = false;
    let mut links = Vec::new();
    for line in text.lines() {
        code ^= line.starts_with("```");
        let targets = line.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        links.extend(targets.filter(|_| !code));
    }
    links
}

/// The anchors of a text's headings, as mdBook makes them.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let letter = |letter: char| match letter {
        ' ' => Some('-'),
        _ if letter.is_alphanumeric() || "-_".contains(letter) => letter.to_lowercase().next(),
        _ => None,
    };
    headings.map(|line| line.trim_start_matches('#').trim().chars().filter_map(letter).collect()).collect()
}

#[test]
fn every_chapter_is_in_the_list_and_every_link_leads_somewhere() {
    let chapters = chapters();
    let text_of = |name: &str| chapters.iter().find(|(chapter, _)| chapter == name).map(|(_, text)| text);
    let listed: BTreeSet<_> = links(text_of("SUMMARY.md").unwrap()).into_iter().collect();
    let there: BTreeSet<_> =
        chapters.iter().map(|(name, _)| name.as_str()).filter(|name| *name != "SUMMARY.md").collect();
    assert_eq!(listed, there);
    for (name, text) in &chapters {
        for link in links(text) {
            let (chapter, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if chapter.is_empty() { Some(text) } else { text_of(chapter) };
            // In the book there is nothing else to lead to: its pages are somewhere else than the repository's.
            let target = target.unwrap_or_else(|| panic!("{name}: {link} leads out of the guide"));
            assert!(anchor.is_empty() || anchors(target).contains(anchor), "{name}: no heading for {link}");
        }
    }
}

#[test]
fn every_include_is_of_a_piece_that_is_there() {
    let mut includes = 0;
    for (name, text) in chapters() {
        let found = text.split("{{#include ").skip(1).map(|rest| rest.split("}}").next().unwrap().to_owned());
        for include in found.collect::<Vec<_>>() {
            let (path, anchor) = include.split_once(':').unwrap_or((&include, ""));
            let code = read(&root().join("docs/guide/src").join(path));
            let whole = |mark: &str| {
                code.lines().filter(|line| line.trim() == format!("// {mark}: {anchor}")).count()
            };
            let is_there = whole("ANCHOR") == 1 && whole("ANCHOR_END") == 1;
            assert!(anchor.is_empty() || is_there, "{name}: {include}");
            includes += 1;
        }
    }
    assert!(includes > 10, "{includes} includes");
}

#[test]
fn all_code_is_compiled() {
    let library = read(&root().join("crates/zerio/src/lib.rs"));
    for (name, text) in chapters() {
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            let Some(kind) = line.strip_prefix("```rust") else { continue };
            let code: Vec<_> = lines.by_ref().take_while(|line| *line != "```").collect();
            if kind == ",ignore" {
                let is_include = matches!(code[..], [line] if line.starts_with("{{#include "));
                assert!(is_include, "{name}: what is ignored must come from an example: {code:?}");
            } else {
                assert_eq!(kind, "", "{name}");
                let compiled = library.contains(&format!("docs/guide/src/{name}"));
                assert!(compiled, "{name} has code, and lib.rs does not name it");
            }
        }
    }
}
