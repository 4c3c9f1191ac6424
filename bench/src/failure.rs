//! Why a run or the whole program failed, in words for whoever started it.
#![forbid(unsafe_code)]

use std::fmt;

/// A sentence that says what failed, and what would do where that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure(String);

impl Failure {
    pub(crate) fn new(why: impl fmt::Display) -> Failure {
        Failure(why.to_string())
    }

    /// The same, with what was being done before it.
    pub(crate) fn at(self, what: impl fmt::Display) -> Failure {
        Failure(format!("{what}: {}", self.0))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

macro_rules! from {
    ($($error:ty),*) => { $(
        impl From<$error> for Failure {
            fn from(error: $error) -> Failure {
                Failure::new(error)
            }
        }
    )* };
}

from!(
    std::io::Error,
    zerio::Error,
    zerio::SendError,
    serde_json::Error,
    nix::errno::Errno,
    rcgen::Error,
    tokio_rustls::rustls::Error
);

#[cfg(feature = "zmq")]
from!(zmq::Error);

/// Adds what was being done to an error of any kind.
pub(crate) trait During<T> {
    fn during(self, what: impl fmt::Display) -> Result<T, Failure>;
}

impl<T, E: Into<Failure>> During<T> for Result<T, E> {
    fn during(self, what: impl fmt::Display) -> Result<T, Failure> {
        self.map_err(|error| error.into().at(what))
    }
}
