//! `docs/dependencies.md` says of each feature and each dependency what the comment beside it in its Cargo.toml says,
//! and each has one. With `ZERIO_RECORD=1` the tables are written anew.
#![forbid(unsafe_code)]

mod document;

use std::fs;
use std::path::Path;

const DOCUMENT: &str = "dependencies.md";

/// What stands before a table: whose it is, and of what.
const MARK: (&str, &str) = ("<!-- table: ", " -->");

fn read(manifest: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(manifest);
    fs::read_to_string(path).unwrap_or_else(|why| panic!("{manifest}: {why}")).replace("\r\n", "\n")
}

/// An entry of a manifest.
#[derive(Debug, PartialEq)]
struct Entry {
    name: String,
    section: String,
    optional: bool,
    why: String,
}

/// The entries of all sections whose name ends like this. A comment is of all entries until the next comment or
/// empty line.
fn entries(manifest: &str, kind: &str) -> Vec<Entry> {
    let (mut entries, mut section, mut why, mut open) = (Vec::new(), String::new(), String::new(), false);
    for line in manifest.lines() {
        if let Some(comment) = line.strip_prefix('#') {
            if !open {
                why.clear();
            }
            why = format!("{why} {}", comment.trim()).trim().to_owned();
            open = true;
            continue;
        }
        if line.trim().is_empty() {
            (why, open) = (String::new(), false);
        } else if let Some(header) = line.strip_prefix('[') {
            (section, open) = (header.trim_end_matches(']').to_owned(), false);
        } else if let Some((name, value)) = line.split_once(" = ").filter(|_| !line.starts_with(' ')) {
            open = false;
            let is_ours = section == kind || section.ends_with(&format!(".{kind}"));
            if is_ours || (kind == "dependencies" && section.ends_with("dev-dependencies")) {
                let optional = value.contains("optional = true");
                let section = section.clone();
                entries.push(Entry { name: name.to_owned(), section, optional, why: why.clone() });
            }
        }
    }
    entries
}

/// When a dependency is part of a build, in words.
fn when(entry: &Entry) -> String {
    let mut when = Vec::new();
    if entry.section.ends_with("dev-dependencies") {
        when.push("tests");
    }
    // Whose names no condition here negates.
    let systems = [("unix", "Unix"), ("\"linux\"", "Linux"), ("windows", "Windows"), ("loom", "models")];
    when.extend(systems.iter().filter(|(cfg, _)| entry.section.contains(cfg)).map(|(_, name)| *name));
    if entry.optional {
        when.push("by its feature");
    }
    if when.is_empty() { "always".to_owned() } else { when.join(", ") }
}

fn table(manifest: &str, kind: &str) -> String {
    let text = read(manifest);
    let entries = entries(&text, kind);
    assert!(!entries.is_empty(), "{manifest} has {kind}");
    let mut table = match kind {
        "features" => "| feature | what it brings |\n| --- | --- |\n".to_owned(),
        _ => "| dependency | when | why |\n| --- | --- | --- |\n".to_owned(),
    };
    for entry in &entries {
        let Entry { name, why, .. } = entry;
        if (kind, name.as_str()) == ("features", "default") {
            continue;
        }
        assert!(!why.is_empty(), "{manifest}: {name} has no comment that says why it is there");
        table += &match kind {
            "features" => format!("| `{name}` | {why} |\n"),
            _ => format!("| `{name}` | {} | {why} |\n", when(entry)),
        };
    }
    table
}

/// The document with its tables as the manifests have them.
fn renewed(document: &str) -> String {
    let mut renewed = String::new();
    let mut lines = document.lines().peekable();
    while let Some(line) = lines.next() {
        renewed += line;
        renewed.push('\n');
        let Some(mark) = line.strip_prefix(MARK.0).and_then(|line| line.strip_suffix(MARK.1)) else {
            continue;
        };
        let (manifest, kind) = mark.split_once(' ').expect("a manifest and a kind");
        while lines.next_if(|line| line.starts_with('|') || line.is_empty()).is_some() {}
        renewed += &format!("\n{}", table(manifest, kind));
        if lines.peek().is_some() {
            renewed.push('\n');
        }
    }
    renewed
}

#[test]
fn the_document_says_what_the_manifests_say() {
    document::hold(DOCUMENT, &renewed(&document::read(DOCUMENT)));
}

#[test]
fn every_manifest_has_its_tables() {
    let document = document::read(DOCUMENT);
    for manifest in ["crates/zerio/Cargo.toml", "crates/zerio-cli/Cargo.toml", "bench/Cargo.toml"] {
        for kind in ["features", "dependencies"] {
            let (before, after) = MARK;
            let has = document.contains(&format!("{before}{manifest} {kind}{after}"));
            assert_eq!(has, !entries(&read(manifest), kind).is_empty(), "{manifest}: {kind}");
        }
    }
}

#[test]
fn a_manifest_is_understood() {
    let manifest = "[features]\n# One.\na = []\n\n[dependencies]\n# Two lines\n# of it.\nb = \"1\"\nc = { version = \"1\", optional = true }\n\n# Of the section.\n[target.'cfg(windows)'.dev-dependencies]\n# Three.\nd = { features = [\n    \"e\",\n] }\n";
    assert_eq!(entries(manifest, "features").len(), 1);
    let dependencies = entries(manifest, "dependencies");
    let said: Vec<_> =
        dependencies.iter().map(|entry| (entry.name.as_str(), when(entry), entry.why.as_str())).collect();
    let expected = [
        ("b", "always".to_owned(), "Two lines of it."),
        ("c", "by its feature".to_owned(), "Two lines of it."),
        ("d", "tests, Windows".to_owned(), "Three."),
    ];
    assert_eq!(said, expected);
}
