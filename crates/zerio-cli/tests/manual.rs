//! `zerio completions` and `zerio man`: that they know every command and every flag, and that shells and `man` take
//! them.
#![deny(unsafe_code)]

mod support;

use std::collections::BTreeSet;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use support::{commands, run, text, zerio};

#[test]
fn every_shell_completes_every_command_and_their_flags() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let output = run(&format!("completions {shell}"), b"");
        assert!(output.status.success(), "{}", text(&output.stderr));
        let script = text(&output.stdout);
        for word in commands().iter().map(String::as_str).chain(["sessions-max", "json"]) {
            assert!(script.contains(word), "{shell} does not know {word}");
        }
    }
    assert_eq!(run("completions cmd", b"").status.code(), Some(2));
}

/// Whether a program takes this on its standard input; `None` where there is no such program.
fn takes(program: &str, arguments: &[&str], input: &[u8]) -> Option<bool> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::null());
    let Ok(mut child) = command.spawn() else {
        support::skipped(program, format!("there is no {program} on this machine"));
        return None;
    };
    child.stdin.take().unwrap().write_all(input).unwrap();
    Some(child.wait().unwrap().success())
}

#[test]
fn shells_take_their_scripts() {
    for (shell, arguments) in [("bash", &["-n"][..]), ("zsh", &["-n"]), ("fish", &["--no-execute"])] {
        let script = run(&format!("completions {shell}"), b"").stdout;
        assert_ne!(takes(shell, arguments, &script), Some(false), "{shell}");
    }
}

#[test]
fn the_manual_has_a_page_for_each_command() {
    let directory = std::env::temp_dir().join(format!("zerio-man-{}", std::process::id())).join("man1");
    let output = zerio("man").arg(&directory).output().unwrap();
    assert!(output.status.success() && output.stdout.is_empty(), "{}", text(&output.stderr));
    let mut expected: BTreeSet<_> = commands().iter().map(|name| format!("zerio-{name}.1")).collect();
    expected.insert("zerio.1".to_owned());
    let paths: Vec<PathBuf> =
        std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    let names = paths.iter().map(|path| path.file_name().unwrap().to_string_lossy().into_owned());
    assert_eq!(names.collect::<BTreeSet<_>>(), expected);
    for path in &paths {
        let page = std::fs::read(path).unwrap();
        let name = path.display();
        assert!(text(&page).contains(".TH zerio"), "{name}");
        assert!(!text(&page).contains("\\-\\-role"), "{name}");
        assert_ne!(takes("man", &["-l", "-"], &page), Some(false), "{name}");
    }
    std::fs::remove_dir_all(directory.parent().unwrap()).unwrap();
}

#[test]
fn without_a_directory_the_tools_own_page_comes_out() {
    let output = run("man", b"");
    assert!(output.status.success());
    assert!(text(&output.stdout).contains("zerio\\-serve(1)"), "{}", text(&output.stdout));
}

#[test]
fn a_directory_that_can_t_be_is_told_with_what_to_do() {
    let file = std::env::temp_dir().join(format!("zerio-no-directory-{}", std::process::id()));
    std::fs::write(&file, b"a file").unwrap();
    let output = zerio("man").arg(&file).output().unwrap();
    std::fs::remove_file(&file).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("name another place"), "{}", text(&output.stderr));
}
