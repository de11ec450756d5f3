//! What a client's configuration has.

use super::{Work, is_default, ports};
use crate::option::Fate;
use crate::settings::{Severity, Value};
use crate::toml::{Document, string};
use crate::value;

/// Where a client listens for SOCKS unless it is told otherwise.
const SOCKS_DEFAULT: &str = "127.0.0.1:9050";

/// The folder of a client in that of the relay in whose process it is.
const FOLDER_OF_BOTH: &str = "client";

/// Sets of relays, and their keys in `[paths]`.
const SETS: [(&str, &str); 7] = [
    ("EntryNodes", "entry"),
    ("MiddleNodes", "middle"),
    ("ExitNodes", "exit"),
    ("ExcludeNodes", "exclude"),
    ("ExcludeExitNodes", "exclude_exit"),
    ("HSLayer2Nodes", "layer2"),
    ("HSLayer3Nodes", "layer3"),
];

/// Options with ports, and their keys.
const PORT_LISTS: [(&str, &str); 2] = [
    ("WarnPlaintextPorts", "warn_plaintext_ports"),
    ("RejectPlaintextPorts", "reject_plaintext_ports"),
];

/// Options that name a proxy, the scheme of each, and the port that it has unless it is said.
const PROXIES: [(&str, &str, u16); 3] = [
    ("Socks5Proxy", "socks5", 1080),
    ("Socks4Proxy", "socks4", 1080),
    ("HTTPSProxy", "http", 443),
];

impl Work<'_> {
    /// A client's configuration; `network` is which network it joins. In the process of a relay it
    /// has a folder in that of the relay, which has log, metrics and control port for both.
    pub(super) fn client(&mut self, document: &mut Document, network: Document) {
        if let Some(wrong) = self.settings.one("AuthoritativeDirectory")
            && self.settings.is_on("AuthoritativeDirectory")
        {
            self.refuse(wrong, "an authority needs an ORPort");
        }
        if let Some(name) = self.settings.one("Nickname") {
            let text = name.text.trim();
            let is_right = (1..=19).contains(&text.len())
                && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
            if !is_right {
                self.refuse(name, "a nickname is 1 to 19 letters and digits");
            }
        }
        self.ports(document);
        self.data_dir(document, if self.is_both { FOLDER_OF_BOTH } else { "" });
        self.addresses(document);
        proxy(self, document);
        bridges(self, document);
        if let Some(value) = self.settings.one("MaxCircuitDirtiness")
            && let Some(seconds) = value::seconds(&value.text)
        {
            document.key("max_circuit_dirtiness", &seconds.to_string(), value);
        }
        padding(self, document);
        self.sizes(document, &[("MaxMemInQueues", "max_memory")]);
        self.paths(document, &[("ClientOnionAuthDir", "onion_auth_dir")]);
        if !self.is_both {
            self.metrics(document);
        }
        by_controllers(self, document);
        let is_inline = network.text().contains("inline_network");
        let (before, behind) = match is_inline {
            true => (Document::default(), network),
            false => (network, Document::default()),
        };
        document.extend(before);
        if !self.is_both {
            let log = self.log();
            document.section("[log]", log);
        }
        let paths = self.path_rules();
        document.section("[paths]", paths);
        super::tuning::overrides(self, document);
        if !self.is_both {
            super::control::control(self, document);
        }
        super::onion::onions(self, document);
        document.extend(behind);
        if self.is_both {
            return;
        }
        for value in self.settings.all() {
            let is_ours = value.option.fate == Fate::Meant && is_of_relays(value.option.name);
            if is_ours && !ports::is_none(&value.text) {
                let note = value.wrong("of no effect for a client");
                self.notes.push((Severity::Info, note));
            }
        }
    }

    fn ports(&mut self, document: &mut Document) {
        let socks = self.lines(&["SocksPort", "__SocksPort"]);
        let http = self.lines(&["HTTPTunnelPort", "__HTTPTunnelPort"]);
        let is_silent = socks.iter().all(|line| ports::is_none(&line.text));
        if socks.is_empty() && self.is_both {
            document.plain("socks = []");
            document.plain("onion_errors = false");
        } else if socks.is_empty() {
            document.plain(format!("socks = [\"{SOCKS_DEFAULT}\"]"));
            document.plain("onion_errors = false");
        } else if is_silent {
            document.key("socks", "[]", socks[0]);
            document.plain("onion_errors = false");
        } else if !self.listeners(document, "socks", &socks, true) {
            document.key("onion_errors", "false", socks[0]);
        }
        self.listeners(document, "http_connect", &http, true);
        let dns = self.lines(&["DNSPort", "__DNSPort"]);
        self.listeners(document, "dns", &dns, false);
        let transparent = self.lines(&["TransPort", "__TransPort"]);
        let kind = self.settings.one("TransProxyType");
        let word = kind.map(|kind| kind.text.trim().to_ascii_lowercase());
        let key = match word.as_deref() {
            None | Some("default") => "redirect",
            Some("tproxy") => "tproxy",
            Some(_) => {
                let why = "default and TPROXY are what this system has";
                kind.into_iter().for_each(|kind| self.refuse(kind, why));
                "redirect"
            }
        };
        self.listeners(document, key, &transparent, false);
        let switches = [
            ("AutomapHostsOnResolve", "automap"),
            ("SafeSocks", "safe_socks"),
            ("TestSocks", "test_socks"),
        ];
        self.switches(document, &switches);
        super::tuning::access(self, document);
        for (option, key) in PORT_LISTS {
            if let Some(value) = self.settings.one(option) {
                let ports = value::words(&value.text).map(str::parse::<u16>);
                match ports.collect::<Result<Vec<_>, _>>() {
                    Ok(ports) => document.key(key, &format!("{ports:?}"), value),
                    Err(_) => self.refuse(value, "ports are numbers up to 65535"),
                }
            }
        }
    }

    fn addresses(&mut self, document: &mut Document) {
        match self.settings.one("EnforceDistinctSubnets") {
            Some(_) => {
                let key = [("EnforceDistinctSubnets", "distinct_subnets")];
                self.switches(document, &key);
            }
            None if self.settings.is_on("TestingTorNetwork") => {
                document.plain("distinct_subnets = false");
            }
            None => {}
        }
        self.switches(
            document,
            &[
                (
                    "ClientRejectInternalAddresses",
                    "client_reject_internal_addresses",
                ),
                (
                    "ClientDNSRejectInternalAddresses",
                    "client_dns_reject_internal_addresses",
                ),
            ],
        );
        let mut lines = self.lines(&["OutboundBindAddressOR"]);
        if lines.is_empty() {
            lines = self.lines(&["OutboundBindAddress"]);
        }
        if let Some(second) = lines.get(1) {
            self.refuse(second, "links have one address to come from");
        }
        if let Some(line) = lines.first() {
            match ports::ip(line.text.trim()) {
                Some(ip) => document.text_key("outbound_bind_address", &ip.to_string(), line),
                None => self.refuse(line, "it is no address"),
            }
        }
    }

    fn path_rules(&mut self) -> Document {
        let mut paths = Document::default();
        for (option, key) in SETS {
            if let Some(value) = self.settings.one(option) {
                let words = value::words(&value.text).map(|word| (pattern(word), value));
                paths.list(key, &words.collect::<Vec<_>>());
            }
        }
        families(self, &mut paths);
        self.switches(&mut paths, &[("StrictNodes", "strict")]);
        if let Some(value) = self.settings.one("GeoIPExcludeUnknown")
            && let Some(is_on) = value::bool(&value.text)
        {
            paths.key(
                "exclude_unknown",
                if is_on { "true" } else { "false" },
                value,
            );
        }
        if let Some(value) = self.settings.one("UseEntryGuards")
            && !is_default(self.settings, "UseEntryGuards")
        {
            paths.key("unguarded", "true", value);
        }
        self.paths(
            &mut paths,
            &[("GeoIPFile", "geoip"), ("GeoIPv6File", "geoip6")],
        );
        paths
    }
}

