//! Bad input, and what it gets: a typed reason or refusal, counted, and nobody else notices. Each scene has
//! a good client that streams through it and loses nothing.
#![forbid(unsafe_code)]

#[path = "../hostile/mod.rs"]
mod hostile;

#[path = "../common/addresses.rs"]
mod common_addresses;

mod addresses;
mod ends;
mod frames;
mod ids;
mod panics;
mod places;
mod sends;
mod servers;
