//! Writes what a package has beside the command, from its arguments: a man page for each
//! subcommand, and completions for shells.
//!
//! `cargo run --example pages -- FOLDER`

use std::path::PathBuf;

use cepa::args::Args;
use clap::{CommandFactory as _, ValueEnum as _};

fn main() -> std::io::Result<()> {
    let folder: PathBuf = std::env::args_os().nth(1).unwrap_or("pages".into()).into();
    let (man, completions) = (folder.join("man"), folder.join("completions"));
    std::fs::create_dir_all(&man)?;
    std::fs::create_dir_all(&completions)?;
    clap_mangen::generate_to(Args::command(), &man)?;
    for shell in clap_complete::Shell::value_variants() {
        clap_complete::generate_to(*shell, &mut Args::command(), "cepa", &completions)?;
    }
    Ok(())
}
