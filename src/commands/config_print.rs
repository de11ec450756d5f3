//! `cepa config`: a torrc as a configuration of ours, and the other way round.

use cepa_torrc::arguments::Arguments;
use cepa_torrc::translate::Role;
use toml::Table;

use crate::args::ConfigArgs;
use crate::config::source::Source;
use crate::error::{Failure, fail};
use crate::terminal;
use crate::torrc::Torrc;
use crate::torrc::ours::torrc;

/// Prints it.
pub(super) fn run(args: &ConfigArgs) -> Result<(), Failure> {
    match args.file.extension() == Some("toml".as_ref()) {
        true => {
            let table: Table = Source::open(&args.file)?.parse()?;
            terminal::write(&torrc(&table));
            Ok(())
        }
        false => print_ours(args),
    }
}

fn print_ours(args: &ConfigArgs) -> Result<(), Failure> {
    let shown = args.file.display().to_string();
    let arguments = Arguments {
        torrc: Some(shown.clone()),
        // What is set elsewhere on this machine is no part of the file.
        defaults: Some("/dev/null".to_owned()),
        ..Arguments::default()
    };
    let wrong = |problem: &dyn std::fmt::Display| Failure::new("wrong torrc", &shown, problem);
    let torrc = Torrc::new(arguments).map_err(|problem| wrong(&problem))?;
    let read = torrc.read().map_err(|all| {
        let all = all.iter().map(|problem| wrong(problem));
        Failure::several(all).unwrap_or_else(|| wrong(&"nothing could be read"))
    })?;
    read.configured()?;
    let role = match read.translated.role {
        Role::Client => "cepa client",
        Role::Relay => "cepa relay",
        Role::Authority => "cepa authority",
    };
    let mut text = format!("# {shown}, for {role} --config FILE\n");
    for (_, note) in read.notes() {
        text += &format!("# {note}\n");
    }
    if !read.translated.process.has_network {
        text += "# It names no authorities: give the file of the network.\n";
        text += "network = \"network.toml\"\n";
    }
    text += &read.translated.document.text();
    if let Some(client) = &read.translated.client {
        text += "\n# The client in its process, for cepa client --config FILE:\n";
        for line in client.text().lines() {
            text += format!("# {line}").trim_end();
            text += "\n";
        }
    }
    terminal::write(&text);
    if read.translated.document.is_empty() {
        return fail("nothing is in it", shown, "give another file");
    }
    Ok(())
}
