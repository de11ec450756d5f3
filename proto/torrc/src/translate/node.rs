//! What the configuration of a relay or an authority has.

use std::net::IpAddr;

use super::client::written;
use super::{Role, Work, control, ports, relay};
use crate::option::Kind;
use crate::settings::{Settings, Severity, Value};
use crate::toml::Document;
use crate::value;

/// What controllers of clients change.
const OF_CONTROLLERS: [&str; 3] = [
    "MapAddress",
    "__DisablePredictedCircuits",
    "__LeaveStreamsUnattached",
];

/// What `tor` has behind the lines of a policy (tor(1), ExitPolicy).
const POLICY_DEFAULT: &str = "reject *:25, reject *:119, reject *:135-139, reject *:445, \
    reject *:563, reject *:1214, reject *:4661-4666, reject *:6346-6429, reject *:6699, \
    reject *:6881-6999, accept *:*";
/// What a port without an address listens at.
const ANY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);
/// The burst of all traffic unless it is said, in bytes.
const BURST_DEFAULT: u64 = 1 << 30;
/// Where applications come: a relay with one of them is a client, too.
const PORTS_OF_CLIENTS: [&str; 8] = [
    "SocksPort",
    "__SocksPort",
    "HTTPTunnelPort",
    "__HTTPTunnelPort",
    "DNSPort",
    "__DNSPort",
    "TransPort",
    "__TransPort",
];
/// Options of clients that a mere relay has no use for, and that would mislead if nobody said so.
const OF_CLIENTS: [&str; 4] = [
    "AutomapHostsOnResolve",
    "ClientOnionAuthDir",
    "Bridge",
    "ClientTransportPlugin",
];

/// Whether there is a port for applications, or an onion service. The port that `tor` opens where
/// SocksPort is not written is opened for clients alone.
pub(super) fn has_client(settings: &Settings) -> bool {
    let mut ports = PORTS_OF_CLIENTS
        .iter()
        .flat_map(|name| settings.lines(name));
    ports.any(|line| !ports::is_none(&line.text)) || !settings.onions().is_empty()
}

impl<'a> Work<'a> {
    /// The configuration of a relay or an authority of this network.
    pub(super) fn node(&mut self, document: &mut Document, network: Document, role: Role) {
        self.identity(document);
        self.or_ports(document);
        self.data_dir(document, "");
        self.exits(document);
        self.family(document);
        self.bandwidth(document);
        self.accounting(document);
        bridge(self, document);
        self.paths(document, &[("ServerDNSResolvConfFile", "resolv_conf")]);
        relay::keys(self, document);
        if let Some(cpus) = self
            .settings
            .one("NumCPUs")
            .filter(|cpus| cpus.text.trim() != "0")
        {
            document.key("workers", cpus.text.trim(), cpus);
        }
        self.sizes(document, &[("MaxMemInQueues", "max_memory")]);
        let loose = [
            "TestingTorNetwork",
            "DirAllowPrivateAddresses",
            "ExtendAllowPrivateAddresses",
        ];
        let loose = loose.into_iter().find(|name| self.settings.is_on(name));
        if let Some(value) = loose.and_then(|name| self.settings.one(name)) {
            document.key("testing", "true", value);
        }
        self.metrics(document);
        let is_inline = network.text().contains("inline_network");
        let (before, behind) = match is_inline {
            true => (Document::default(), network),
            false => (network, Document::default()),
        };
        document.extend(before);
        let log = self.log();
        document.section("[log]", log);
        document.section("[dos]", dos(self));
        relay::tables(self, document);
        control::control(self, document);
        if role == Role::Authority {
            self.authority(document);
        }
        document.extend(behind);
        self.not_here();
    }

    /// What a relay is not.
    fn not_here(&mut self) {
        if let Some(value) = self.settings.one("DisableNetwork")
            && self.settings.is_on("DisableNetwork")
        {
            self.refuse(value, "a relay joins the network at once");
        }
        super::tuning::check_reach(self);
        if self.is_both {
            return;
        }
        // An authority is no client beside.
        for line in self.lines(&PORTS_OF_CLIENTS) {
            if !ports::is_none(&line.text) {
                self.refuse(
                    line,
                    "an authority is no client; run another process for it",
                );
            }
        }
        if let Some(line) = self.settings.onions().first() {
            let name = line.option.name;
            let what = format!("{name}: an authority hosts no services; run another process");
            self.refuse(line, what);
        }
        super::tuning::of_relay(self);
        self.of_no_effect(&OF_CONTROLLERS, Severity::Info, "of no effect for a relay");
        self.of_no_effect(&OF_CLIENTS, Severity::Info, "of no effect for a relay");
    }

