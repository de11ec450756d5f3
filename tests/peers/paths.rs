//! The same consensus and the same rules, given to Debian's `tor` and to our client: both choose
//! their first, middle and last hops from the same sets (issue 4; path-spec 2.2).
//!
//! One network of ours: all its relays are guards, some are of a family or a subnet, one exit
//! allows a single port. The consensus lets clients use all their guards, so that each shows whom
//! it would take. What is allowed is worked out here from words alone; each client builds circuits
//! until it has used all of that, and must never use anything else.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;

use crate::control::Control;
use crate::support::client::{Client, wait_for};
use crate::support::documents;
use crate::support::network::Network;
use crate::support::processes::{Process, start_relay};
use crate::support::{Steps, fetch, now, until};
use crate::tor::{Tor, is_tor_here};

/// Spare ports of the network: where the streams of this test lead.
const COMMON: u16 = 0;
/// One that one exit more allows.
const ODD: u16 = 1;
const CONTROL: u16 = 2;
const OUR_SOCKS: u16 = 3;
/// How long `tor` may take to bootstrap, or a consensus to have all relays.
const READY_MAX: Duration = Duration::from_secs(120);
/// How long a client may take to have used all that it is allowed.
const CASE_MAX: Duration = Duration::from_secs(100);
/// Streams that are opened at a time, each on a circuit of its own.
const BATCH: usize = 6;

/// The nodes of the network, by nickname and the first two bytes of their address.
const NODES: [(&str, [u8; 2]); 11] = [
    ("auth1", [127, 1]),
    ("relay1", [127, 2]),
    ("relay2", [127, 3]),
    ("relay3", [127, 4]),
    ("exit1", [127, 5]),
    ("exit2", [127, 6]),
    ("kin1", [127, 101]),
    ("kin2", [127, 102]),
    ("near1", [127, 103]),
    ("near2", [127, 103]),
    ("odd", [127, 104]),
];
/// Those that our test adds: nickname, address, what else stands in their configuration.
const ADDED: [(&str, &str, &str); 5] = [
    ("kin1", "127.101.0.1", "family = [\"kin2\"]\n"),
    (
        "kin2",
        "127.102.0.1",
        "family = [\"kin1\"]\nexit_policy = [\"accept *:*\"]\n",
    ),
    ("near1", "127.103.0.1", ""),
    ("near2", "127.103.0.2", "exit_policy = [\"accept *:*\"]\n"),
    ("odd", "127.104.0.1", "exit_policy = [\"accept *:{odd}\"]\n"),
];
const EXITS: [&str; 4] = ["exit1", "exit2", "kin2", "near2"];

/// Rules, in three languages: of ours, of `tor`, and by the names of all relays that they mean.
#[derive(Default)]
struct Case {
    name: &'static str,
    ours: &'static str,
    tor: &'static [&'static str],
    entry: Option<&'static [&'static str]>,
    middle: Option<&'static [&'static str]>,
    exit: Option<&'static [&'static str]>,
    excluded: &'static [&'static str],
    excluded_exits: &'static [&'static str],
    port: u16,
}

const FREE: Case = Case {
    name: "no rules",
    ours: "",
    tor: &[],
    entry: None,
    middle: None,
    exit: None,
    excluded: &[],
    excluded_exits: &[],
    port: COMMON,
};

/// `ID1` stands for the identity of relay1.
const CASES: [Case; 7] = [
    FREE,
    Case {
        name: "entries by nickname and fingerprint",
        ours: "entry = [\"$ID1\", \"RELAY2\", \"kin1\"]\n",
        tor: &["EntryNodes=$ID1,relay2,kin1"],
        entry: Some(&["relay1", "relay2", "kin1"]),
        ..FREE
    },
    Case {
        name: "an address range is excluded",
        ours: "exclude = [\"127.2.0.0/15\", \"127.5.0.1\"]\nstrict = true\n",
        tor: &["ExcludeNodes=127.2.0.0/15,127.5.0.1", "StrictNodes=1"],
        excluded: &["relay1", "relay2", "exit1"],
        ..FREE
    },
    Case {
        name: "an exit with a family",
        ours: "exit = [\"kin2\"]\n",
        tor: &["ExitNodes=kin2"],
        exit: Some(&["kin2"]),
        ..FREE
    },
    Case {
        name: "an exit with a neighbour, and two middles",
        ours: "exit = [\"127.103.0.2/32\"]\nmiddle = [\"near1\", \"relay3\", \"exit1\"]\n",
        tor: &["ExitNodes=127.103.0.2/32", "MiddleNodes=near1,relay3,exit1"],
        middle: Some(&["near1", "relay3", "exit1"]),
        exit: Some(&["near2"]),
        ..FREE
    },
    Case {
        name: "exclusion beats sets",
        ours: "entry = [\"relay1\", \"relay2\"]\nexit = [\"exit1\", \"exit2\", \"kin2\"]\n\
               exclude = [\"relay1\", \"exit1\"]\nexclude_exit = [\"kin2\"]\n",
        tor: &[
            "EntryNodes=relay1,relay2",
            "ExitNodes=exit1,exit2,kin2",
            "ExcludeNodes=relay1,exit1",
            "ExcludeExitNodes=kin2",
        ],
        entry: Some(&["relay1", "relay2"]),
        exit: Some(&["exit1", "exit2", "kin2"]),
        excluded: &["relay1", "exit1"],
        excluded_exits: &["kin2"],
        ..FREE
    },
    Case {
        name: "a port that one exit more allows",
        port: ODD,
        ..FREE
    },
];

