//! `docs/unsafe.md` lists each `unsafe` of the crates with the reason that stands beside it, and each has one. With
//! `ZERIO_RECORD=1` the list is written anew.
#![forbid(unsafe_code)]

mod document;
mod source;

use std::fmt::Write;
use std::path::Path;

use source::{code_of, files, is_name, name_in, places, read};

const DOCUMENT: &str = "unsafe.md";

/// What stands in one place.
#[derive(Debug, PartialEq)]
struct Unsafe {
    line: usize,
    /// The function or type that it is in, or that it is.
    place: String,
    what: &'static str,
    /// Why it is sound, or what its callers must see to.
    reason: Option<String>,
}

/// Each `unsafe` of a file, in order. The type of a function pointer is none: whoever calls one says why he may.
fn all_of(text: &str) -> Vec<Unsafe> {
    let code = code_of(text);
    let (lines, code_lines): (Vec<_>, Vec<_>) = (text.lines().collect(), code.lines().collect());
    let mut all = Vec::new();
    for at in places(&code, "unsafe") {
        let line = code[..at].matches('\n').count();
        let words = code[at + "unsafe".len()..].trim_start();
        let words = words.strip_prefix("extern").map_or(words, str::trim_start);
        let around = around(&code_lines, line);
        let owner = around.iter().find_map(|line| Owner::of(line));
        let safety = || comment_above(&lines, line, "//", "SAFETY:");
        let (place, what, reason) = if let Some(signature) = words.strip_prefix("fn") {
            let name = name(signature);
            if name.is_empty() {
                continue;
            }
            let promise = comment_above(&lines, line, "///", "# Safety");
            let of_trait = || owner.as_ref()?.of_trait.map(|of_trait| format!("As `{of_trait}` demands."));
            (place(owner.as_ref(), name), "function", promise.or_else(of_trait))
        } else if let Some(rest) = words.strip_prefix("impl") {
            let end = rest.find('{').unwrap_or(rest.len());
            (behind_generics(rest[..end].trim()).to_owned(), "implementation", safety())
        } else {
            let function = around.iter().find_map(|line| Some(name(line.split_once("fn ")?.1)));
            (place(owner.as_ref(), function.unwrap_or_default()), "block", safety())
        };
        all.push(Unsafe { line: line + 1, place, what, reason });
    }
    all
}

/// The lines that a line stands in, from the inside: its own, and each above that is indented less, as rustfmt has it.
/// What only ends something is none.
fn around<'a>(code: &[&'a str], line: usize) -> Vec<&'a str> {
    let mut around = vec![code[line].trim_start()];
    let mut depth = code[line].len() - around[0].len();
    for above in code[..line].iter().rev() {
        let text = above.trim_start();
        let begins = text.starts_with(char::is_alphabetic) && !text.starts_with("where");
        if begins && above.len() - text.len() < depth {
            depth = above.len() - text.len();
            around.push(text);
        }
    }
    around
}

/// The type or trait that a function belongs to.
struct Owner<'a> {
    name: &'a str,
    of_trait: Option<&'a str>,
}

