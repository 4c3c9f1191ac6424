//! Sends that can't be.
#![forbid(unsafe_code)]

use zerio::{Client, SendError};

use crate::hostile::{RawPeer, config, undisturbed};

const MAX: usize = 1000;

#[test]
fn a_message_too_large_is_an_error_and_nothing_of_it_is_sent() {
    undisturbed(
        |c| c.message_max = MAX,
        |scene| {
            let mut peer = RawPeer::welcome(scene.address, "peer");
            let large = vec![1; MAX + 1];
            let too_large = Err(SendError::TooLarge { len: MAX + 1, max: MAX });
            let handle = scene.server.peer("peer").unwrap();
            assert_eq!(scene.server.send("peer", &large), too_large);
            assert_eq!(scene.server.try_send("peer", &large), too_large);
            assert_eq!(scene.server.claim("peer", MAX + 1).map(drop), too_large);
            assert_eq!(handle.send(&large), too_large);
            assert_eq!(handle.try_send(&large), too_large);
            assert_eq!(
                handle.try_claim(usize::MAX).map(drop),
                Err(SendError::TooLarge { len: usize::MAX, max: MAX })
            );
            // The next thing that the peer hears is what was sent after them.
            scene.server.send("peer", &large[1..]).unwrap();
            assert_eq!(peer.hear(), &large[1..], "just inside");
        },
    );
}

#[test]
fn a_client_says_too_large_by_its_own_limit() {
    undisturbed(
        |_| {},
        |scene| {
            let (sender, echo) = std::sync::mpsc::channel();
            let client = Client::connect(scene.address, "client")
                .unwrap()
                .config(config(|c| (c.message_max, c.driver) = (MAX, scene.driver)))
                .on_message(move |context, message| {
                    let large = context.send(&[0; MAX + 1]);
                    sender.send((message.len(), large)).unwrap();
                })
                .start()
                .unwrap();
            let too_large = Err(SendError::TooLarge { len: MAX + 1, max: MAX });
            assert_eq!(client.send(&[0; MAX + 1]), too_large);
            client.send(&[0; MAX]).unwrap();
            let heard = echo.recv_timeout(crate::hostile::PATIENCE).unwrap();
            assert_eq!(heard, (MAX, too_large), "inside a handler as well");
        },
    );
}

#[test]
fn a_send_to_somebody_who_never_came_says_unknown_peer() {
    undisturbed(
        |_| {},
        |scene| {
            for id in ["nobody", "", "goo", "good\0"] {
                assert_eq!(scene.server.send(id, b"x"), Err(SendError::UnknownPeer));
                assert_eq!(scene.server.try_send(id, b"x"), Err(SendError::UnknownPeer));
                assert_eq!(scene.server.claim(id, 1).map(drop), Err(SendError::UnknownPeer));
                assert_eq!(scene.server.peer(id).map(drop), Err(SendError::UnknownPeer));
                assert_eq!(scene.server.disconnect(id), Err(SendError::UnknownPeer));
            }
        },
    );
}

#[test]
fn a_send_to_somebody_who_has_left_says_so_also_when_the_same_id_has_come_again() {
    undisturbed(
        |_| {},
        |scene| {
            let peer = RawPeer::welcome(scene.address, "guest");
            let handle = scene.server.peer("guest").unwrap();
            drop(peer);
            scene.events.end_of("guest");
            assert_eq!(scene.server.send("guest", b"x"), Err(SendError::UnknownPeer));
            assert_eq!(handle.send(b"x"), Err(SendError::Closed));

            let mut again = RawPeer::welcome(scene.address, "guest");
            assert_eq!(handle.send(b"for the first"), Err(SendError::Closed));
            assert_eq!(handle.try_claim(1).map(drop), Err(SendError::Closed));
            assert_eq!(handle.disconnect(), Err(SendError::Closed));
            assert_eq!(handle.pause(), Err(SendError::Closed));
            scene.server.send("guest", b"for the second").unwrap();
            assert_eq!(again.hear(), b"for the second");
        },
    );
}
