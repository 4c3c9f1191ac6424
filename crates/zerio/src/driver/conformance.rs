//! One suite for every driver: the contract in `driver/mod.rs`, clause by clause. What a test needs of the
//! other side, `network` does on the network that the driver is on.
#![forbid(unsafe_code)]

use super::poll::Poll;
use super::rio::Rio;
use super::rio::model::{Model, with_seed};
#[cfg(windows)]
use super::rio::windows::Windows;
use super::sim::Sim;
#[cfg(target_os = "linux")]
use super::uring::Uring;

mod begin;
mod end;
mod network;
mod rig;
mod traffic;
mod waiting;

use begin::*;
use end::*;
#[cfg(any(target_os = "linux", windows))]
use rig::is_allowed;
use traffic::*;
use waiting::*;

/// So many seeds each test has on the model of Windows' functions. The model takes no liberties there that a
/// test could tell from a fault: its receives are as long as they can be.
const SEEDS: u64 = 6;

/// Runs each test for each driver that this machine allows.
macro_rules! conformance {
    ($($name:ident,)*) => {
        mod poll {
            $(#[test]
            fn $name() {
                super::$name::<super::Poll>();
            })*
        }

        mod rio_model {
            $(#[test]
            fn $name() {
                for seed in 0..super::SEEDS {
                    super::with_seed(seed, true, super::$name::<super::Rio<super::Model>>);
                }
            })*
        }

        #[cfg(windows)]
        mod rio {
            $(#[test]
            fn $name() {
                if super::is_allowed::<super::Rio<super::Windows>>() {
                    super::$name::<super::Rio<super::Windows>>();
                }
            })*
        }

        mod sim {
            $(#[test]
            fn $name() {
                super::$name::<super::Sim>();
            })*
        }

        #[cfg(target_os = "linux")]
        mod uring {
            $(#[test]
            fn $name() {
                if super::is_allowed::<super::Uring>() {
                    super::$name::<super::Uring>();
                }
            })*
        }
    };
}

conformance! {
    each_accept_brings_one_connection,
    an_accepted_connection_has_its_address_and_does_not_block,
    who_stops_listening_refuses_new_connections,
    a_pending_accept_is_forgotten_when_listening_stops,
    a_connection_is_made,
    what_a_connection_is_asked_for_before_it_stands_waits_for_it,
    what_a_refused_connection_was_asked_for_comes_back,
    a_connection_is_refused,
    a_connection_is_closed_while_it_is_made,
    a_connection_never_handed_to_the_kernel_is_closed,
    a_receive_brings_bytes_then_the_peers_end,
    a_receive_brings_no_more_than_its_span_holds,
    a_receive_that_stops_at_an_urgent_byte_leaves_nothing_behind,
    a_receive_fails_on_a_reset,
    a_receive_asked_for_before_or_after_the_bytes_came_brings_them,
    many_receives_asked_for_before_or_after_the_bytes_came_bring_them,
    turns_that_wait_and_turns_that_do_not_take_turns,
    a_send_is_whole,
    a_send_that_meets_a_full_socket_goes_on_where_it_stopped,
    a_send_to_a_peer_that_is_gone_fails,
    direct_and_driver_sends_keep_their_order,
    a_shut_down_gives_the_peer_an_end_and_goes_on_receiving,
    closing_with_nothing_in_flight_only_closes,
    closing_gives_back_a_receive_and_a_blocked_send_once_each,
    closing_gives_back_what_was_never_handed_over,
    a_reused_slot_hears_nothing_of_its_predecessor,
    a_wait_is_a_bound,
    who_connects_between_turns_that_are_far_apart_waits_for_few_of_them,
    a_wait_ends_early_for_bytes,
    a_wait_ends_at_once_for_what_came_before_it,
    a_wait_ends_early_for_a_wake_up_from_another_thread,
    a_wake_up_before_the_wait_ends_it,
    a_waker_outlives_its_driver,
    sixty_four_sessions_at_once,
    a_driver_with_requests_in_flight_can_be_dropped,
    drivers_leave_no_descriptor_behind,
}
