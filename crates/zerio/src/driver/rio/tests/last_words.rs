//! Last words for who becomes no session's, where Windows has no way to say them, or no time.
#![forbid(unsafe_code)]

use std::io::Read;

use super::*;

/// What somebody hears who is refused: all until his end, or until he is reset.
fn heard_by_the_refused(rig: &mut Rig) -> Vec<u8> {
    let (mut peer, own) = pair();
    rig.driver.refuse(own, b"full");
    for _ in 0..3 {
        rig.turn(Duration::from_millis(1));
    }
    assert!(rig.done.is_empty(), "it is no session's");
    peer.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut heard = Vec::new();
    match peer.read_to_end(&mut heard) {
        Err(error) if error.kind() != ErrorKind::ConnectionReset => panic!("{error}"),
        _ => heard,
    }
}

#[test]
fn who_can_not_be_told_is_closed_all_the_same_and_the_next_one_is_told() {
    for refusing in
        [Refusing { requests: true, ..Refusing::NOTHING }, Refusing { next_send: true, ..Refusing::NOTHING }]
    {
        let mut rig = Rig::new();
        for _ in 0..2 * refusals::PLACES {
            rig.refuse(refusing);
            assert_eq!(heard_by_the_refused(&mut rig), b"", "{refusing:?}");
        }
        rig.refuse(Refusing::NOTHING);
        assert_eq!(heard_by_the_refused(&mut rig), b"full", "{refusing:?}");
    }
}

#[test]
fn a_driver_that_is_dropped_waits_for_the_last_words_that_it_has_begun() {
    let mut rig = Rig::new();
    let (mut peer, own) = pair();
    rig.driver.refuse(own, b"full");
    let Rig { driver, region, spans, .. } = rig;
    drop((driver, spans));
    assert_eq!(Arc::strong_count(&region), 1, "the kernel has nothing of it any more");
    peer.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut heard = Vec::new();
    let end = peer.read_to_end(&mut heard);
    assert!(end.is_ok() || end.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset));
}