/// How much padding there is, and which vanguards.
fn padding(work: &Work<'_>, document: &mut Document) {
    for (option, reduced, key) in [
        (
            "ConnectionPadding",
            "ReducedConnectionPadding",
            "channel_padding",
        ),
        ("CircuitPadding", "ReducedCircuitPadding", "circuit_padding"),
    ] {
        let is_off = work
            .settings
            .one(option)
            .filter(|value| value.text.trim() == "0");
        let is_reduced = work
            .settings
            .one(reduced)
            .filter(|value| value.text.trim() == "1");
        match (is_off, is_reduced) {
            (Some(value), _) => document.text_key(key, "off", value),
            (None, Some(value)) => document.text_key(key, "reduced", value),
            (None, None) => {}
        }
    }
    if let Some(value) = work.settings.one("VanguardsLiteEnabled")
        && let Some(is_on) = value::bool(&value.text)
    {
        document.text_key("vanguards", if is_on { "lite" } else { "off" }, value);
    }
}

/// Bridges, if they are used, and who speaks their transports.
fn bridges(work: &mut Work<'_>, document: &mut Document) {
    let bridges = written(work, "Bridge");
    if work.settings.is_on("UseBridges") {
        if let Some(value) = work.settings.one("UseBridges")
            && bridges.is_empty()
        {
            work.refuse(value, "no line Bridge says which");
        }
        document.list("bridges", &bridges);
    } else if let Some((_, line)) = bridges.first() {
        work.note(Severity::Info, line, "of no effect without UseBridges 1");
    }
    let plugins = written(work, "ClientTransportPlugin");
    document.list("transport_plugins", &plugins);
}

