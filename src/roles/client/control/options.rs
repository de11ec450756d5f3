//! GETCONF, SETCONF and RESETCONF: options of `tor` of which a client can say how they stand.
//!
//! They stand as the configuration has them. Setting one to what it is already is done; another
//! value is refused, since it takes effect at a start only.

use cepa_control::command::Setting;
use cepa_control::text::config_value;
use cepa_control::{Refusal, Reply};

use super::Desk;

/// An option: its name, its type in `config/names`, and its values by the configuration.
type Known = (&'static str, &'static str, fn(&Desk) -> Vec<String>);

/// What is asked for under a name of its own: the lines of all onion services, in order.
const ONION_OPTIONS: &str = "HiddenServiceOptions";

static OPTIONS: [Known; 14] = [
    ("__DisablePredictedCircuits", "Boolean", |_| {
        vec!["0".into()]
    }),
    ("__LeaveStreamsUnattached", "Boolean", |_| vec!["0".into()]),
    ("__OwningControllerProcess", "String", |_| Vec::new()),
    ("ControlPort", "LineList", |desk| desk.listeners.clone()),
    ("CookieAuthentication", "Boolean", |desk| {
        let control = desk.config.control.as_ref();
        let has_cookie = control.is_some_and(|control| control.cookie.is_some());
        vec![u8::from(has_cookie).to_string()]
    }),
    ("DataDirectory", "Filename", |desk| {
        vec![desk.config.data_dir.display().to_string()]
    }),
    ("DisableNetwork", "Boolean", |_| vec!["0".into()]),
    ("DNSPort", "LineList", |desk| addresses(&desk.config.dns)),
    ("HiddenServiceNonAnonymousMode", "Boolean", |_| {
        vec!["0".into()]
    }),
    ("HiddenServiceSingleHopMode", "Boolean", |_| {
        vec!["0".into()]
    }),
    ("HTTPTunnelPort", "LineList", |desk| {
        addresses(&desk.config.http_connect)
    }),
    ("ORPort", "LineList", |_| Vec::new()),
    ("SocksPort", "LineList", |desk| {
        addresses(&desk.config.socks)
    }),
    ("UseMicrodescriptors", "Boolean", |_| vec!["1".into()]),
];

fn addresses(listeners: &[crate::config::Listener]) -> Vec<String> {
    listeners.iter().map(|one| one.addr.to_string()).collect()
}

fn find(name: &str) -> Option<&'static Known> {
    OPTIONS
        .iter()
        .find(|(known, ..)| known.eq_ignore_ascii_case(name))
}

/// The lines of `GETINFO config/names`.
pub(super) fn names() -> String {
    let line = |(name, kind, _): &Known| format!("{name} {kind}");
    OPTIONS.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// The lines of all onion services of the configuration.
fn onion_lines(desk: &Desk) -> Vec<(&'static str, String)> {
    let mut lines = Vec::new();
    for service in &desk.config.onion_services {
        lines.push(("HiddenServiceDir", service.dir.display().to_string()));
        for port in &service.ports {
            let text = port.to_string().replacen('=', " ", 1);
            lines.push(("HiddenServicePort", text));
        }
    }
    lines
}

/// The reply to GETCONF.
pub(super) fn told(desk: &Desk, keys: &[String]) -> Reply {
    let mut unknown = Vec::new();
    let mut lines: Vec<String> = Vec::new();
    for key in keys {
        let values: Vec<(&str, String)> = if key.eq_ignore_ascii_case(ONION_OPTIONS) {
            onion_lines(desk)
        } else if let Some((name, _, values)) = find(key) {
            values(desk)
                .into_iter()
                .map(|value| (*name, value))
                .collect()
        } else {
            unknown.push(Refusal::ConfigKey(key.clone()));
            continue;
        };
        if values.is_empty() {
            let name = find(key).map_or(ONION_OPTIONS, |(name, ..)| *name);
            lines.push(name.to_owned());
        }
        let line = |(name, value): &(&str, String)| format!("{name}={}", config_value(value));
        lines.extend(values.iter().map(line));
    }
    if let Some(refused) = Reply::refusals(&unknown) {
        return refused;
    }
    let reply = lines.into_iter();
    reply.fold(Reply::default(), |reply, line| reply.line(250, line))
}

/// Checks what SETCONF and RESETCONF ask for: all of it is so already, or nothing is done.
pub(super) fn set(desk: &Desk, settings: &[Setting]) -> Result<(), Refusal> {
    for setting in settings {
        let (name, _, values) =
            find(&setting.key).ok_or_else(|| Refusal::Option(setting.key.clone()))?;
        let values = values(desk);
        let is_so = match setting.value.as_str() {
            "" => values.iter().all(|value| value == "0"),
            value => values == [value],
        };
        if !is_so {
            let mistake = format!("While Tor is running, changing {name} is not allowed");
            return Err(Refusal::Transition(mistake));
        }
    }
    Ok(())
}