/// First, middle and last hops.
type Hops = [BTreeSet<String>; 3];

#[test]
fn both_choose_from_the_same_relays() {
    if !is_tor_here() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let plan = [
        ["--authorities", "1"],
        ["--relays", "3"],
        ["--exits", "2"],
        ["--clients", "0"],
        ["--param", "guard-n-primary-guards=20"],
        ["--param", "guard-n-primary-guards-to-use=20"],
    ];
    let network = Network::up(dir.path(), plan.as_flattened());
    let _added = ADDED.map(|(name, address, more)| relay(&network, name, address, more));
    all_are_guards(&network);
    for place in [COMMON, ODD] {
        accept_at(network.local(place));
    }
    let (_tor, mut control) = start_tor(&network);
    let mut steps = Steps::default();
    for case in &CASES {
        steps.step(case.name, || {
            let allowed = case.allowed();
            let theirs = theirs(case, &network, &mut control, &allowed);
            let ours = ours(case, &network, dir.path(), &allowed);
            for (place, (theirs, ours)) in theirs.iter().zip(&ours).enumerate() {
                assert_eq!(theirs, ours, "hop {}", place + 1);
            }
            let [first, middle, last] = ours.each_ref().map(BTreeSet::len);
            println!(
                "{}: {first} first, {middle} middle, {last} last hops",
                case.name
            );
        });
    }
    steps.finish(|| network.show_logs());
}

/// A relay of ours beside those of the network, once it has published.
fn relay(network: &Network, name: &str, address: &str, more: &str) -> Process {
    let (toml, port) = (network.summary.network.display(), network.summary.base_port);
    let more = more.replace("{odd}", &network.spare(ODD).to_string());
    let text = format!(
        "nickname = \"{name}\"\ncontact = \"{name}@example.org\"\naddress = \"{address}\"\n\
         or_port = {port}\ndata_dir = \"{name}\"\nnetwork = \"{toml}\"\ntesting = true\n{more}"
    );
    let config = network.folder.join(format!("{name}.toml"));
    std::fs::write(&config, text).unwrap();
    let mut process = start_relay(None, &config);
    wait_for(&mut process.0, "published");
    process
}

/// Waits for a consensus in which all nodes are guards.
fn all_are_guards(network: &Network) {
    let dir = network.nodes("authority")[0].dir.unwrap();
    let flags = ["Fast", "Guard", "Running", "Stable", "V2Dir", "Valid"];
    until(READY_MAX, "a consensus with all relays as guards", || {
        let text = fetch::document(dir, "/tor/status-vote/current/consensus-microdesc")?;
        documents::read(&text).filter(|seen| seen.relays == NODES.len())?;
        let lines = text.lines().filter_map(|line| line.strip_prefix("s "));
        let has_all = |line: &str| {
            let words: BTreeSet<&str> = line.split(' ').collect();
            flags.iter().all(|flag| words.contains(flag))
        };
        (lines.filter(|line| has_all(line)).count() == NODES.len()).then_some(())
    });
}

/// Takes connections and keeps them, until the test ends.
fn accept_at(addr: SocketAddr) {
    let listener = TcpListener::bind(addr).unwrap();
    std::thread::spawn(move || {
        let kept: Vec<_> = listener.incoming().flatten().collect();
        drop(kept);
    });
}

impl Case {
    /// The hops of all paths that there are.
    fn allowed(&self) -> Hops {
        let within = |set: Option<&[&str]>, name: &str| set.is_none_or(|set| set.contains(&name));
        let is_exit = |name: &str| EXITS.contains(&name) || self.port == ODD && name == "odd";
        let mut hops = Hops::default();
        let usable = NODES
            .iter()
            .filter(|(name, _)| !self.excluded.contains(name));
        let usable: Vec<_> = usable.collect();
        for first in usable.iter().filter(|one| within(self.entry, one.0)) {
            for middle in usable.iter().filter(|one| within(self.middle, one.0)) {
                for last in usable.iter().filter(|one| within(self.exit, one.0)) {
                    let may = is_exit(last.0) && !self.excluded_exits.contains(&last.0);
                    let pairs = [(first, middle), (first, last), (middle, last)];
                    if may && pairs.iter().all(|(a, b)| may_share(a, b)) {
                        for (set, one) in hops.iter_mut().zip([first, middle, last]) {
                            set.insert(one.0.to_owned());
                        }
                    }
                }
            }
        }
        hops
    }
}

