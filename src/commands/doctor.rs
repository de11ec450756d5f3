//! `cepa doctor`: prints what was found, for people or as JSON.

use crate::args::DoctorArgs;
use crate::doctor::{self, Finding, Level};
use crate::error::{Failure, fail};
use crate::runtime::runtime;
use crate::terminal;

/// Looks, prints, and fails if something will not work.
pub fn run(args: &DoctorArgs) -> Result<(), Failure> {
    let findings = runtime()?.block_on(doctor::examine(&args.config));
    if args.json {
        let text = serde_json::to_string_pretty(&findings);
        let text = text.map_err(|error| Failure::new("cannot be written", "JSON", error))?;
        terminal::say(&text);
    } else {
        findings.iter().for_each(|one| terminal::say(&line(one)));
    }
    let bad = findings.iter().filter(|one| one.level == Level::Bad);
    match bad.count() {
        0 => Ok(()),
        count => fail(
            format!("{count} of {} findings are bad", findings.len()),
            args.config.display(),
            "each has its remedy above",
        ),
    }
}

fn line(one: &Finding) -> String {
    let level = match one.level {
        Level::Ok => "ok  ",
        Level::Warn => "warn",
        Level::Bad => "BAD ",
    };
    let remedy = match one.remedy.as_str() {
        "" => String::new(),
        remedy => format!(" -> {remedy}"),
    };
    format!(
        "{level}  {}: {}: {}{remedy}",
        one.subject, one.place, one.found
    )
}
