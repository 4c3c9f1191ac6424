//! `zerio sim`: seeds are tried and counted, and the same seed does the same.
#![deny(unsafe_code)]

mod support;

use support::{run, text};

#[test]
fn seeds_are_tried_and_counted() {
    let output = run("sim --seeds 3 --seed 0x10 --steps 500", b"");
    let line = text(&output.stdout);
    assert!(output.status.success(), "{line}{}", text(&output.stderr));
    assert!(line.starts_with("3 seeds (0x10 to 0x12), ") && line.contains("nothing wrong"), "{line}");
}

#[test]
fn the_same_seed_does_the_same() {
    let checked = |line: &str| line.split_once(" s: ").map(|(_, did)| did.to_owned());
    let (a, b) = (run("sim --seed 7 --steps 2000", b""), run("sim --seed 7 --steps 2000", b""));
    let (a, b) = (text(&a.stdout), text(&b.stdout));
    assert!(a.starts_with("1 seed (0x7 to 0x7), ") && checked(&a).is_some(), "{a}");
    assert_eq!(checked(&a), checked(&b));
}

#[test]
fn under_tls_the_same_seed_does_the_same_too() {
    // Each time with other certificates.
    let [a, b] = [(); 2].map(|()| run("sim --tls --seeds 4 --seed 0x10 --steps 1000", b""));
    let line = text(&a.stdout);
    assert!(a.status.success(), "{line}{}", text(&a.stderr));
    assert!(line.starts_with("4 seeds (0x10 to 0x13), ") && line.contains("nothing wrong"), "{line}");
    let checked = |line: &str| line.split_once(" s: ").map(|(_, did)| did.to_owned());
    assert_eq!(checked(&line), checked(&text(&b.stdout)));
    let plain = run("sim --seeds 4 --seed 0x10 --steps 1000", b"");
    assert_ne!(checked(&line), checked(&text(&plain.stdout)), "without TLS it is another storm");
}

#[test]
fn a_bound_in_time_ends_it() {
    let output = run("sim --minutes 0.01 --steps 200", b"");
    assert!(output.status.success() && text(&output.stdout).contains("nothing wrong"));
}
