//! x
use crate::failure::Failure;
pub(crate) fn run(_: &crate::args::Serve) -> Result<(), Failure> {
    Ok(())
}
