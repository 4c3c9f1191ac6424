//! `zerio completions` and `zerio man`: what shells and `man` know of the tool, from the definitions in `args`.
#![forbid(unsafe_code)]

use std::fs::create_dir_all;
use std::io::{Write, stdout};

use clap::CommandFactory;

use crate::args::{self, Args};
use crate::failure::Failure;

pub(crate) fn completions(args: &args::Completions) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Args::command(), "zerio", &mut script);
    stdout().write_all(&script).map_err(Failure::output)
}

pub(crate) fn man(args: &args::Man) -> Result<(), Failure> {
    let Some(directory) = &args.directory else {
        let mut page = Vec::new();
        clap_mangen::Man::new(Args::command()).render(&mut page)?;
        return stdout().write_all(&page).map_err(Failure::output);
    };
    let written =
        create_dir_all(directory).and_then(|()| clap_mangen::generate_to(Args::command(), directory));
    written.map_err(|why| Failure::writing(format_args!("write to {}", directory.display()), &why))
}
