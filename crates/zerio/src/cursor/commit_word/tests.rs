//! The word, step by step.
#![forbid(unsafe_code)]

use super::*;

#[test]
fn a_close_waits_for_a_holder_and_then_holds_for_good() {
    let word = CommitWord::new();
    assert_eq!(word.hold(), Hold::Closed);
    word.open();
    assert_eq!(word.hold(), Hold::Held(0));
    assert_eq!(word.hold(), Hold::Busy);
    assert!(!word.try_close(), "the message that is being written is accepted");
    word.commit(36);
    assert!(word.try_close());
    assert!(word.try_close(), "once is as good as twice");
    assert_eq!(word.hold(), Hold::Closed);
    assert_eq!(word.position(), 36);
    assert!(!word.is_taken());
}

#[test]
fn a_claim_can_be_closed_and_is_then_not_committed() {
    let word = CommitWord::new();
    word.open();
    assert_eq!(word.hold(), Hold::Held(0));
    word.claim(0);
    assert_eq!(word.hold(), Hold::Busy);
    assert!(word.try_close());
    assert!(word.commit_claim(36).is_err());
    assert!(word.is_taken(), "until he has put right what he noted");
    assert!(!word.drop_claim());
    assert!(!word.is_taken());
    assert_eq!((word.position(), word.hold()), (0, Hold::Closed));
}

#[test]
fn who_waits_for_a_claim_is_told() {
    let word = CommitWord::new();
    word.open();
    assert!(!word.ask_to_be_told());
    assert_eq!(word.hold(), Hold::Held(0));
    assert!(!word.ask_to_be_told(), "a holder tells nobody, and is gone at once");
    word.claim(0);
    assert!(word.ask_to_be_told());
    assert!(word.commit_claim(4).unwrap());
    assert_eq!(word.hold(), Hold::Held(4));
    word.claim(4);
    assert!(word.ask_to_be_told());
    assert!(word.drop_claim());
    assert_eq!(word.position(), 4);
}

#[test]
fn a_holder_who_lets_go_leaves_everything_as_it_was() {
    let word = CommitWord::new();
    word.open();
    assert_eq!(word.hold(), Hold::Held(0));
    word.commit_and_look(8);
    assert_eq!(word.hold(), Hold::Held(8));
    word.let_go(8);
    assert_eq!(word.hold(), Hold::Held(8));
}
