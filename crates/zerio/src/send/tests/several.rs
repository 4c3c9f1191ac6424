//! A driver that takes several sends at a time, and completes them in their order.
#![forbid(unsafe_code)]

use proptest::prelude::*;

use super::*;

const SENDS: u8 = 3;

/// A path whose driver takes several.
struct Line {
    path: SendPath,
    bell: Arc<Doorbell>,
    driver: Fake<SENDS>,
    wakes: Arc<Tally>,
}

impl Line {
    fn new() -> Line {
        Line::over(World::new())
    }

    fn over(world: World) -> Line {
        let World { path, bell, driver, wakes } = world;
        path.connect(None, SENDS);
        Line { path, bell, driver: Fake::new(driver.region, 1).unwrap(), wakes }
    }

    fn send(&self, message: &[u8]) {
        self.path.try_send(ID.generation, message).unwrap();
    }

    fn pump(&mut self) -> Result<(), ErrorKind> {
        self.bell.take(0);
        self.path.pump(ID, &mut self.driver, false)
    }

    fn in_flight(&self) -> usize {
        usize::from(self.driver.in_flight.is_some()) + self.driver.behind.len()
    }

    /// The first completes.
    fn complete(&mut self, outcome: impl FnOnce(usize) -> io::Result<usize>) -> Result<(), ErrorKind> {
        let span = self.driver.in_flight.take().expect("a send in flight");
        self.driver.in_flight = self.driver.behind.pop_front();
        let len = span.len();
        self.path.sent_of_several(span, outcome(len))
    }

    fn left(&self) -> (u64, u64) {
        let left = self.path.left();
        (left.messages, left.bytes)
    }
}

#[test]
fn so_many_sends_are_in_flight_and_what_comes_then_goes_together_in_the_next() {
    let mut line = Line::new();
    line.path.greet(b"me");
    for message in [b"a", b"b", b"c", b"d"] {
        line.pump().unwrap();
        line.send(message);
    }
    line.pump().unwrap();
    assert_eq!(line.driver.requests, [frames(&[b"me"]), frames(&[b"a"]), frames(&[b"b"])]);
    assert!(!line.path.is_drained());
    line.complete(Ok).unwrap();
    assert_eq!(line.bell.count(), 1, "it goes on");
    line.pump().unwrap();
    assert_eq!(line.driver.requests[3..], [frames(&[b"c", b"d"])]);
    for _ in 0..SENDS {
        assert!(!line.path.is_drained());
        line.complete(Ok).unwrap();
    }
    assert!(line.path.is_drained());
    assert_eq!(line.left(), (0, 0));
    let counters = line.path.counters();
    assert_eq!((counters.batches_sent, counters.short_sends), (4, 0));
}

#[test]
fn a_sender_wakes_an_engine_whose_driver_takes_another_and_no_other() {
    let mut line = Line::new();
    for sends in 1..=u64::from(SENDS) {
        assert!(line.bell.fall_asleep());
        line.send(b"wake up");
        assert_eq!(line.wakes.get(), sends);
        line.pump().unwrap();
    }
    assert!(line.bell.fall_asleep());
    // The completion of one wakes it; it is told who sends all the same.
    for _ in 1..DIRECT_SENDS {
        line.send(b"sleep on");
        assert_eq!(line.wakes.get(), u64::from(SENDS));
    }
}

#[test]
fn what_is_behind_a_short_send_does_not_count_and_ends_the_path() {
    for (first, left) in [(3, (4, 21)), (0, (4, 24))] {
        let mut line = Line::new();
        for message in [b"01", b"02", b"03"] {
            line.send(message);
            line.pump().unwrap();
        }
        line.send(b"04");
        assert_eq!(line.complete(|_| Ok(first)), Err(BROKEN));
        assert_eq!(line.pump(), Err(BROKEN));
        // They are whole, or fail: it is all the same.
        assert_eq!(line.complete(Ok), Err(BROKEN));
        assert_eq!(line.complete(|_| Err(ErrorKind::ConnectionReset.into())), Err(BROKEN));
        assert_eq!(line.driver.requests.len(), 3);
        line.path.close();
        assert_eq!(line.left(), left);
    }
}

#[test]
fn a_short_send_with_nothing_behind_it_goes_on() {
    let mut line = Line::new();
    line.send(b"message");
    line.pump().unwrap();
    line.complete(|_| Ok(5)).unwrap();
    line.pump().unwrap();
    assert_eq!(line.driver.requests[1], frames(&[b"message"])[5..]);
    line.complete(Ok).unwrap();
    assert!(line.path.is_drained());
}

#[test]
fn of_sends_that_fail_those_before_count_as_sent() {
    let mut line = Line::new();
    for message in [b"01", b"02", b"03"] {
        line.send(message);
        line.pump().unwrap();
    }
    line.complete(Ok).unwrap();
    let reset = |_| Err(ErrorKind::ConnectionReset.into());
    assert_eq!(line.complete(reset), Err(ErrorKind::ConnectionReset));
    assert_eq!(line.complete(reset), Err(ErrorKind::ConnectionReset));
    line.path.close();
    assert_eq!(line.left(), (2, 12));
    // The slot's next session begins anew.
    line.path.open(1);
    line.path.connect(None, SENDS);
    line.send(b"next");
    line.pump().unwrap();
    line.complete(Ok).unwrap();
    assert_eq!(line.left(), (0, 0));
}

#[test]
#[should_panic(expected = "in their order")]
fn a_driver_that_gives_sends_back_in_another_order_is_found_out() {
    let mut line = Line::new();
    for message in [b"01", b"02"] {
        line.send(message);
        line.pump().unwrap();
    }
    let second = line.driver.behind.pop_front().unwrap();
    let _ = line.path.sent_of_several(second, Ok(6));
}

proptest! {
    /// Over many laps of the ring: what the kernel took and what is left is all that was accepted, in order.
    #[test]
    fn whatever_is_in_flight_comes_out_whole_once_and_in_order(
        steps in proptest::collection::vec((0..4u8, 0..MESSAGE_MAX), 1..400),
        last in 0..2000usize,
    ) {
        let mut line = Line::new();
        let (mut accepted, mut taken, mut sizes) = (Vec::new(), 0, VecDeque::new());
        for (number, (step, len)) in steps.into_iter().enumerate() {
            match step {
                0 | 1 => {
                    let message = vec![number as u8; len];
                    match line.path.try_send(ID.generation, &message) {
                        Ok(()) => {
                            accepted.extend(frames(&[&message]));
                            sizes.push_back(accepted.len());
                        }
                        Err(error) => prop_assert_eq!(error, SendError::Full),
                    }
                }
                2 => line.pump().unwrap(),
                _ if line.in_flight() > 0 => {
                    line.complete(|len| {
                        taken += len;
                        Ok(len)
                    }).unwrap();
                }
                _ => {}
            }
            prop_assert!(line.in_flight() <= usize::from(SENDS));
        }
        // The end comes amid what is in flight: the first may be short, and nothing behind it counts.
        let mut ends = false;
        while line.in_flight() > 0 {
            let _ = line.complete(|len| {
                let bytes = len.min(last);
                taken += if ends { 0 } else { bytes };
                ends |= bytes < len;
                Ok(bytes)
            });
        }
        let requests = line.driver.requests.concat();
        prop_assert_eq!(&requests, &accepted[..requests.len()]);
        line.path.close();
        let messages = sizes.iter().filter(|&&end| end > taken).count() as u64;
        prop_assert_eq!(line.left(), (messages, (accepted.len() - taken) as u64));
    }
}