    fn identity(&mut self, document: &mut Document) {
        match self.settings.one("Nickname") {
            Some(name) => document.text_key("nickname", name.text.trim(), name),
            None => document.plain("nickname = \"Unnamed\""),
        }
        if let Some(contact) = self.settings.one("ContactInfo") {
            document.text_key("contact", &contact.text, contact);
        }
        let (mut v4, mut v6) = (None, None);
        for line in self.lines(&["Address"]) {
            let slot = match ports::ip(line.text.trim()) {
                Some(IpAddr::V4(_)) => &mut v4,
                Some(IpAddr::V6(_)) => &mut v6,
                None => {
                    self.refuse(line, "it is an address, as no name is looked up");
                    continue;
                }
            };
            *slot = Some(line);
        }
        if let Some(line) = v4 {
            document.text_key("address", line.text.trim(), line);
        }
        if let (Some(line), Some(ip)) = (v6, v6.and_then(|line| ports::ip(line.text.trim()))) {
            document.text_key("ipv6_address", &ip.to_string(), line);
        }
    }

    /// `or_port`, `dir_port`, and where to listen.
    fn or_ports(&mut self, document: &mut Document) {
        let mut first: Option<(&Value, ports::Socket)> = None;
        let has_v6 = self
            .lines(&["Address"])
            .iter()
            .any(|line| line.text.contains(':'));
        for line in self.lines(&["ORPort", "__ORPort"]) {
            let Some(place) = self.relay_port(line) else {
                continue;
            };
            match (first, place.addr.ip()) {
                (None, IpAddr::V4(_)) => first = Some((line, place)),
                (Some((_, one)), _) if one.addr.port() != place.addr.port() => {
                    self.refuse(line, "a relay has one ORPort for all its addresses");
                }
                (_, IpAddr::V6(ip)) if !has_v6 => {
                    document.text_key("ipv6_address", &ip.to_string(), line);
                }
                (_, IpAddr::V6(_)) => {}
                (Some(_), _) => self.refuse(line, "a relay has one ORPort"),
            }
        }
        let Some((line, place)) = first else {
            if let Some(line) = self.lines(&["ORPort", "__ORPort"]).first() {
                self.refuse(line, "a relay has an ORPort of IPv4");
            }
            return;
        };
        document.key("or_port", &place.addr.port().to_string(), line);
        let listen = place.has_address.then_some((line, place.addr.ip()));
        // Without an address it is any, whatever Address says: a router may be between.
        let ip = if place.has_address {
            place.addr.ip()
        } else {
            ANY
        };
        document.text_key("listen", &ip.to_string(), line);
        let mut words = line.text.split_whitespace();
        if words.any(|word| word.eq_ignore_ascii_case("ipv4only")) {
            document.key("listen_ipv6", "false", line);
        }
        let bound = self.lines(&["OutboundBindAddressOR", "OutboundBindAddress"]);
        for one in bound {
            let is_it = listen.is_some_and(|(_, ip)| ports::ip(one.text.trim()) == Some(ip));
            if !is_it {
                self.refuse(
                    one,
                    "links come from the address of ORPort, as ORPort ADDRESS:PORT",
                );
            }
        }
        let mut dir = self.lines(&["DirPort", "__DirPort"]).into_iter();
        let dir = dir.find(|line| !ports::is_none(&line.text));
        if let Some(line) = dir
            && let Some(place) = self.relay_port(line)
        {
            document.key("dir_port", &place.addr.port().to_string(), line);
        }
    }

    /// The place of a port of a relay, which has to be known before it runs.
    fn relay_port(&mut self, line: &Value) -> Option<ports::Socket> {
        if ports::is_none(&line.text) {
            return None;
        }
        let mut words = line.text.split_whitespace();
        let place = words.next().and_then(ports::socket);
        let Some(place) = place.filter(|place| !place.is_auto) else {
            self.refuse(
                line,
                "it is PORT or ADDRESS:PORT; auto is not known before it runs",
            );
            return None;
        };
        for word in words {
            match word.to_ascii_lowercase().as_str() {
                "ipv4only" => {}
                "ipv6only" => return None,
                "nolisten" | "noadvertise" => {
                    let what = format!("{word}: what is listened at is what is published");
                    self.refuse(line, what);
                }
                _ => {
                    let what = format!("{word}: no flag that is known, and passed over");
                    self.note(Severity::Warning, line, what);
                }
            }
        }
        Some(place)
    }

