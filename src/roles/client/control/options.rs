//! Another configuration of a client, by the way of a reload (control-spec 3.1, 3.2, 3.20).

use super::super::Runner;
use crate::config::source::Source;
use crate::config::{self, ClientConfig};
use crate::control::Changed;
use crate::error::Failure;
use crate::roles::own_relay::Order;

/// Has another configuration take effect, or leaves all as it was.
pub(super) fn put(runner: &mut Runner, changed: &Changed) -> Result<(), Failure> {
    let is_new_log = runner.written.table().get("log") != changed.table.get("log");
    let source = Source::changed(&runner.written, &changed.table);
    let read = config::client::read(&source)?;
    let relay = match (&changed.relay, &runner.relay) {
        (Some(table), Some(relay)) => Some((relay.changed(table)?, relay.place()?)),
        _ => None,
    };
    let log = match is_new_log {
        true => read.log.clone(),
        // It may have been given as an argument.
        false => runner.given.config.log.clone(),
    };
    // What is of both is the relay's to change.
    let control = runner.given.config.control.clone();
    runner.apply(&ClientConfig {
        log,
        control,
        ..read
    })?;
    if let Some((config, place)) = relay {
        place.send(Order::Put(Box::new(config)));
    }
    Ok(())
}

/// Server descriptors are fetched where an option of `tor`'s asks for what ours needs not.
pub(in crate::roles::client) fn fetch_descriptors(runner: &Runner) {
    let asked = [
        ("UseMicrodescriptors", "0"),
        ("FetchUselessDescriptors", "1"),
    ];
    if asked
        .iter()
        .any(|(name, value)| runner.conf.is_set_to(name, value))
    {
        runner.worker.with(cepa_client::Client::want_descriptors);
    }
}
