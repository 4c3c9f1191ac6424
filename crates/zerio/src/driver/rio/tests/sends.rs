//! Several sends of a session at a time, whose peer is slow to acknowledge them.
#![forbid(unsafe_code)]

use super::super::model::{
    cut_next_send_of_this_thread as cut, withhold_acknowledgements_of_this_thread as withhold,
};
use super::*;

/// Longer than one would need for what the kernel has to do, so that what does not come would have come.
const A_WHILE: Duration = Duration::from_millis(5);

impl Rig {
    /// Sends 8 bytes that end with a number.
    fn send_numbered(&mut self, number: usize) {
        let mut span = self.spans.pop().unwrap();
        self.region.bytes_mut(&mut span).copy_from_slice(format!("send {number:03}").as_bytes());
        self.driver.send(ID, span);
    }

    /// How each of the completions went that are there, if they are all of sends.
    fn outcomes(&mut self) -> Vec<(String, Result<usize, ErrorKind>)> {
        let of = |completion| match completion {
            Completion::Sent(ID, span, outcome) => {
                let text = String::from_utf8_lossy(self.region.bytes(&span)).into_owned();
                self.spans.push(span);
                (text, outcome.map_err(|error| error.kind()))
            }
            other => panic!("{other:?}"),
        };
        self.done.drain(..).map(of).collect()
    }
}

fn numbers(of: std::ops::Range<usize>) -> Vec<(String, Result<usize, ErrorKind>)> {
    of.map(|number| (format!("send {number:03}"), Ok(8))).collect()
}

#[test]
fn as_many_sends_as_a_session_may_have_leave_before_the_first_is_acknowledged() {
    let mut rig = Rig::new();
    withhold(true);
    for number in 0..SENDS_MAX {
        rig.send_numbered(number);
        rig.turn(Duration::ZERO);
        assert_eq!(rig.hear::<8>(), *format!("send {number:03}").as_bytes());
    }
    rig.turn(A_WHILE);
    assert_eq!(rig.outcomes(), []);
    withhold(false);
    while rig.done.len() < SENDS_MAX {
        rig.turn(A_WHILE);
    }
    assert_eq!(rig.outcomes(), numbers(0..SENDS_MAX));
}

#[test]
fn a_turn_defers_all_its_requests_and_commits_once_each_way() {
    let mut rig = Rig::new();
    (0..3).for_each(|number| rig.send_numbered(number));
    rig.receive();
    assert_eq!(rig.driver.table.begun, 0);
    rig.turn(Duration::ZERO);
    assert_eq!(rig.driver.table.begun, 2);
    rig.send_numbered(3);
    rig.turn(Duration::ZERO);
    assert_eq!(rig.driver.table.begun, 3, "of no way that has nothing");
}

#[test]
fn sends_that_are_told_of_in_any_order_are_given_back_in_theirs() {
    for seed in 0..20 {
        let mut rig = Rig::seeded(64, seed);
        rig.driver.table.shuffle();
        // More than a session may have, so that their numbers go round.
        for round in 0..3 {
            let (from, to) = (5 * round, 5 * round + 5);
            withhold(true);
            (from..to).for_each(|number| rig.send_numbered(number));
            rig.turn(Duration::ZERO);
            withhold(false);
            while rig.done.len() < 5 {
                rig.turn(A_WHILE);
            }
            assert_eq!(rig.outcomes(), numbers(from..to));
        }
    }
}

#[test]
fn a_short_send_with_nothing_behind_it_goes_on_with_its_rest() {
    let mut rig = Rig::new();
    cut(5);
    rig.send_numbered(0);
    while rig.done.is_empty() {
        rig.turn(A_WHILE);
        if rig.driver.outstanding == 0 && rig.done.is_empty() {
            // Asked for while the rest is not with the kernel yet: it waits for that.
            rig.send_numbered(1);
        }
    }
    assert_eq!(rig.hear::<16>(), *b"send 000send 001");
    while rig.done.len() < 2 {
        rig.turn(A_WHILE);
    }
    assert_eq!(rig.outcomes(), numbers(0..2));
}

#[test]
fn a_short_send_with_others_behind_it_is_told_as_one() {
    let mut rig = Rig::new();
    cut(5);
    (0..3).for_each(|number| rig.send_numbered(number));
    while rig.done.len() < 3 {
        rig.turn(A_WHILE);
    }
    let [first, others @ ..] = &rig.outcomes()[..] else { panic!("nothing") };
    assert_eq!(*first, ("send 000".into(), Ok(5)));
    assert_eq!(*others, numbers(1..3));
}

#[test]
fn what_is_behind_a_send_that_is_refused_is_not_handed_over() {
    let mut rig = Rig::new();
    withhold(true);
    rig.send_numbered(0);
    rig.turn(Duration::ZERO);
    rig.refuse(Refusing { next_send: true, ..Refusing::NOTHING });
    (1..4).for_each(|number| rig.send_numbered(number));
    rig.turn(Duration::ZERO);
    assert_eq!(rig.outcomes(), [], "not before the one in front");
    withhold(false);
    while rig.done.is_empty() {
        rig.turn(A_WHILE);
    }
    let outcomes = rig.outcomes();
    assert_eq!(outcomes[..1], numbers(0..1));
    assert!(outcomes[1..].iter().all(|(_, outcome)| *outcome == Err(ErrorKind::InvalidInput)));
    assert_eq!(outcomes.len(), 4);
    rig.send_numbered(4);
    while rig.done.is_empty() {
        rig.turn(A_WHILE);
    }
    assert_eq!(rig.outcomes(), numbers(4..5), "the session goes on");
    assert_eq!(rig.hear::<16>(), *b"send 000send 004");
}

