//! Profiles of known programs: what each was seen to say, and no more.

use super::{Allowed, Profile, TargetRule};

/// What stem says at each login, for those that use it.
const STEM_EVENTS: [&str; 3] = ["SIGNAL", "CONF_CHANGED", "STATUS_SERVER"];
const STEM_OPTION: &str = "__OwningControllerProcess";

/// What Tor Browser and Ricochet set of how the network is reached.
const REACH_OPTIONS: [&str; 13] = [
    "DisableNetwork",
    "UseBridges",
    "Bridge",
    "ClientTransportPlugin",
    "Socks4Proxy",
    "Socks5Proxy",
    "Socks5ProxyUsername",
    "Socks5ProxyPassword",
    "HTTPSProxy",
    "HTTPSProxyAuthenticator",
    "ReachableAddresses",
    "FascistFirewall",
    STEM_OPTION,
];

impl Profile {
    /// The names of the profiles that come along.
    pub const BUILT_IN: [&'static str; 7] = [
        "full",
        "onionshare",
        "bitcoin-core",
        "lnd",
        "ricochet",
        "tor-browser",
        "nyx",
    ];

    /// The profile of that name.
    #[must_use]
    pub fn built_in(name: &str) -> Option<Profile> {
        let profile = match name {
            "full" => Profile::default(),
            "onionshare" => onionshare(),
            "bitcoin-core" => Profile {
                commands: Allowed::only(["ADD_ONION", "GETINFO"]),
                keys: Allowed::only(["net/listeners/socks"]),
                // Its port of each chain, and the one beside it for onion services.
                targets: Some(loopback(&[
                    (8333, 8334),
                    (18333, 18334),
                    (38333, 38334),
                    (48333, 48334),
                    (18444, 18445),
                ])),
                ..nothing()
            },
            "lnd" => Profile {
                commands: Allowed::only(["ADD_ONION", "DEL_ONION", "GETINFO"]),
                keys: Allowed::only(["version", "onions/current"]),
                targets: Some(loopback(&[(9735, 9735), (9911, 9911)])),
                ..nothing()
            },
            "ricochet" => ricochet(),
            "tor-browser" => tor_browser(),
            "nyx" => nyx(),
            _ => return None,
        };
        let name = name.to_owned();
        Some(Profile { name, ..profile })
    }
}

fn none() -> Allowed {
    Allowed::Only(Vec::new())
}

/// A profile that allows nothing, to be added to.
fn nothing() -> Profile {
    Profile {
        name: String::new(),
        commands: none(),
        keys: none(),
        options_told: none(),
        options_set: none(),
        signals: none(),
        events: none(),
        targets: Some(Vec::new()),
        may_not_detach: true,
    }
}

fn loopback(ports: &[(u16, u16)]) -> Vec<TargetRule> {
    let ip = std::net::IpAddr::from([127, 0, 0, 1]);
    let rule = |(first, last): &(u16, u16)| TargetRule::Tcp(ip, *first, *last);
    ports.iter().map(rule).collect()
}

fn onionshare() -> Profile {
    Profile {
        commands: Allowed::only(["ADD_ONION", "DEL_ONION", "GETINFO", "GETCONF", "SETEVENTS"]),
        keys: Allowed::only([
            "version",
            "status/bootstrap-phase",
            "net/listeners/socks",
            "onions/current",
            "onions/detached",
        ]),
        options_told: Allowed::only([
            "HiddenServiceSingleHopMode",
            "HiddenServiceNonAnonymousMode",
            STEM_OPTION,
        ]),
        events: Allowed::only(STEM_EVENTS.into_iter().chain(["HS_DESC"])),
        // The ports of its servers, and that of its probe for what the program can do.
        targets: Some(loopback(&[(17600, 17650), (1, 1)])),
        ..nothing()
    }
}

fn ricochet() -> Profile {
    Profile {
        commands: Allowed::only([
            "ADD_ONION",
            "DEL_ONION",
            "GETINFO",
            "GETCONF",
            "SETCONF",
            "RESETCONF",
            "SETEVENTS",
            "ONION_CLIENT_AUTH_ADD",
            "ONION_CLIENT_AUTH_REMOVE",
            "TAKEOWNERSHIP",
            "SIGNAL",
        ]),
        keys: Allowed::only(["version", "net/listeners/socks", "status/*"]),
        options_told: Allowed::only(["DisableNetwork", STEM_OPTION]),
        options_set: Allowed::only(REACH_OPTIONS),
        signals: Allowed::only(["NEWNYM", "SHUTDOWN", "HALT"]),
        events: Allowed::only(["STATUS_CLIENT", "HS_DESC"]),
        targets: Some(loopback(&[(1024, 65535)])),
        may_not_detach: false,
        ..nothing()
    }
}

fn tor_browser() -> Profile {
    Profile {
        commands: Allowed::only([
            "GETINFO",
            "GETCONF",
            "SETCONF",
            "RESETCONF",
            "SAVECONF",
            "SETEVENTS",
            "SIGNAL",
            "TAKEOWNERSHIP",
            "DROPOWNERSHIP",
            "ONION_CLIENT_AUTH_ADD",
            "ONION_CLIENT_AUTH_REMOVE",
            "ONION_CLIENT_AUTH_VIEW",
        ]),
        keys: Allowed::only([
            "version",
            "circuit-status",
            "stream-status",
            "ns/id/*",
            "ip-to-country/*",
            "net/listeners/*",
            "status/*",
            "bridges",
        ]),
        options_told: Allowed::only(REACH_OPTIONS),
        options_set: Allowed::only(REACH_OPTIONS),
        signals: Allowed::only(["NEWNYM", "SHUTDOWN", "HALT", "RELOAD"]),
        events: Allowed::only(["CIRC", "STREAM", "STATUS_CLIENT", "NOTICE", "WARN", "ERR"]),
        ..nothing()
    }
}

/// It looks at everything and changes nothing.
fn nyx() -> Profile {
    Profile {
        commands: Allowed::only(["GETINFO", "GETCONF", "SETEVENTS", "USEFEATURE"]),
        keys: Allowed::All,
        options_told: Allowed::All,
        events: Allowed::All,
        ..nothing()
    }
}
