use crate::failure::Failure;
use crate::job::{Job, Outcome};
pub(crate) fn serve(_: &Job) -> Result<(), Failure> {
    Err(Failure::new("to come"))
}
pub(crate) fn play(_: &Job) -> Result<Outcome, Failure> {
    Err(Failure::new("to come"))
}
