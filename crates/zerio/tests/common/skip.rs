//! What a test says that can't run here, and where it may not say so.
#![forbid(unsafe_code)]

use std::fmt::Display;

/// What must be there: names with commas between them.
const REQUIRED: &str = "ZERIO_REQUIRE";

/// Says that a test, or a part of it, is skipped for want of something; fails where `ZERIO_REQUIRE` names that.
#[track_caller]
pub fn skipped(want: &str, why: impl Display) {
    let required = std::env::var(REQUIRED).unwrap_or_default();
    assert!(!required.split(',').any(|name| name == want), "{REQUIRED} names {want}: {why}");
    eprintln!("SKIPPED: {why}");
}