    fn exits(&mut self, document: &mut Document) {
        let lines = self.lines(&["ExitPolicy"]);
        let reduced = self.settings.one("ReducedExitPolicy");
        let reduced = reduced.filter(|_| self.settings.is_on("ReducedExitPolicy"));
        let ipv6 = self.settings.one("IPv6Exit");
        let wants = !lines.is_empty() || reduced.is_some() || self.settings.is_on("IPv6Exit");
        let exit_relay = self.settings.one("ExitRelay");
        let is_exit = match exit_relay.map(|value| value.text.trim().to_ascii_lowercase()) {
            Some(word) if word == "0" => false,
            Some(word) if word == "1" => true,
            _ => wants,
        };
        if is_exit {
            let mut rules: Vec<_> = lines
                .iter()
                .map(|line| (line.text.clone(), *line))
                .collect();
            let last = lines.last().copied().or(reduced).or(exit_relay).or(ipv6);
            let is_whole = lines.iter().any(|line| is_last_word(&line.text));
            if let (None, false, Some(last)) = (reduced, is_whole, last) {
                rules.push((POLICY_DEFAULT.to_owned(), last));
            }
            document.list("exit_policy", &rules);
            if let Some(reduced) = reduced {
                document.key("reduced_exit_policy", "true", reduced);
            }
        } else if let Some(line) = lines.first() {
            self.note(Severity::Info, line, "of no effect with ExitRelay 0");
        }
        match ipv6 {
            Some(_) => self.switches(document, &[("IPv6Exit", "ipv6_exit")]),
            None => document.plain("ipv6_exit = false"),
        }
        self.switches(
            document,
            &[
                ("ExitPolicyRejectPrivate", "exit_policy_reject_private"),
                ("ReevaluateExitPolicy", "reevaluate_exit_policy"),
                (
                    "ExitPolicyRejectLocalInterfaces",
                    "exit_policy_reject_local_interfaces",
                ),
            ],
        );
        if self.settings.one("ExitPolicyRejectPrivate").is_none() {
            document.plain("exit_policy_reject_private = true");
        }
    }

    fn family(&mut self, document: &mut Document) {
        let lines = self.lines(&["MyFamily"]);
        let members: Vec<_> = (lines.iter())
            .flat_map(|line| value::words(&line.text).map(|word| (word, *line)))
            .map(|(word, line)| (super::client::pattern(word), line))
            .collect();
        document.list("family", &members);
        if let Some(folder) = self.settings.one("FamilyKeyDirectory") {
            let path = self.path(&folder.text);
            let mut names = self.world.files.names(&path);
            names.retain(|name| name.ends_with(".secret_family_key"));
            names.sort();
            let keys = names
                .into_iter()
                .map(|name| (format!("{path}/{name}"), folder));
            document.list("family_keys", &keys.collect::<Vec<_>>());
        }
    }

    fn bandwidth(&mut self, document: &mut Document) {
        self.sizes(
            document,
            &[
                ("BandwidthRate", "bandwidth_rate"),
                ("BandwidthBurst", "bandwidth_burst"),
                ("RelayBandwidthRate", "relay_bandwidth_rate"),
                ("RelayBandwidthBurst", "relay_bandwidth_burst"),
                ("MaxAdvertisedBandwidth", "max_advertised_bandwidth"),
            ],
        );
        if let (Some(rate), None) = (
            self.settings.one("BandwidthRate"),
            self.settings.one("BandwidthBurst"),
        ) && let Some(bytes) = value::size(&rate.text).filter(|bytes| *bytes > 0)
        {
            let burst = bytes.max(BURST_DEFAULT).to_string();
            document.key("bandwidth_burst", &burst, rate);
        }
    }

    fn accounting(&mut self, document: &mut Document) {
        let max = self.settings.one("AccountingMax");
        let max = max.filter(|max| value::size(&max.text) != Some(0));
        let start = self.settings.one("AccountingStart");
        let rule = self.settings.one("AccountingRule");
        if max.is_none() {
            let what = "of no effect without AccountingMax";
            for value in [start, rule].into_iter().flatten() {
                self.note(Severity::Info, value, what);
            }
            return;
        }
        self.sizes(document, &[("AccountingMax", "accounting_max")]);
        if let Some(start) = start {
            let text = start.text.split_whitespace().collect::<Vec<_>>().join(" ");
            document.text_key("accounting_start", &text, start);
        }
        if let Some(rule) = rule {
            document.text_key(
                "accounting_rule",
                &rule.text.trim().to_ascii_lowercase(),
                rule,
            );
        }
    }
}

