//! Which drivers this machine has, and which it does without.
#![forbid(unsafe_code)]

use std::sync::OnceLock;

use zerio::{Config, DriverKind, Error, Server};

use super::skip::skipped;

/// Whether a driver is here; says what is skipped for want of it, and fails where `ZERIO_REQUIRE` names it.
#[track_caller]
pub fn is_here(driver: DriverKind) -> bool {
    let why = missing(driver);
    if let Some(why) = why {
        skipped(&driver.to_string(), format!("the {driver} driver can't be had here: {why}"));
    }
    why.is_none()
}

/// Why this machine does not have a driver, if it does not.
fn missing(driver: DriverKind) -> Option<&'static str> {
    static URING: OnceLock<Option<String>> = OnceLock::new();
    static RIO: OnceLock<Option<String>> = OnceLock::new();
    let why = match driver {
        DriverKind::Uring => &URING,
        DriverKind::Rio => &RIO,
        _ => return None,
    };
    let probe = || {
        let mut config = Config::default();
        config.driver = driver;
        config.sessions_max = 1;
        match Server::bind("127.0.0.1:0").expect("a port").config(config).start_polled() {
            Ok(_) => None,
            // Of Registered I/O only the table of functions may be missing. What fails with it is a fault.
            Err(Error::Driver { driver: "rio", why })
                if cfg!(windows) && !why.starts_with("WSAEOPNOTSUPP") =>
            {
                panic!("the rio driver: {why}")
            }
            Err(error @ Error::Driver { .. }) => Some(error.to_string()),
            Err(error) => panic!("neither a driver nor its refusal: {error}"),
        }
    };
    why.get_or_init(probe).as_deref()
}
