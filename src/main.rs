//! The command `cepa`: reads its arguments, runs one subcommand, and exits.
//!
//! By the name `tor`, or as `cepa tor`, it reads its arguments as `tor` does.
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
    let args = cepa::args::Args::parse();
    match cepa::commands::run(args) {
        Ok(code) => code,
        Err(error) => {
            for one in error.each() {
                cepa::terminal::complain(&format!("error: {one}"));
            }
            ExitCode::FAILURE
        }
    }
}