impl<'a> Owner<'a> {
    fn of(line: &'a str) -> Option<Owner<'a>> {
        if let Some((_, named)) = line.split_once("trait ") {
            return Some(Owner { name: name(named), of_trait: None });
        }
        let line = line.strip_prefix("unsafe ").unwrap_or(line);
        let of = behind_generics(line.strip_prefix("impl")?);
        Some(match of.split_once(" for ") {
            Some((of_trait, of_type)) => Owner { name: name(of_type), of_trait: Some(name(of_trait)) },
            None => Owner { name: name(of), of_trait: None },
        })
    }
}

fn place(owner: Option<&Owner<'_>>, function: &str) -> String {
    owner.map_or_else(|| function.to_owned(), |owner| format!("{}::{function}", owner.name))
}

fn behind_generics(text: &str) -> &str {
    let mut depth = 0;
    let end = text.find(|next| {
        depth += i32::from(next == '<') - i32::from(next == '>');
        depth == 0
    });
    let is_list = text.starts_with('<');
    end.filter(|_| is_list).map_or(text, |end| &text[end + 1..]).trim_start()
}

fn name(text: &str) -> &str {
    let text = text.trim_start();
    &text[..text.bytes().position(|byte| !is_name(byte)).unwrap_or(text.len())]
}

/// What the comment above a line's statement or item says behind a word.
fn comment_above(lines: &[&str], line: usize, mark: &str, word: &str) -> Option<String> {
    let above = |line: usize| lines[..line].last().map(|line| line.trim());
    let mut at = line;
    while let Some(text) = above(at).filter(|text| !text.starts_with("//")) {
        let is_attribute = text.starts_with("#[");
        if !is_attribute && (text.is_empty() || text.ends_with([';', ',', '{', '}'])) {
            return None;
        }
        at -= 1;
    }
    let mut comment = Vec::new();
    while let Some(text) = above(at).and_then(|text| text.strip_prefix(mark)) {
        comment.insert(0, text.trim());
        at -= 1;
    }
    let start = comment.iter().rposition(|line| line.starts_with(word))?;
    comment[start] = &comment[start][word.len()..];
    let said = comment[start..].iter().take_while(|line| !line.starts_with("# "));
    let said = said.copied().collect::<Vec<_>>().join(" ").trim().to_owned();
    (!said.is_empty()).then_some(said)
}

/// The document with its lists as the sources have them, and where a reason is missing.
fn renewed(document: &str) -> (String, Vec<String>) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let lists = document.find("\n## ").map_or(document.len(), |end| end + 1);
    let (mut renewed, mut missing) = (document[..lists].to_owned(), Vec::new());
    for path in
        ["zerio", "zerio-cli"].iter().flat_map(|name| files(&root.join("crates").join(name).join("src")))
    {
        let (file, all) = (name_in(&root, &path), all_of(&read(&path)));
        for (number, Unsafe { line, place, what, reason }) in all.iter().enumerate() {
            if number == 0 {
                write!(renewed, "## `{file}`\n\n| where | what | why |\n| --- | --- | --- |\n").unwrap();
            }
            match reason {
                Some(why) => {
                    writeln!(renewed, "| `{place}` | {what} | {} |", why.replace('|', "\\|")).unwrap()
                }
                None => missing.push(format!("{file}:{line}: the reason of an `unsafe` is missing")),
            }
        }
        if !all.is_empty() {
            renewed.push('\n');
        }
    }
    (format!("{}\n", renewed.trim_end()), missing)
}

#[test]
fn each_unsafe_has_its_reason_and_is_on_the_list() {
    let (renewed, missing) = renewed(&document::read(DOCUMENT));
    assert!(missing.is_empty(), "\n{}", missing.join("\n"));
    assert!(renewed.lines().count() > 100, "the source was found");
    document::hold(DOCUMENT, &renewed);
}

#[test]
fn a_source_is_understood() {
    let source = r#"
struct Table { send: unsafe extern "system" fn(u8) }
// SAFETY: an address, "unsafe
// to follow".
unsafe impl<T: Into<u8>> Send for Start<T> {}
unsafe impl Sync for Start {}
impl<T> Table {
    /// Copies.
    ///
    /// # Safety
    ///
    /// Both are | mapped.
    #[inline]
    unsafe fn copy(&self) {
        // No reason.
        let a = unsafe { b() };
        // Now, SAFETY:
        // SAFETY: it is
        // long.
        let c =
            d || unsafe { e() };
        unsafe { f() }
    }
}
impl<'a> Driver for Table<'a> {
    unsafe fn go(
        &self,
    ) -> u8 {
        match self {
            // SAFETY: of one.
            One => unsafe { f() },
            Two => unsafe { f() },
        }
    }
}
unsafe fn unsaid() {}
"#;
    let all = all_of(source);
    let all: Vec<_> = all.iter().map(|one| (one.place.as_str(), one.what, one.reason.as_deref())).collect();
    let expected = [
        ("Send for Start<T>", "implementation", Some("an address, \"unsafe to follow\".")),
        ("Sync for Start", "implementation", None),
        ("Table::copy", "function", Some("Both are | mapped.")),
        ("Table::copy", "block", None),
        ("Table::copy", "block", Some("it is long.")),
        ("Table::copy", "block", None),
        ("Table::go", "function", Some("As `Driver` demands.")),
        ("Table::go", "block", Some("of one.")),
        ("Table::go", "block", None),
        ("unsaid", "function", None),
    ];
    assert_eq!(all, expected);
    assert_eq!(all_of(source)[1].line, 6);
}
