//! A ring that is one thread's own, step by step.
#![forbid(unsafe_code)]

use super::super::owner::OWN_AFTER;
use super::*;
use crate::wait::cross_barrier;

/// Commits `n` bytes more, as a message would.
fn commits(word: &CommitWord, n: u64) {
    let (Hold::Held(at) | Hold::Own(at)) = word.hold() else { panic!("{word:?}") };
    word.commit_on_stream(at + n);
}

/// An open word that is this thread's own, and where it is.
fn own() -> (CommitWord, u64) {
    let word = CommitWord::new();
    word.open();
    (0..=OWN_AFTER).for_each(|_| commits(&word, 4));
    let at = 4 * u64::from(OWN_AFTER + 1);
    assert!(word.is_own());
    assert_eq!(word.position(), at);
    (word, at)
}

/// What another thread finds.
fn elsewhere<T: Send>(find: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| scope.spawn(find).join().unwrap())
}

#[test]
fn a_ring_becomes_a_threads_own_until_another_comes() {
    let (word, at) = own();
    assert_eq!(elsewhere(|| word.hold()), Hold::Busy);
    assert!(!word.try_close());
    assert_eq!(word.hold(), Hold::Own(at));
    assert!(!elsewhere(|| word.disown(cross_barrier)), "it is held");
    word.let_go(at);
    assert_eq!(elsewhere(|| word.hold()), Hold::Busy, "its owner may be back in a moment");
    assert_eq!(word.hold(), Hold::Busy, "it is his no more");
    assert!(elsewhere(|| word.disown(cross_barrier)));
    assert_eq!(elsewhere(|| word.hold()), Hold::Held(at));
    word.let_go(at);
    assert_eq!(word.hold(), Hold::Held(at));
    word.let_go(at);
    // It takes twice as long now.
    (0..2 * OWN_AFTER).for_each(|_| commits(&word, 4));
    assert!(!word.is_own());
    commits(&word, 4);
    assert!(word.is_own());
    assert!(word.disown(|| panic!("a thread sees what itself has done")));
    assert!(word.try_close());
}

#[test]
fn a_ring_that_was_one_threads_own_is_never_anothers() {
    let (word, _) = own();
    elsewhere(|| {
        assert!(word.disown(cross_barrier));
        (0..100 * OWN_AFTER).for_each(|_| commits(&word, 4));
        assert!(!word.is_own());
    });
    (0..=2 * OWN_AFTER).for_each(|_| commits(&word, 4));
    assert!(word.is_own());
}

#[test]
fn who_commits_here_and_there_owns_neither() {
    let words = [CommitWord::new(), CommitWord::new()];
    words.iter().for_each(CommitWord::open);
    for _ in 0..4 * OWN_AFTER {
        words.iter().for_each(|word| commits(word, 4));
    }
    assert!(!words.iter().any(CommitWord::is_own));
}

#[test]
fn an_owners_claim_leaves_it_his_own_and_can_be_taken_away_and_closed() {
    let (word, at) = own();
    let claim = || {
        assert_eq!(word.hold(), Hold::Own(at));
        word.claim(at);
        assert_eq!(word.hold(), Hold::Busy);
    };
    claim();
    assert!(!word.drop_claim());
    claim();
    assert!(elsewhere(|| word.ask_to_be_told()));
    assert!(word.drop_claim());
    assert!(word.is_own());
    claim();
    // A claim may be committed where it was not made.
    assert!(!elsewhere(|| word.commit_claim(at + 4)).unwrap());
    assert_eq!(word.hold(), Hold::Own(at + 4));
    word.claim(at + 4);
    assert!(elsewhere(|| word.disown(cross_barrier) && word.try_close()));
    assert!(word.commit_claim(at + 8).is_err());
    assert!(!word.drop_claim());
    assert_eq!((word.hold(), word.position()), (Hold::Closed, at + 4));
    word.open();
    assert_eq!(elsewhere(|| word.hold()), Hold::Held(0));
}