/// `[dos]`: what is not the network's to decide.
fn dos(work: &Work<'_>) -> Document {
    let mut dos = Document::default();
    let all = crate::names::all().into_iter();
    for option in all.filter(|option| option.name.starts_with("DoS")) {
        let Some(value) = work.settings.one(option.name) else {
            continue;
        };
        let text = match (option.kind, value.text.trim()) {
            (_, text) if text.eq_ignore_ascii_case("auto") => continue,
            (Kind::AutoBool, text) => (text == "1").to_string(),
            (Kind::Interval, text) => match value::seconds(text) {
                None | Some(0) => continue,
                Some(seconds) => seconds.to_string(),
            },
            (_, "0") => continue,
            (_, text) => text.to_owned(),
        };
        dos.key(&dos_key(option.name), &text, value);
    }
    dos
}

/// `DoSConnectionMaxConcurrentCount` is `connection_max_concurrent_count`.
fn dos_key(name: &str) -> String {
    let mut key = String::new();
    for letter in name.strip_prefix("DoS").unwrap_or(name).chars() {
        if letter.is_ascii_uppercase() && !key.is_empty() {
            key.push('_');
        }
        key.push(letter.to_ascii_lowercase());
    }
    key
}

/// Whether no rule behind this line is ever asked.
fn is_last_word(line: &str) -> bool {
    value::words(line).any(|rule| {
        let mut words = rule.split_whitespace();
        let action = words.next().unwrap_or_default().to_ascii_lowercase();
        let is_all = words
            .next()
            .is_some_and(|rest| rest == "*:*" || rest == "*");
        is_all && (action == "accept" || action == "reject")
    })
}

/// What makes it a bridge.
fn bridge(work: &mut Work<'_>, document: &mut Document) {
    if let Some(value) = work.settings.one("UseBridges")
        && work.settings.is_on("UseBridges")
    {
        work.refuse(value, "a relay connects to all others, and not by bridges");
    }
    let is_bridge = work.settings.is_on("BridgeRelay");
    if let Some(value) = work.settings.one("BridgeRelay").filter(|_| is_bridge) {
        document.key("bridge", "true", value);
    }
    if let Some(value) = work.settings.one("PublishServerDescriptor")
        && !is_bridge
    {
        // tor takes more than one, and those that have been of an effect once.
        let words = value.text.split([',', ' ']).map(str::trim);
        let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
        let known = ["0", "1", "v1", "v2", "v3", "bridge", "hidserv"];
        match words.iter().find(|word| !known.contains(word)) {
            Some(word) => work.refuse(value, format!("{word} is neither 0, 1, v3 nor bridge")),
            None if words.contains(&"1") || words.contains(&"v3") => {}
            None => document.key("publish_descriptor", "false", value),
        }
    }
    if let Some((word, value)) = written(work, "BridgeDistribution").pop() {
        document.text_key("bridge_distribution", &word, value);
    }
    for (option, key) in [
        ("ServerTransportPlugin", "server_transport_plugins"),
        ("ServerTransportListenAddr", "server_transport_listen"),
        ("ServerTransportOptions", "server_transport_options"),
    ] {
        document.list(key, &written(work, option));
    }
    extended(work, document);
}

/// Where transports hand clients on.
fn extended(work: &mut Work<'_>, document: &mut Document) {
    let lines = work.lines(&["ExtORPort", "__ExtORPort"]).into_iter();
    let mut places = Vec::new();
    for line in lines.filter(|line| !ports::is_none(&line.text)) {
        let Some(place) = ports::socket(line.text.trim()) else {
            work.refuse(line, "it is PORT, ADDRESS:PORT, auto or ADDRESS:auto");
            continue;
        };
        let text = place.addr.to_string();
        let text = match text.strip_suffix(":0").filter(|_| place.is_auto) {
            Some(ip) => format!("{ip}:auto"),
            None => text,
        };
        places.push((text, line));
    }
    document.list("ext_or_port", &places);
    let file = ("ExtORPortCookieAuthFile", "ext_or_port_cookie_file");
    let group = (
        "ExtORPortCookieAuthFileGroupReadable",
        "ext_or_port_cookie_file_group_readable",
    );
    work.paths(document, &[file]);
    work.switches(document, &[group]);
}
