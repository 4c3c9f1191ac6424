//! A ring that is one thread's own, and others who come. As in `engine/tests/models.rs`; what is committed is but a number here,
//! and one that is lost tells of two who held the ring at the same time.
#![forbid(unsafe_code)]

use loom::sync::Arc;
use loom::thread;

use super::super::{Cursor, ProcessBarrier};
use super::*;

fn model(preemptions: usize, world: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound.get_or_insert(preemptions);
    builder.check(world);
}

fn barrier() {
    assert!(ProcessBarrier::System.cross());
}

/// A word, and what is only for whoever holds it: how often that was.
struct Model {
    word: CommitWord,
    held: Cursor,
}

/// One that is this thread's own, which has committed twice for that.
fn own() -> Arc<Model> {
    let model = Arc::new(Model { word: CommitWord::new(), held: Cursor::new(0) });
    model.word.open();
    assert_eq!(model.commits() + model.commits(), 2);
    assert!(model.word.is_own());
    model
}

impl Model {
    /// For whoever holds the word: does what he holds it for.
    fn touch(&self) {
        self.held.set(self.held.own() + 1);
    }

    /// Commits one more, if the ring is not somebody else's at the moment. Gives how many were committed.
    fn commits(&self) -> u64 {
        match self.word.hold() {
            Hold::Held(at) => {
                self.touch();
                self.word.commit_on_stream(at + 1);
                1
            }
            Hold::Own(at) => {
                self.touch();
                self.word.commit_own(at + 1);
                1
            }
            Hold::Busy => 0,
            Hold::Closed => panic!("nobody closes it"),
        }
    }

    /// The same for somebody who comes to it: takes it away first.
    fn comes(&self) -> u64 {
        self.word.disown(barrier);
        self.commits()
    }

    /// Holds it and commits nothing, if it is not somebody else's at the moment.
    fn lets_go(&self) -> u64 {
        match self.word.hold() {
            Hold::Held(at) | Hold::Own(at) => {
                self.touch();
                self.word.let_go(at);
                1
            }
            _ => 0,
        }
    }
}

#[test]
fn a_ring_is_held_by_its_owner_or_by_who_took_it_away_and_never_by_both() {
    model(3, || {
        let model = own();
        let other = model.clone();
        let other = thread::spawn(move || other.comes());
        let held = model.lets_go();
        let mine = model.commits() + model.comes();
        let theirs = other.join().unwrap();
        assert_eq!(model.word.position(), 2 + mine + theirs);
        model.comes();
        assert_eq!(model.held.own(), model.word.position() + held);
    });
}

#[test]
fn two_who_take_a_ring_away_from_a_third_do_not_hold_it_at_the_same_time() {
    model(3, || {
        let model = own();
        let others = [(); 2].map(|()| {
            let other = model.clone();
            thread::spawn(move || other.comes())
        });
        let mine = model.commits();
        let theirs: u64 = others.into_iter().map(|other| other.join().unwrap()).sum();
        assert_eq!(model.word.position(), 2 + mine + theirs);
        assert_eq!(model.held.own(), model.word.position());
    });
}

#[test]
fn a_ring_that_its_owner_gets_again_as_somebody_takes_it_away_is_one_threads_at_a_time() {
    model(2, || {
        let model = own();
        let others = [(); 2].map(|()| {
            let other = model.clone();
            thread::spawn(move || {
                other.word.disown(barrier);
            })
        });
        // Once it is nobody's own, three are enough for it to be this thread's again.
        let mine = (0..4).map(|_| model.comes()).sum::<u64>() + model.commits();
        others.into_iter().for_each(|other| other.join().unwrap());
        assert_eq!(model.word.position(), 2 + mine);
        assert_eq!(model.held.own(), model.word.position());
    });
}

#[test]
fn what_an_owner_commits_as_the_ring_is_closed_was_before_that_or_is_not() {
    for by_claim in [false, true] {
        model(3, move || {
            let model = own();
            let (word, closes) = (&model.word, model.clone());
            let closes = thread::spawn(move || {
                while !(closes.word.disown(barrier) && closes.word.try_close()) {
                    thread::yield_now();
                }
                closes.word.position()
            });
            let committed = match word.hold() {
                Hold::Held(at) | Hold::Own(at) if by_claim => {
                    word.claim(at);
                    let committed = word.commit_claim(at + 1).is_ok();
                    if !committed {
                        word.drop_claim();
                    }
                    committed
                }
                Hold::Held(at) | Hold::Own(at) => {
                    word.commit_on_stream(at + 1);
                    true
                }
                Hold::Busy | Hold::Closed => false,
            };
            assert_eq!(closes.join().unwrap(), 2 + u64::from(committed));
        });
    }
}
