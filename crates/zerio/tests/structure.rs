//! The structure of the library, read from its source as text: who imports whom, where `unsafe`, memory
//! orderings, clocks and waiting stand, and how long a file may be. Comments and strings count nowhere,
//! and what is compiled for tests only counts for `unsafe` alone.
#![forbid(unsafe_code)]

mod source;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use source::{code_of, files, is_name, line_of, name_in, places, read};

/// From the top to the bottom: a line's modules may import what stands on later lines, and the leaves.
/// Those on one line do not know each other, but for what `BESIDE` says.
const LAYERS: [&[&str]; 8] = [
    &["tokio", "server", "client", "builder", "polled", "report", "sim", "fuzz", "cost"],
    &["thread"],
    &["engine"],
    &["handler"],
    &["session"],
    &["send", "recv"],
    &["driver"],
    &["region"],
];

/// What goes beside the layers or up, each with its reason.
const BESIDE: [(&str, &str, &str); 14] = [
    ("tokio", "server", "it is planned as any other"),
    ("tokio", "client", "it is planned as any other"),
    ("tokio", "builder", "a builder becomes one when it starts"),
    ("tokio", "report", "what stopping gives"),
    ("server", "builder", "a builder becomes a server when it starts"),
    ("client", "builder", "a builder becomes a client when it starts"),
    ("server", "polled", "what a polled server is made of"),
    ("client", "polled", "what a polled client is made of"),
    ("server", "report", "what stopping gives"),
    ("client", "report", "what stopping gives"),
    ("polled", "report", "what stopping gives"),
    ("client", "server", "both explain a refused socket option in the same words"),
    ("fuzz", "sim", "two targets' servers are in a simulated world"),
    ("handler", "engine", "a handler's argument is the engine's context: the one name that goes up"),
];

/// What every layer may use, because it knows nothing of sessions, rings and kernels; and what each of
/// them uses itself. `config`, `wire` and `error` name each other's constants and errors.
const LEAVES: [(&str, &[&str]); 9] = [
    ("cursor", &[]),
    ("time", &["cursor"]),
    ("counters", &["cursor"]),
    ("wait", &["cursor", "time"]),
    ("wire", &["error"]),
    ("config", &["counters", "wait", "wire"]),
    ("error", &["config"]),
    ("tls", &["error"]),
    ("trace", &["error", "wait", "wire"]),
];

/// Modules that may import less than their layer allows, with the reason.
const NARROWED: [(&str, &[&str], &str); 3] = [
    ("recv", &["region", "cursor", "error", "wire"], "it hands frames out; the engine asks the driver"),
    ("driver", &["region", "cursor"], "a driver knows the region and nothing above it"),
    ("region", &["cursor"], "memory does not know what it is for"),
];

/// The files in which `unsafe` may stand.
const UNSAFE: [&str; 21] = [
    "counters/map.rs",
    "cursor.rs",
    "cursor/barrier.rs",
    "driver/rio.rs",
    "driver/rio/model.rs",
    "driver/rio/model/count.rs",
    "driver/rio/model/memory.rs",
    "driver/rio/model/tests.rs",
    "driver/rio/refusals.rs",
    "driver/rio/settle.rs",
    "driver/rio/table.rs",
    "driver/rio/windows.rs",
    "driver/rio/windows/control.rs",
    "driver/rio/windows/operation.rs",
    "driver/rio/windows/winsock.rs",
    "driver/socket.rs",
    "driver/uring.rs",
    "driver/uring/ring.rs",
    "driver/uring/tests.rs",
    "region.rs",
    "send/ring.rs",
];

/// These have a child that needs it, so they can't forbid it: they deny it to themselves.
const DENY: [&str; 4] = ["counters.rs", "driver/mod.rs", "lib.rs", "send/mod.rs"];

/// Words, the one file in which each may stand, or in a folder of its name, and the reason.
const WORDS: [(&[&str], &str, &str); 4] = [
    (
        &["Relaxed", "Acquire", "Release", "AcqRel", "SeqCst", "fence"],
        "cursor.rs",
        "only cursor.rs and its children name memory orderings",
    ),
    (
        &["Instant", "SystemTime", "clock_gettime"],
        "thread.rs",
        "only thread.rs reads a clock, time is a parameter",
    ),
    (
        &["sleep", "yield_now", "thread::park", "park_timeout", "Condvar", "spin_loop"],
        "wait.rs",
        "only wait.rs and its children wait, and the kernel in a driver's turn",
    ),
    (
        &["recv()", "recv_timeout", "join()"],
        "thread.rs",
        "only thread.rs waits for threads, at their start and at their end",
    ),
];

