//! The command `cepa`: reads its arguments, runs one subcommand, and exits.
//!
//! By the name `tor`, or as `cepa tor`, it reads its arguments as `tor` does; by the name
//! `tor-gencert` as the program that makes the keys of authorities.
//!
//! Exit codes: 0 when it did what was asked, 1 for an error of the user's (a line that starts
//! with `error:` says what, where, and what to do), 2 for arguments that are not understood
//! (clap's own), 101 for a bug.

use std::process::ExitCode;

use clap::Parser as _;

/// glibc's allocator keeps most of what a flood of circuits made a relay hold, as their pieces lie
/// between those of others: 200 of 240 MiB in `tests/hostile`. This one gives it back, and is no
/// slower; mimalloc, which does so too, cost a tenth of the throughput, as it hands out a buffer
/// of a TLS record again only when others have pushed it out of the processor's cache.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    cepa::listen::take_given();
    if let Some((program, words)) = cepa::commands::tor::words(std::env::args_os()) {
        return cepa::commands::tor::run(&program, &words);
    }
    let program = std::env::args_os().next();
    let done = if cepa::commands::tor_gencert::is_meant(program.as_deref()) {
        let args = cepa::commands::tor_gencert::GencertArgs::parse();
        cepa::commands::tor_gencert::run(&args).map(|()| ExitCode::SUCCESS)
    } else {
        cepa::commands::run(cepa::args::Args::parse())
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            for one in error.each() {
                cepa::terminal::complain(&format!("error: {one}"));
            }
            ExitCode::FAILURE
        }
    }
}