fn may_share(a: &(&str, [u8; 2]), b: &(&str, [u8; 2])) -> bool {
    let is_kin = |name: &str| name.starts_with("kin");
    a.0 != b.0 && a.1 != b.1 && !(is_kin(a.0) && is_kin(b.0))
}

/// Checks a path, and adds its hops to those that were seen.
fn note(path: &[String], allowed: &Hops, seen: &mut Hops) {
    let nodes: BTreeMap<&str, _> = NODES.iter().map(|node| (node.0, node)).collect();
    let [first, middle, last] = path else {
        panic!("a path of {path:?}");
    };
    for (a, b) in [(first, middle), (first, last), (middle, last)] {
        let both = [a, b].map(|name| nodes[name.as_str()]);
        assert!(may_share(both[0], both[1]), "{path:?}");
    }
    for (place, name) in path.iter().enumerate() {
        assert!(allowed[place].contains(name), "{path:?} of {allowed:?}");
        seen[place].insert(name.clone());
    }
}

/// The nicknames of `$ID~NICKNAME,$ID~NICKNAME,...`.
fn names(path: &str) -> Vec<String> {
    let hops = path.split(',');
    hops.map(|hop| hop.split('~').nth(1).unwrap_or(hop).to_owned())
        .collect()
}

/// Opens a batch of streams, each of another user.
fn open_streams(socks: SocketAddr, port: u16, round: usize) {
    std::thread::scope(|scope| {
        for n in 0..BATCH {
            scope.spawn(move || {
                let user = format!("{round}-{n}");
                // Whether it comes to be does not matter: its circuit does.
                drop(fetch::connect(socks, Some(&user), "127.0.0.1", port));
            });
        }
    });
}

/// Has a client build circuits until all that is allowed was used, or the time is up.
fn explore(
    (name, network, socks): (&str, &Network, SocketAddr),
    case: &Case,
    allowed: &Hops,
    mut paths: impl FnMut() -> Vec<Vec<String>>,
) -> Hops {
    let (mut seen, mut count, started) = (Hops::default(), 0, now());
    for round in 0.. {
        open_streams(socks, network.spare(case.port), round);
        for path in paths() {
            note(&path, allowed, &mut seen);
            count += 1;
        }
        if seen == *allowed || now().duration_since(started) > CASE_MAX {
            break;
        }
    }
    println!("{name}: {count} circuits");
    seen
}

fn start_tor(network: &Network) -> (Tor, Control) {
    let control = network.local(CONTROL).to_string();
    let options = [
        "--ControlPort",
        &control,
        "--EnforceDistinctSubnets",
        "1",
        "--Log",
        "notice stdout",
    ];
    let mut tor = Tor::start(&network.folder.join("torrc"), &options);
    tor.wait_for("Bootstrapped 100%", READY_MAX);
    let mut control = Control::connect(control.parse().unwrap());
    control.ask("SETEVENTS CIRC");
    (tor, control)
}

/// The hops of `tor`'s circuits under a case's rules.
fn theirs(case: &Case, network: &Network, control: &mut Control, allowed: &Hops) -> Hops {
    let socks = ([127, 0, 0, 1], network.summary.base_port + 48).into();
    control.ask(
        "RESETCONF EntryNodes MiddleNodes ExitNodes ExcludeNodes ExcludeExitNodes StrictNodes",
    );
    if !case.tor.is_empty() {
        let values = case
            .tor
            .iter()
            .map(|value| value.replace("ID1", &id_of(network, "relay1")));
        control.ask(&format!("SETCONF {}", values.collect::<Vec<_>>().join(" ")));
    }
    // What was built before, under other rules, is of no interest.
    control.close_circuits();
    explore(("tor", network, socks), case, allowed, || control.built())
}

/// The hops of our client's circuits under a case's rules.
fn ours(case: &Case, network: &Network, dir: &Path, allowed: &Hops) -> Hops {
    let socks = network.local(OUR_SOCKS);
    let name = case.name.replace([' ', ','], "_");
    let rules = case.ours.replace("ID1", &id_of(network, "relay1"));
    let log = dir.join(format!("{name}.log"));
    let _ = std::fs::remove_file(&log);
    let more = format!(
        "[log]\nlevel = \"debug\"\nfile = \"{}\"\n[paths]\n{rules}",
        log.display()
    );
    let _client = Client::start(&network.summary.network, dir, &name, socks, &more);
    let mut read = 0;
    explore(("cepa", network, socks), case, allowed, || {
        let text = std::fs::read_to_string(&log).unwrap();
        let end = text.rfind('\n').map_or(0, |at| at + 1);
        let lines = text[read..end].lines();
        read = end;
        let begun = lines.filter_map(|line| line.split_once("a circuit is begun path="));
        begun.map(|(_, path)| names(path)).collect()
    })
}

fn id_of(network: &Network, nickname: &str) -> String {
    let nodes = &network.summary.nodes;
    let node = nodes.iter().find(|node| node.nickname == nickname);
    node.unwrap().rsa.clone().unwrap()
}
