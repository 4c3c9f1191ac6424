//! Commands as one would type them in a shell.
#![forbid(unsafe_code)]

/// A command of these words.
pub(crate) fn command(words: &[String]) -> String {
    words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
}

/// A word, in quotes where a shell would not take it for one.
pub(crate) fn quoted(word: &str) -> String {
    let plain = |c: char| {
        c.is_ascii_alphanumeric() || "-_.,:/=+%@".contains(c) || (cfg!(windows) && "\\~".contains(c))
    };
    if word.chars().all(plain) && !word.is_empty() {
        word.to_owned()
    } else if cfg!(windows) {
        format!("\"{word}\"")
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

#[cfg(all(test, not(windows)))]
mod tests {
    use super::*;

    #[test]
    fn a_command_can_be_typed_again() {
        let words =
            ["zerio", "bench", "--size", "32,4k", "--report", "it's <here>.html", ""].map(String::from);
        assert_eq!(command(&words), "zerio bench --size 32,4k --report 'it'\\''s <here>.html' ''");
    }
}
