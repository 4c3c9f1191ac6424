//! PEM (RFC 7468), as far as certificates and private keys need it. What is not asked for is not copied: it may be a private
//! key. Nothing of a text stands in an error, for the same reason.
#![forbid(unsafe_code)]

use base64ct::{Base64, Encoding};
use zeroize::Zeroizing;

const BEGIN: &[u8] = b"-----BEGIN ";
const END: &[u8] = b"-----END ";
const DASHES: &[u8] = b"-----";

/// A text, or a section of it, is not as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Damaged;

/// A part of a text, between its two marks.
#[derive(Clone, Copy)]
pub(super) struct Section<'a> {
    pub(super) label: &'a [u8],
    /// In base64, with its ends of lines.
    body: &'a [u8],
}

impl Section<'_> {
    /// A private key that takes a password: by its label, or, in the older form (RFC 1421), by the lines above it.
    pub(super) fn is_encrypted(&self) -> bool {
        self.label == b"ENCRYPTED PRIVATE KEY" || self.body.starts_with(b"Proc-Type:")
    }

    /// What it holds, which is overwritten when it is dropped; and so is what it is made from.
    pub(super) fn decode(&self) -> Result<Zeroizing<Vec<u8>>, Damaged> {
        let mut text = Zeroizing::new(Vec::with_capacity(self.body.len()));
        text.extend(self.body.iter().filter(|byte| !byte.is_ascii_whitespace()));
        let mut bytes = Zeroizing::new(vec![0; text.len() / 4 * 3]);
        let len = Base64::decode(&*text, &mut bytes).map_err(|_| Damaged)?.len();
        bytes.truncate(len);
        Ok(bytes)
    }
}

/// The sections of a text, in order, to the first that is damaged. What stands between them is nobody's.
pub(super) fn sections(text: &[u8]) -> impl Iterator<Item = Result<Section<'_>, Damaged>> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let next = next(rest?).transpose()?;
        rest = next.as_ref().ok().map(|(_, rest)| *rest);
        Some(next.map(|(section, _)| section))
    })
}

/// The next section, and what stands behind it.
fn next(text: &[u8]) -> Result<Option<(Section<'_>, &[u8])>, Damaged> {
    let Some((_, line, rest)) = line_that_begins(text, BEGIN) else { return Ok(None) };
    let label = line.trim_ascii_end().strip_suffix(DASHES).ok_or(Damaged)?;
    let (body, end, rest) = line_that_begins(rest, END).ok_or(Damaged)?;
    let is_its_end = end.trim_ascii_end().strip_suffix(DASHES) == Some(label);
    if is_its_end { Ok(Some((Section { label, body }, rest))) } else { Err(Damaged) }
}

/// What stands before the first line that begins like this, how that line goes on, and what stands behind it.
fn line_that_begins<'a>(text: &'a [u8], mark: &[u8]) -> Option<(&'a [u8], &'a [u8], &'a [u8])> {
    let mut at = 0;
    for line in text.split_inclusive(|byte| matches!(byte, b'\n' | b'\r')) {
        let end = at + line.len();
        if let Some(line) = line.strip_prefix(mark) {
            return Some((&text[..at], line, &text[end..]));
        }
        at = end;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A section: its label, and what it holds.
    type Found = Result<(String, Result<Vec<u8>, Damaged>), Damaged>;

    fn all(text: &str) -> Vec<Found> {
        let section = |section: Section<'_>| {
            let label = String::from_utf8(section.label.to_vec()).unwrap();
            (label, section.decode().map(|bytes| bytes.to_vec()))
        };
        sections(text.as_bytes()).map(|found| found.map(section)).collect()
    }

    fn holds(label: &str, bytes: &[u8]) -> Found {
        Ok((label.to_owned(), Ok(bytes.to_vec())))
    }

    #[test]
    fn sections_are_found_wherever_they_stand_and_however_lines_end() {
        for end in ["\n", "\r\n", "\r", " \n"] {
            let text = "about it\n-----BEGIN A-----\nb3Vp\nbm9u\n-----END A-----\nmore\n\
                -----BEGIN B C-----\nbw==\n-----END B C-----";
            let text = text.replace('\n', end);
            assert_eq!(all(&text), [holds("A", b"ouinon"), holds("B C", b"o")], "{end:?}");
        }
        assert_eq!(all(""), []);
        assert_eq!(all("nothing\n -----BEGIN A-----\n"), []);
        assert_eq!(all("-----BEGIN A-----\n-----END A-----"), [holds("A", b"")]);
    }

    #[test]
    fn a_section_that_is_damaged_is_told_and_is_the_last() {
        for damaged in [
            "-----BEGIN A-----\nb3Vp\n",
            "-----BEGIN A-----\nb3Vp\n-----END B-----",
            "-----BEGIN A-----\nb3Vp\n-----END A",
            "-----BEGIN A----- b3Vp -----END A-----!",
            "-----BEGIN A\nb3Vp\n-----END A-----",
        ] {
            assert_eq!(all(damaged).first(), Some(&Err(Damaged)), "{damaged}");
            let behind = format!("{damaged}\n-----BEGIN C-----\nb3Vp\n-----END C-----");
            assert!(all(&behind).iter().all(Result::is_err), "{behind}");
        }
        for no_base64 in ["b3V", "b3V!", "b3Vp-", "=", "bw=", "b3Vp\n\u{e9}"] {
            let text = format!("-----BEGIN A-----\n{no_base64}\n-----END A-----");
            assert_eq!(all(&text), [Ok(("A".to_owned(), Err(Damaged)))], "{no_base64}");
        }
    }
}
