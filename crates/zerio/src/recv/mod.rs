//! Receive path: driver → buffer → framer → handler. Bytes stay where the kernel put them; a handler sees
//! them there.
#![forbid(unsafe_code)]

pub(crate) mod buffer;
pub(crate) mod framer;
#[cfg(feature = "tls")]
pub(crate) mod sealed;

#[cfg(test)]
mod tests;