/// The lines of an option that say anything.
pub(super) fn written<'a>(work: &Work<'a>, name: &str) -> Vec<(String, &'a Value)> {
    let lines = work.lines(&[name]).into_iter();
    let lines = lines.map(|line| (line.text.trim().to_owned(), line));
    lines.filter(|(text, _)| !text.is_empty()).collect()
}

/// The proxy that links go through, with the ports that are `tor`'s defaults.
fn proxy(work: &mut Work<'_>, document: &mut Document) {
    let given = PROXIES.map(|(option, ..)| work.settings.one(option));
    tcp_proxy(work, document, given.iter().flatten().next().copied());
    let mut set = PROXIES.iter().zip(given).filter_map(|(proxy, value)| {
        let value = value.filter(|value| !value.text.trim().is_empty())?;
        Some((proxy, value))
    });
    let Some(((_, scheme, port), value)) = set.next() else {
        return;
    };
    if let Some((_, second)) = set.next() {
        work.refuse(second, "links have one proxy");
    }
    let text = |name| {
        let value = work.settings.one(name);
        value.map_or("", |value| value.text.trim())
    };
    let credentials = match *scheme {
        "http" => text("HTTPSProxyAuthenticator").to_owned(),
        "socks5" => match (text("Socks5ProxyUsername"), text("Socks5ProxyPassword")) {
            ("", "") => String::new(),
            (user, password) => format!("{user}:{password}"),
        },
        _ => String::new(),
    };
    if let Some(user) = work.settings.one("Socks5ProxyUsername")
        && user.text.contains(':')
    {
        work.refuse(user, "a name with a colon cannot be told from the password");
    }
    let place = value.text.trim();
    // An IPv6 address has its colons in brackets.
    let behind = place.rsplit_once(']').map_or(place, |(_, behind)| behind);
    let port = match behind.contains(':') {
        true => String::new(),
        false => format!(":{port}"),
    };
    let at = if credentials.is_empty() { "" } else { "@" };
    let proxy = format!("{scheme}://{credentials}{at}{place}{port}");
    document.text_key("outbound_proxy", &proxy, value);
}

/// `TCPProxy haproxy HOST:PORT`; another proxy beside it would be one too many.
fn tcp_proxy(work: &mut Work<'_>, document: &mut Document, other: Option<&Value>) {
    let Some(value) = work.settings.one("TCPProxy") else {
        return;
    };
    let words: Vec<&str> = value.text.split_whitespace().collect();
    match (words.as_slice(), other) {
        ([protocol, place], None) if protocol.eq_ignore_ascii_case("haproxy") => {
            document.text_key("outbound_proxy", &format!("haproxy://{place}"), value);
        }
        (_, None) => work.refuse(value, "it is haproxy HOST:PORT"),
        (_, Some(_)) => work.refuse(value, "links have one proxy"),
    }
}

/// Families of the operator's: one a line, as a text.
fn families(work: &Work<'_>, paths: &mut Document) {
    let families = work.lines(&["NodeFamily"]).into_iter().map(|line| {
        let words = value::words(&line.text).map(pattern);
        (words.collect::<Vec<_>>().join(", "), line)
    });
    let families: Vec<_> = families.filter(|(text, _)| !text.is_empty()).collect();
    if let Some((text, line)) = families.first()
        && families.len() == 1
    {
        return paths.key("families", &format!("[{}]", string(text)), line);
    }
    paths.list("families", &families);
}

/// A relay as our own files name it: a nickname behind a fingerprint says nothing.
pub(super) fn pattern(word: &str) -> String {
    match word.split_once(['~', '=']) {
        Some((fingerprint, _)) if fingerprint.starts_with('$') => fingerprint.to_owned(),
        _ => word.to_owned(),
    }
}

/// Whether an option that is meant is so for relays and authorities alone.
fn is_of_relays(name: &str) -> bool {
    let others = [
        "ORPort",
        "__ORPort",
        "ClientOnly",
        "PidFile",
        "Log",
        "DataDirectory",
        "NumCPUs",
    ];
    let tables = crate::table::TABLES;
    let of_relays = tables[5]
        .iter()
        .chain(tables[6])
        .any(|one| one.name == name);
    of_relays && !others.contains(&name)
}

/// What controllers change most.
fn by_controllers(work: &Work<'_>, document: &mut Document) {
    work.switches(
        document,
        &[
            ("DisableNetwork", "disable_network"),
            ("__LeaveStreamsUnattached", "streams_unattached"),
        ],
    );
    if let Some(value) = work.settings.one("__DisablePredictedCircuits") {
        let is_off = value::bool(&value.text).unwrap_or_default();
        document.key(
            "circuits_ahead",
            if is_off { "false" } else { "true" },
            value,
        );
    }
    let maps = work.lines(&["MapAddress"]).into_iter();
    let maps: Vec<_> = maps.map(|line| (line.text.clone(), line)).collect();
    document.list("map_address", &maps);
}
