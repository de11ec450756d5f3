//! What controllers say, and what every role answers the same.

use cepa_control::command::Setting;
use cepa_control::{Command as Order, Event, Refusal, Reply, Signal};
use cepa_torrc::settings::Empty;
use tokio::sync::mpsc;

use super::driven::{Driven, Goes};
use super::{Answers, Changed, ConfError, ConnectionId, Said, desk, info};
use crate::logs;

/// What begins the refusal of a text that is no configuration.
const NOT_LOADED: &str = "Failed to parse/validate config: ";

/// What a role hears beside its own events.
pub(crate) enum Heard {
    /// A controller says something.
    Said(Said),
    /// The log has lines that controllers want.
    Lines(Vec<(tracing::Level, String)>),
}

/// What is heard next; nothing where there are no controllers. The lines of the log are for whoever
/// has them: a second role of the process would take them from the first. Cancel-safe.
pub(crate) async fn heard(queue: &mut Option<mpsc::Receiver<Said>>) -> Heard {
    if queue.is_none() {
        return std::future::pending().await;
    }
    tokio::select! {
        Some(said) = next(queue.as_mut()) => Heard::Said(said),
        lines = logs::ear::heard() => Heard::Lines(lines),
    }
}

/// What comes next out of a queue; nothing ever where there is none. Cancel-safe.
pub(crate) async fn next<T>(queue: Option<&mut mpsc::Receiver<T>>) -> Option<T> {
    match queue {
        Some(queue) => queue.recv().await,
        None => std::future::pending().await,
    }
}

/// Hears a controller.
pub(crate) fn hear<R: Driven>(role: &mut R, heard: Heard) -> Goes {
    let said = match heard {
        Heard::Said(said) => said,
        Heard::Lines(lines) => {
            role.desk_mut().tell_log(lines);
            return Goes::On;
        }
    };
    match said {
        Said::Opened(id, outbox) => {
            role.desk_mut().welcome(id, outbox);
            Goes::On
        }
        Said::Command(id, order, answers, done) => {
            let (reply, goes) = match reply(role, id, &order, answers) {
                Ok((reply, goes)) => (reply, goes),
                Err(refusal) => (refusal.into(), Goes::On),
            };
            role.desk().answer(id, reply.encode());
            let _ = done.send(());
            if let Order::Signal(signal) = *order
                && R::SIGNALS.contains(&signal)
                && goes != Goes::Away
            {
                role.desk_mut().tell(&Event::Signal(signal));
            }
            goes
        }
        Said::Closed(id) => {
            let was_owner = role.desk_mut().dismiss(id);
            role.part_with(id);
            listen(role);
            if was_owner {
                tracing::info!("Stopping: the controller that owns this process is gone");
                return Goes::Away;
            }
            Goes::On
        }
    }
}

/// Sees to it that what is wanted is told.
fn listen<R: Driven>(role: &mut R) {
    let wanted = role.desk().wanted();
    logs::hear(desk::log_level(&wanted));
    role.wanted(&wanted);
}

/// The reply to a command, and whether the process goes on.
fn reply<R: Driven>(
    role: &mut R,
    id: ConnectionId,
    order: &Order,
    answers: Answers,
) -> Result<(Reply, Goes), Refusal> {
    let reply = match order {
        Order::GetInfo(keys) => info::reply(role, id, keys, &answers),
        Order::GetConf(keys) => role.conf().values_of(keys),
        Order::SetConf(settings) => set_conf(role, settings, Empty::Nought)?,
        Order::ResetConf(settings) => set_conf(role, settings, Empty::Default)?,
        Order::LoadConf(text) => load_conf(role, text)?,
        Order::SaveConf(is_forced) => {
            role.conf().save(*is_forced).map_err(Refusal::Unable)?;
            Reply::ok()
        }
        Order::SetEvents(events) => {
            role.desk_mut().set_events(id, events);
            listen(role);
            Reply::ok()
        }
        Order::Signal(signal) => return signalled(role, *signal),
        Order::TakeOwnership | Order::DropOwnership => {
            let is_owner = matches!(order, Order::TakeOwnership);
            role.desk_mut().set_owner(id, is_owner);
            Reply::ok()
        }
        // Both are always on.
        Order::UseFeature(_) => Reply::ok(),
        other => role.obey(id, other)?,
    };
    Ok((reply, Goes::On))
}

/// The reply to SIGNAL.
fn signalled<R: Driven>(role: &mut R, signal: Signal) -> Result<(Reply, Goes), Refusal> {
    if !R::SIGNALS.contains(&signal) {
        return Err(Refusal::Signal(signal.name().to_owned()));
    }
    let goes = match signal.canonical() {
        Signal::Shutdown | Signal::Halt => {
            tracing::info!("Stopping: a controller wants it");
            Goes::Away
        }
        Signal::Reload => Goes::Reload,
        other => {
            role.signal(other);
            Goes::On
        }
    };
    Ok((Reply::ok(), goes))
}

/// The reply to SETCONF and RESETCONF: all of it takes effect, or nothing.
fn set_conf<R: Driven>(role: &mut R, settings: &[Setting], empty: Empty) -> Result<Reply, Refusal> {
    let pairs = settings.iter();
    let pairs: Vec<_> = pairs
        .map(|one| (one.key.clone(), one.value.clone()))
        .collect();
    let changed = role.changed(&pairs, empty);
    let put = changed.and_then(|changed| take(role, changed));
    put.map_err(|error| match error {
        ConfError::Unknown(name) => Refusal::Option(name),
        ConfError::Value(why) => Refusal::OptionValue(why),
        ConfError::Fixed(option) => Refusal::Transition(fixed(option)),
    })?;
    Ok(Reply::ok())
}

/// The reply to +LOADCONF.
fn load_conf<R: Driven>(role: &mut R, text: &str) -> Result<Reply, Refusal> {
    if text.trim().is_empty() {
        let mistake = "Bad arguments to +LOADCONF: Empty body";
        return Err(Refusal::Syntax(mistake));
    }
    let changed = role.loaded(text);
    let put = changed.and_then(|changed| take(role, changed));
    put.map_err(|error| match error {
        ConfError::Unknown(why) => {
            Refusal::Unrecognized(format!("Invalid config file: {NOT_LOADED}{why}"))
        }
        ConfError::Value(why) => Refusal::OptionValue(format!("{NOT_LOADED}{why}")),
        ConfError::Fixed(option) => Refusal::Transition(format!("{NOT_LOADED}{}", fixed(option))),
    })?;
    Ok(Reply::ok())
}

/// Has another configuration take effect, and tells controllers what is new in it.
fn take<R: Driven>(role: &mut R, changed: Changed) -> Result<(), ConfError> {
    let put = role.put(&changed);
    put.map_err(|failure| ConfError::Value(failure.to_string()))?;
    let told = role.conf_mut().take(changed.settings);
    role.desk_mut().tell(&Event::ConfChanged(told));
    Ok(())
}

fn fixed(option: &str) -> String {
    format!("While Tor is running, changing {option} is not allowed")
}