const LINES_MAX: usize = 600;

/// A source file.
struct Source {
    /// Under `src/`.
    name: String,
    text: String,
    /// Without comments and strings.
    code: String,
    /// The same without what is compiled for tests only.
    product: String,
    /// It is compiled for tests only.
    test: bool,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn sources() -> Vec<Source> {
    let source = |path: &PathBuf| {
        let (name, text) = (name_in(&folder(), path), read(path));
        let (code, product) = (code_of(&text), code_of(without_tests(&text)));
        Source { name, text, code, product, test: false }
    };
    let mut sources: Vec<Source> = files(&folder()).iter().map(source).collect();
    let tests: Vec<String> = sources.iter().flat_map(test_modules).collect();
    for source in &mut sources {
        let module = module_path(&source.name).join("/");
        source.test = tests.iter().any(|test| module == *test || module.starts_with(&format!("{test}/")));
    }
    assert!(sources.len() > 20, "the source was found");
    let is_for_tests = |name: &str| sources.iter().find(|source| source.name == name).unwrap().test;
    for (name, test) in [
        ("driver/rio.rs", false),
        ("driver/rio/windows.rs", false),
        ("sim/storm.rs", false),
        ("driver/rio/model/kernel.rs", true),
        ("driver/conformance/rig.rs", true),
        ("driver/told.rs", true),
    ] {
        assert_eq!(is_for_tests(name), test, "{name}: whether it is for tests only");
    }
    sources
}

/// A file's module, from the crate's root: `send/ring.rs` is `send`, `ring`.
fn module_path(name: &str) -> Vec<&str> {
    let name = name.strip_suffix(".rs").unwrap();
    let name = name.strip_suffix("/mod").unwrap_or(name);
    if name == "lib" { Vec::new() } else { name.split('/').collect() }
}

/// Whether what stands behind a line is compiled for tests only.
fn is_for_tests(line: &str) -> bool {
    let predicate = line.strip_prefix("#[cfg(").and_then(|line| line.trim_end().strip_suffix(")]"));
    predicate.is_some_and(needs_test)
}

/// Whether a predicate of `cfg` is true for tests alone: one of its conditions is, or each of its alternatives, beside
/// which the fuzzer and the model of Registered I/O may stand.
fn needs_test(predicate: &str) -> bool {
    const BESIDE_TESTS: [&str; 2] = ["feature = \"fuzz\"", "feature = \"rio-model\""];
    let list = |name: &str| {
        let list = predicate.strip_prefix(name)?.strip_prefix('(')?.strip_suffix(')')?;
        Some(conditions(list))
    };
    if let Some(alternatives) = list("any") {
        let (tests, others): (Vec<_>, Vec<_>) = alternatives.into_iter().partition(|&one| needs_test(one));
        return !tests.is_empty() && others.iter().all(|other| BESIDE_TESTS.contains(other));
    }
    if let Some(conditions) = list("all") {
        return conditions.into_iter().any(needs_test);
    }
    predicate == "test"
}

/// The members of a list of conditions, each of which may have a list of its own.
fn conditions(list: &str) -> Vec<&str> {
    let (mut members, mut depth, mut start) = (Vec::new(), 0, 0);
    for (at, byte) in list.bytes().enumerate() {
        match byte {
            b'(' => depth += 1,
            b')' => depth -= 1,
            b',' if depth == 0 => {
                members.push(list[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    members.push(list[start..].trim());
    members
}

/// The modules in files of their own that a file declares for tests only.
fn test_modules(source: &Source) -> Vec<String> {
    let mut modules = Vec::new();
    let mut lines = source.text.lines().map(str::trim);
    while let Some(line) = lines.next() {
        if is_for_tests(line)
            && let Some(declared) = lines.next().and_then(|next| next.strip_suffix(';'))
            && let Some((_, module)) = declared.rsplit_once("mod ")
        {
            let mut path = module_path(&source.name);
            path.push(module);
            modules.push(path.join("/"));
        }
    }
    modules
}

/// A file without the tests at its end.
fn without_tests(text: &str) -> &str {
    let is_start = |&at: &usize| {
        let mut lines = text[at..].lines();
        lines.next().is_some_and(is_for_tests) && lines.next() == Some("mod tests {")
    };
    let start = text.match_indices("#[cfg(").map(|(at, _)| at).find(is_start);
    &text[..start.unwrap_or(text.len())]
}

/// The names with which a path goes on: one, or those of a list in braces.
fn names(path: &str) -> Vec<String> {
    let first = |text: &str| -> String {
        text.trim_start().chars().take_while(|&next| next.is_ascii() && is_name(next as u8)).collect()
    };
    let Some(list) = path.strip_prefix('{') else { return vec![first(path)] };
    let (mut names, mut depth, mut start) = (Vec::new(), 0, 0);
    for (at, byte) in list.bytes().enumerate() {
        match byte {
            b',' | b'}' if depth == 0 => {
                names.push(first(&list[start..at]));
                start = at + 1;
                if byte == b'}' {
                    break;
                }
            }
            b'{' => depth += 1,
            b'}' => depth -= 1,
            _ => {}
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

/// What a file names at the crate's root, each with its line: by `crate::`, and by `super::` where that
/// leads there.
fn imports(source: &Source) -> Vec<(String, &str)> {
    let code = source.product.as_str();
    let mut found = Vec::new();
    let mut find = |at: usize, path: &str| {
        found.extend(names(path).into_iter().map(|name| (name, line_of(code, at))));
    };
    for at in places(code, "crate::") {
        find(at, &code[at + "crate::".len()..]);
    }
    for at in places(code, "super::").filter(|&at| !code[..at].ends_with("super::")) {
        let (mut path, mut ups) = (&code[at..], 0);
        while let Some(rest) = path.strip_prefix("super::") {
            (path, ups) = (rest, ups + 1);
        }
        if ups >= module_path(&source.name).len() {
            find(at, path);
        }
    }
    found
}

/// From each name that `lib.rs` exports to its module.
fn exports(sources: &[Source]) -> BTreeMap<String, String> {
    let lib = sources.iter().find(|source| source.name == "lib.rs").unwrap();
    let statements = lib.product.split(';').filter_map(|statement| statement.trim().strip_prefix("pub use "));
    let export = |statement: &str| {
        let (path, list) = statement.rsplit_once("::").unwrap();
        let module = path.split("::").next().unwrap().to_owned();
        names(list).into_iter().map(move |name| (name, module.clone())).collect::<Vec<_>>()
    };
    statements.flat_map(export).collect()
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

fn is_leaf(module: &str) -> bool {
    LEAVES.iter().any(|(leaf, _)| *leaf == module)
}

fn may_import(from: &str, to: &str) -> bool {
    if let Some((_, own)) = LEAVES.iter().find(|(leaf, _)| *leaf == from) {
        return from == to || own.contains(&to);
    }
    if let Some((_, own, _)) = NARROWED.iter().find(|(module, ..)| *module == from) {
        return from == to || own.contains(&to);
    }
    match (layer(from), layer(to)) {
        (Some(above), Some(below)) => {
            from == to || above < below || BESIDE.iter().any(|(a, b, _)| (*a, *b) == (from, to))
        }
        (above, None) => above.is_some() && is_leaf(to),
        (None, _) => false,
    }
}

#[test]
fn imports_run_one_way() {
    let sources = sources();
    let exports = exports(&sources);
    let mut faults = Vec::new();
    for source in sources.iter().filter(|source| !source.test && source.name != "lib.rs") {
        let from = module_path(&source.name)[0];
        assert!(layer(from).is_some() || is_leaf(from), "{}: of which layer is it?", source.name);
        for (name, line) in imports(source) {
            let to = exports.get(&name).unwrap_or(&name);
            if !may_import(from, to) {
                faults.push(format!("{}: `{from}` may not import `{to}`: {line}", source.name));
            }
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn the_table_allows_what_the_design_says_and_no_more() {
    for (from, to) in [("server", "thread"), ("engine", "session"), ("send", "driver"), ("recv", "wire")] {
        assert!(may_import(from, to), "{from} imports {to}");
        assert!(!may_import(to, from), "{to} does not import {from}");
    }
    for (from, to) in [("send", "recv"), ("recv", "send"), ("recv", "driver"), ("driver", "wire")] {
        assert!(!may_import(from, to), "{from} does not import {to}");
    }
}

#[test]
fn unsafe_stands_in_its_files_and_nowhere_else() {
    let mut faults = Vec::new();
    for Source { name, code, .. } in sources() {
        let allowed = UNSAFE.contains(&name.as_str());
        if let (false, Some(at)) = (allowed, places(&code, "unsafe").next()) {
            faults.push(format!("{name}: {}", line_of(&code, at)));
        }
        let level = if allowed {
            "allow"
        } else if DENY.contains(&name.as_str()) {
            "deny"
        } else {
            "forbid"
        };
        let attribute = |line: &str| {
            let lints = line.strip_prefix("#![").and_then(|line| line.strip_prefix(level));
            lints.is_some_and(|lints| places(lints, "unsafe_code").next().is_some())
        };
        if !code.lines().any(attribute) {
            faults.push(format!("{name}: #![{level}(unsafe_code)] is missing"));
        }
    }
    for name in UNSAFE.iter().chain(&DENY) {
        assert!(folder().join(name).exists(), "{name} stands in a list and not in the source");
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn orderings_clocks_and_waits_stand_in_their_files() {
    let mut faults = Vec::new();
    for Source { name, product, .. } in sources().iter().filter(|source| !source.test) {
        let elsewhere = |file: &str| file != name && !name.starts_with(&file.replace(".rs", "/"));
        for (words, _, why) in WORDS.iter().filter(|(_, file, _)| elsewhere(file)) {
            for at in words.iter().flat_map(|word| places(product, word)) {
                faults.push(format!("{name}: {why}: {}", line_of(product, at)));
            }
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn no_file_is_too_long_to_be_read_in_one_go() {
    for Source { name, text, .. } in sources().iter().filter(|source| !source.test) {
        let lines = text.lines().count();
        assert!(lines <= LINES_MAX, "{name} has {lines} lines; {LINES_MAX} are the most");
    }
}

/// The number that stands between two words.
fn number(text: &str, before: &str, behind: &str) -> Option<f64> {
    let (_, rest) = text.split_once(before)?;
    rest.split_once(behind)?.0.trim().parse().ok()
}

#[test]
fn what_waiting_costs_is_the_same_in_the_reference_and_where_it_was_measured() {
    let report = fs::read_to_string(folder().join("../../../BENCHMARKS.md")).unwrap();
    let (_, table) = report.split_once("## What waiting costs").expect("the section");
    let wait = fs::read_to_string(folder().join("wait.rs")).unwrap();
    let (_, strategies) = wait.split_once("pub enum WaitStrategy {").expect("the strategies");
    let mut docs = String::new();
    let mut compared = 0;
    for line in strategies.lines().take_while(|line| *line != "}") {
        if let Some(text) = line.trim().strip_prefix("///") {
            docs.push_str(&text.to_lowercase());
            continue;
        }
        let Some(name) =
            line.trim().split(['(', ',']).next().filter(|name| !name.is_empty() && !name.starts_with('#'))
        else {
            continue;
        };
        let is_its =
            |row: &&str| row.starts_with(&format!("| `{name}`")) || row.starts_with(&format!("| `{name}("));
        let row = table.lines().find(is_its).unwrap_or_else(|| panic!("{name} is not in the table"));
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let measured = (number(cells[2], "", "%"), cells[3].parse().ok());
        assert!(measured.0.is_some() && measured.1.is_some(), "{row}");
        let (_, told) = docs.rsplit_once("idle ").expect("what it costs idle");
        assert_eq!((number(told, "", "%"), number(told, "loaded ", "µs")), measured, "{name}: {docs}");
        docs.clear();
        compared += 1;
    }
    assert_eq!(compared, 5);
}

#[test]
fn code_is_told_from_comments_strings_and_tests() {
    let text =
        "a // unsafe\nb /* c */ \"d \\\" e\" f '\"' g\n#[cfg(all(test, unix))]\nmod tests {\n unsafe\n}";
    let words = code_of(without_tests(text));
    assert_eq!(words.split_whitespace().collect::<Vec<_>>(), ["a", "b", "f", "g"]);
    assert_eq!(names("{a::b, c, d::{e, f}, g as h};"), ["a", "c", "d", "g"]);
    assert_eq!(names("send::Sole;"), ["send"]);
    assert_eq!(places("Release Released xRelease (Release)", "Release").count(), 2);
    assert_eq!(places("x.join() y.join(z)", "join()").count(), 1);
    for (line, test) in [
        ("#[cfg(test)]", true),
        ("#[cfg(all(test, unix))]", true),
        ("#[cfg(all(unix, any(test, feature = \"fuzz\")))]", true),
        ("#[cfg(any(test, feature = \"fuzz\"))]", true),
        ("#[cfg(any(test, windows, feature = \"rio-model\"))]", false),
        ("#[cfg(any(test, all(windows, unix)))]", false),
        ("#[cfg(not(test))]", false),
        ("#[cfg(feature = \"rio-model\")]", false),
        ("#[cfg(feature = \"test-of-nothing\")]", false),
        ("#[test]", false),
    ] {
        assert_eq!(is_for_tests(line), test, "{line}");
    }
}
