//! The peers: each plays the same tasks, as a server and as a client. All but zmq speak zerio's wire, so that one
//! load can be put on all of their servers. The AEAD alone plays one task, and speaks to nobody.
#![forbid(unsafe_code)]

pub(crate) mod aead;
pub(crate) mod bare;
pub(crate) mod tokio;
pub(crate) mod zerio;
#[cfg(feature = "zmq")]
pub(crate) mod zmq;

use crate::failure::Failure;
use crate::job::{Job, Outcome, Peer};

/// Whether this build has a peer.
pub(crate) fn has(peer: Peer) -> bool {
    peer != Peer::Zmq || cfg!(feature = "zmq")
}

#[cfg(not(feature = "zmq"))]
fn missing() -> Failure {
    Failure::new("this build has no libzmq; build it with the feature `zmq`")
}

/// Under TLS who knows nothing of it would be measured without.
fn speaks(peer: Peer, job: &Job) -> Result<(), Failure> {
    match peer {
        Peer::Bare | Peer::Zmq | Peer::Aead if job.tls => {
            Err(Failure::new(format_args!("{peer} has no TLS here")))
        }
        _ => Ok(()),
    }
}

/// Serves until the process is ended, or until its clients have gone.
pub(crate) fn serve(job: &Job) -> Result<(), Failure> {
    speaks(job.peer, job)?;
    match job.peer {
        Peer::Bare => bare::serve(job),
        Peer::Zerio => zerio::serve(job),
        Peer::Tokio => tokio::serve(job),
        Peer::Aead => aead::serve(),
        #[cfg(feature = "zmq")]
        Peer::Zmq => zmq::serve(job),
        #[cfg(not(feature = "zmq"))]
        Peer::Zmq => Err(missing()),
    }
}

/// Plays the clients.
pub(crate) fn play(job: &Job) -> Result<Outcome, Failure> {
    speaks(job.load, job)?;
    match job.load {
        Peer::Bare => bare::play(job),
        Peer::Zerio => zerio::play(job),
        Peer::Tokio => tokio::play(job),
        Peer::Aead => aead::play(job),
        #[cfg(feature = "zmq")]
        Peer::Zmq => zmq::play(job),
        #[cfg(not(feature = "zmq"))]
        Peer::Zmq => Err(missing()),
    }
}
