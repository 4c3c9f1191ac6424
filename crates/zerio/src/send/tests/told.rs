//! Whether those who wait for a ring's holder are told when it lets go.
#![forbid(unsafe_code)]

use super::*;

/// Nobody who waits sleeps for longer without looking again, so a wake-up that is lost shows as a sleep
/// of this length.
const UNTOLD: Duration = Duration::from_millis(50);

/// How long a claim that waits for the ring's holder sleeps, when the holder does this.
fn sleeps_until(world: &World, holder_does: impl FnOnce(u64)) -> Duration {
    let Hold::Held(committed) = world.path.ring.hold() else { panic!("nobody else holds it") };
    let sleeps = Flag::default();
    let mut slept = Duration::ZERO;
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            let mut asleep_since = None;
            // It is asked each time before it sleeps: the second time is after the first sleep.
            let left = || match asleep_since {
                None => {
                    asleep_since = Some(Instant::now());
                    sleeps.set(true);
                    Some(PATIENCE)
                }
                Some(since) => {
                    slept = since.elapsed();
                    None
                }
            };
            assert_eq!(world.path.claim(1, LEN, left).unwrap_err(), SendError::TimedOut);
        });
        wait_for(|| sleeps.get());
        holder_does(committed);
        waiter.join().unwrap();
    });
    slept
}

#[test]
fn a_sender_that_found_the_ring_full_let_go_of_it_and_told_nobody() {
    let mut world = World::new();
    world.fill();
    // A busy machine can make any one sleep long; untold, none is short.
    wait_for(|| {
        let slept = sleeps_until(&world, |committed| {
            let place = world.path.place_or_let_go(1, committed, LEN);
            assert_eq!(place, Err(SendError::Full));
        });
        slept < UNTOLD
    });
}

#[test]
fn a_sender_that_came_too_late_let_go_of_the_ring_and_told_nobody() {
    let mut world = World::new();
    world.fill();
    wait_for(|| {
        let slept = sleeps_until(&world, |committed| {
            let place = world.path.place_or_let_go(7, committed, LEN);
            assert_eq!(place, Err(SendError::Closed));
        });
        slept < UNTOLD
    });
}
