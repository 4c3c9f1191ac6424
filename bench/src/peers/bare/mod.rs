//! The control: sockets and nothing in between. Frames are zerio's, TCP_NODELAY is set, and there is no ring, no
//! session and no event.
#![forbid(unsafe_code)]

mod crowd;
mod epoll;
mod fan;
mod framed;
mod single;

pub(crate) use crowd::{all_arrived, at};

use crate::failure::Failure;
use crate::job::{Job, Outcome, Task};
use crate::script::Sink;

pub(crate) fn serve(job: &Job) -> Result<(), Failure> {
    match job.task {
        Task::RoundTrip | Task::Paced | Task::Stream => single::serve(job),
        Task::Crowd | Task::Hold => epoll::serve(crate::wire::put),
        Task::Connect => {
            let mut sink = Sink::new(job);
            epoll::serve(move |message, out| {
                if let Some(answer) = sink.take(message) {
                    crate::wire::put(&answer, out);
                }
            })
        }
        Task::Fan => fan::serve(job),
    }
}

pub(crate) fn play(job: &Job) -> Result<Outcome, Failure> {
    match job.task {
        Task::RoundTrip => single::round_trip(job),
        Task::Stream => single::stream(job),
        Task::Paced => single::paced(job),
        Task::Crowd => crowd::echoed(job),
        Task::Fan => fan::receive(job),
        Task::Connect => crowd::connect(job),
        Task::Hold => crowd::hold(job),
    }
}