#[test]
fn a_close_gives_back_all_sends_in_their_order_and_ends_after_the_last() {
    for (with_kernel, asked) in [(1, 0), (3, 0), (3, 2), (0, 2), (SENDS_MAX, 0)] {
        for shuffled in [false, true] {
            let mut rig = Rig::new();
            if shuffled {
                rig.driver.table.shuffle();
            }
            withhold(true);
            (0..with_kernel).for_each(|number| rig.send_numbered(number));
            rig.turn(Duration::ZERO);
            (with_kernel..with_kernel + asked).for_each(|number| rig.send_numbered(number));
            rig.driver.close(ID);
            while !matches!(rig.done.last(), Some(Completion::Closed(ID))) {
                rig.turn(A_WHILE);
            }
            rig.done.pop();
            let outcomes = rig.outcomes();
            assert_eq!(outcomes.len(), with_kernel + asked);
            for ((text, outcome), number) in outcomes.iter().zip(0..) {
                assert_eq!(*text, format!("send {number:03}"));
                assert_eq!(*outcome, Err(ErrorKind::ConnectionAborted));
            }
            assert_eq!(rig.driver.outstanding, 0);
        }
    }
}

#[test]
fn a_dropped_driver_waits_for_all_sends() {
    let mut rig = Rig::new();
    withhold(true);
    (0..SENDS_MAX).for_each(|number| rig.send_numbered(number));
    rig.turn(Duration::ZERO);
    assert_eq!(rig.driver.outstanding, SENDS_MAX);
    let Rig { driver, region, .. } = rig;
    drop(driver);
    assert_eq!(Arc::strong_count(&region), 1);
}

#[test]
fn a_send_over_several_registrations_is_whole() {
    const LEN: usize = 2 * Model::REGISTRATION_MAX + 10;
    // Five bytes before the first seam, to five behind the third.
    let (region, mut cutter) = Region::new(LEN + Model::REGISTRATION_MAX - 5).unwrap();
    let mut driver = with_seed(0, true, || Rio::<Model>::new(region.clone(), 1).unwrap());
    driver.table.be_plain();
    assert_eq!(driver.registered.len(), 4);
    cutter.cut(Model::REGISTRATION_MAX - 5);
    let mut span = cutter.cut(LEN);
    let number = |at: usize| (at % 251) as u8;
    region.bytes_mut(&mut span).iter_mut().enumerate().for_each(|(at, byte)| *byte = number(at));
    let (mut peer, own) = pair();
    let id = SlotId { index: 0, generation: 1 };
    driver.adopt(id, own, &options()).unwrap();
    let reader = std::thread::spawn(move || {
        let mut heard = vec![0; LEN];
        std::io::Read::read_exact(&mut peer, &mut heard).unwrap();
        heard
    });
    driver.send(id, span);
    let mut done = Vec::new();
    while done.is_empty() {
        driver.turn(A_WHILE, &mut done).unwrap();
    }
    assert!(matches!(done[..], [Completion::Sent(_, _, Ok(LEN))]), "{done:?}");
    let heard = reader.join().unwrap();
    assert!(heard.iter().enumerate().all(|(at, &byte)| byte == number(at)));
}

#[test]
fn the_rest_of_a_send_is_not_waited_for() {
    // The seam is in the middle of the last span but one.
    let mut rig = Rig::over(Model::REGISTRATION_MAX + 12);
    rig.spans.pop();
    rig.send_numbered(0);
    let start = Instant::now();
    for _ in 0..10 {
        rig.turn(LONG);
        if !rig.done.is_empty() {
            break;
        }
    }
    assert_eq!(rig.outcomes(), numbers(0..1));
    assert!(start.elapsed() < LONG, "it waited for something else");
}

#[test]
fn the_completion_queue_holds_all_that_can_be_outstanding() {
    let (region, mut cutter) = Region::new(256).unwrap();
    let mut driver = with_seed(0, true, || Rio::<Model>::new(region, 2).unwrap());
    driver.table.refusing = Refusing { completions: true, ..Refusing::NOTHING };
    let mut peers = Vec::new();
    for index in 0..2 {
        let (peer, own) = pair();
        let id = SlotId { index, generation: 1 };
        driver.adopt(id, own, &options()).unwrap();
        driver.receive(id, cutter.cut(8));
        (0..SENDS_MAX).for_each(|_| driver.send(id, cutter.cut(8)));
        peers.push(peer);
    }
    for _ in 0..refusals::PLACES {
        let (peer, own) = pair();
        driver.refuse(own, b"no");
        peers.push(peer);
    }
    let mut done = Vec::new();
    driver.turn(Duration::ZERO, &mut done).unwrap();
    assert!(done.is_empty());
    assert_eq!(driver.outstanding, 2 * (1 + SENDS_MAX) + refusals::PLACES);
    driver.table.refusing = Refusing::NOTHING;
    while driver.outstanding > 2 {
        driver.turn(A_WHILE, &mut done).unwrap();
    }
    assert_eq!(done.len(), 2 * SENDS_MAX);
}
