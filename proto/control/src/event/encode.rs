//! The bytes of an event: `650`, its name, and its fields; some have data behind their line.

use super::{Event, EventKind};
use crate::line::escape;
use crate::reply::one_line;

impl Event {
    /// The bytes, with all line ends.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let kind = self.kind();
        let fields = match self {
            Event::NetworkStatus(entries) | Event::NewConsensus(entries) => {
                return with_data(kind, "", entries);
            }
            Event::HsDescContent(content) => {
                return with_data(kind, &format!(" {content}"), &content.descriptor);
            }
            Event::ConfChanged(settings) => return conf_changed(settings),
            Event::Circuit(event) => event.to_string(),
            Event::CircuitMinor(event) => event.to_string(),
            Event::Stream(event) => event.to_string(),
            Event::OrConn(event) => event.to_string(),
            Event::Bandwidth { read, written } => format!("{read} {written}"),
            Event::Log { message, .. } => message.clone(),
            Event::NewDesc(relays) => {
                let names: Vec<String> = relays.iter().map(ToString::to_string).collect();
                names.join(" ")
            }
            Event::AddrMap(event) => event.to_string(),
            Event::DescChanged => String::new(),
            Event::Status(event) => event.to_string(),
            Event::Guard { relay, status } => format!("ENTRY {relay} {status}"),
            Event::StreamBandwidth(event) => event.to_string(),
            Event::ClientsSeen(event) => event.to_string(),
            Event::BuildTimeoutSet(event) => event.to_string(),
            Event::Signal(signal) => signal.canonical().to_string(),
            Event::ConnBandwidth(event) => event.to_string(),
            Event::CellStats(event) => event.to_string(),
            Event::CircuitBandwidth(event) => event.to_string(),
            Event::TransportLaunched {
                is_server,
                name,
                address,
            } => {
                let side = if *is_server { "server" } else { "client" };
                format!("{side} {name} {} {}", address.ip(), address.port())
            }
            Event::HsDesc(event) => event.to_string(),
            Event::NetworkLiveness(is_live) => (if *is_live { "UP" } else { "DOWN" }).to_owned(),
        };
        let gap = if fields.is_empty() { "" } else { " " };
        format!("650 {kind}{gap}{}\r\n", one_line(&fields)).into_bytes()
    }
}

fn with_data(kind: EventKind, fields: &str, data: &str) -> Vec<u8> {
    let mut bytes = format!("650+{kind}{}\r\n", one_line(fields)).into_bytes();
    bytes.extend(escape(data.as_bytes()));
    bytes.extend_from_slice(b"650 OK\r\n");
    bytes
}

fn conf_changed(settings: &[(String, Option<String>)]) -> Vec<u8> {
    let mut text = format!("650-{}\r\n", EventKind::ConfChanged);
    for (key, value) in settings {
        let value = value
            .as_ref()
            .map_or_else(String::new, |value| format!("={value}"));
        text.push_str(&format!("650-{key}{}\r\n", one_line(&value)));
    }
    text.push_str("650 OK\r\n");
    text.into_bytes()
}
