//! The arguments of `cepa testnet`.

use std::path::PathBuf;
use std::time::Duration;

use cepa_testnet::{Share, Transport};
use clap::{Args as ClapArgs, Subcommand};

use super::within;
use crate::config::Level;
use crate::config::node::is_param_name;

/// `cepa testnet`.
#[derive(Debug, ClapArgs)]
pub struct TestnetArgs {
    /// What to do with the network.
    #[command(subcommand)]
    pub command: TestnetCommand,
}

/// The commands on a test network.
#[derive(Debug, Subcommand)]
pub enum TestnetCommand {
    /// Write keys and configurations, start each node, and say when a page can be fetched.
    #[command(after_help = UP_HELP)]
    Up(UpArgs),
    /// Measure networks of this program, and of a peer's, under the same load.
    #[command(after_help = BENCH_HELP)]
    Bench(BenchArgs),
    /// Simulate networks for days, from seeds.
    Sim(SimArgs),
}

const BENCH_HELP: &str = "\
Each round starts a fresh network of each program (3 authorities, 6 relays, 2 exits, a client),
loads it, and stops it; progress goes to standard error, the table of medians to standard output.
Measure with a release build on a machine that does nothing else.

Examples:
  cepa testnet bench --peer tor
  cepa testnet bench --rounds 1 --json figures.json";

/// The arguments of `cepa testnet bench`.
#[derive(Debug, ClapArgs)]
pub struct BenchArgs {
    /// Measure this program, too, in turn with ours.
    #[arg(long, value_name = "PROGRAM")]
    pub peer: Option<Peer>,
    /// How many runs of each program.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = within(1..=100))]
    pub rounds: u16,
    /// How much each stream carries, in millions of bytes.
    #[arg(long, value_name = "MB", default_value_t = 100, value_parser = within(1..=10_000))]
    pub megabytes: u16,
    /// Write all figures to this file.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// The folder of the networks; each is to be new.
    #[arg(long, value_name = "DIR", default_value = "cepa-bench")]
    pub dir: PathBuf,
    /// The first port of a network, if it is to be this one.
    #[arg(long, value_name = "PORT", value_parser = within(1024..=60000))]
    pub base_port: Option<u16>,
}

/// A program of others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Peer {
    /// Debian's `tor`.
    Tor,
}

impl Peer {
    /// Its name as it is typed.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Tor => "tor",
        }
    }
}

/// `cepa testnet sim`.
#[derive(Debug, ClapArgs)]
pub struct SimArgs {
    /// What to simulate.
    #[command(subcommand)]
    pub command: SimCommand,
}

/// The simulations.
#[derive(Debug, Subcommand)]
pub enum SimCommand {
    /// Onion services while relays come and go: does every visitor find them?
    Onions(SimOnionsArgs),
    /// A year of clients and their guards: how many, for how long, and what an adversary sees.
    Guards(SimGuardsArgs),
    /// Authorities that crash, are cut off and lie: is there one consensus an hour, and only one?
    Authorities(SimAuthoritiesArgs),
    /// A whole network: what do its users get, and how is the load spread?
    Network(SimNetworkArgs),
}

/// The arguments of `cepa testnet sim network`.
#[derive(Debug, ClapArgs)]
pub struct SimNetworkArgs {
    /// The seed.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Authorities.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = within(1..=9))]
    pub authorities: u16,
    /// Relays that are no exits.
    #[arg(long, value_name = "N", default_value_t = 12, value_parser = within(2..=5000))]
    pub relays: u16,
    /// Exits.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = within(1..=2000))]
    pub exits: u16,
    /// Clients.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = within(0..=5000))]
    pub clients: u16,
    /// Onion services, each a client that hosts one.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = within(0..=500))]
    pub onion_services: u16,
    /// Hours; parts of one are fine.
    #[arg(long, value_name = "N", default_value_t = 0.25)]
    pub hours: f64,
    /// How long bytes take from machine to machine: 50ms, 0.2s; up to 2s.
    #[arg(long, value_name = "TIME", value_parser = delay, default_value = "20ms")]
    pub delay: Duration,
    /// How much longer at most.
    #[arg(long, value_name = "TIME", value_parser = delay, default_value = "5ms")]
    pub jitter: Duration,
    /// Bytes a second that a machine sends.
    #[arg(long, value_name = "BYTES", default_value_t = 2_000_000)]
    pub rate: u64,
    /// Once in so many times of 20 seconds some relay crashes, and comes again; 0 is never.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub crash_one_in: u64,
    /// Write all figures to this file.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write what happened to this file, a line an event.
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
}

/// The arguments of `cepa testnet sim authorities`.
#[derive(Debug, ClapArgs)]
pub struct SimAuthoritiesArgs {
    /// The first seed.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// How many seeds.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = within(1..=10_000))]
    pub seeds: u16,
    /// Authorities.
    #[arg(long, value_name = "N", default_value_t = 9, value_parser = within(3..=9))]
    pub authorities: u16,
    /// Relays that publish.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = within(1..=2000))]
    pub relays: u16,
    /// Hours, a consensus each.
    #[arg(long, value_name = "N", default_value_t = 168, value_parser = within(1..=8760))]
    pub hours: u16,
    /// Write what came of each seed to this file.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write what happened to this file, a line an event: of one seed only.
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
}

/// The arguments of `cepa testnet sim guards`.
#[derive(Debug, ClapArgs)]
pub struct SimGuardsArgs {
    /// The first seed.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// How many seeds, a year each.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = within(1..=10_000))]
    pub seeds: u16,
}

/// The arguments of `cepa testnet sim onions`.
#[derive(Debug, ClapArgs)]
pub struct SimOnionsArgs {
    /// The first seed.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// How many seeds.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = within(1..=10_000))]
    pub seeds: u16,
    /// Relays, all of them directories of onion services.
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = within(10..=5000))]
    pub relays: u16,
    /// Onion services.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = within(1..=1000))]
    pub services: u16,
    /// Days.
    #[arg(long, value_name = "N", default_value_t = 14, value_parser = within(1..=365))]
    pub days: u16,
}

const UP_HELP: &str = "\
Each relay has an address in a /16 of its own (127.1.0.1, 127.2.0.1, ...). The folder gets
testnet.json (all nodes), network.toml, and torrc and arti.toml, with which a tor or an Arti client
joins. Ctrl-C stops every node; the same folder started again keeps all identities.

Examples:
  cepa testnet up
  cepa testnet up /tmp/net --relays 12 --exits 4 --interval 60
  cepa testnet up --onion-services 1 --delay 50ms
  cepa testnet up --with tor:authority=2,tor:relay=2,tor:client=1
  cepa testnet up --bridges 2 --transport obfs4
  cepa client --network cepa-testnet/network.toml --socks 127.0.0.1:9250";

/// The arguments of `cepa testnet up`.
#[derive(Debug, ClapArgs)]
pub struct UpArgs {
    /// The folder of the network [default: cepa-testnet]
    #[arg(value_name = "DIR", conflicts_with = "dir")]
    pub folder: Option<PathBuf>,
    /// The same as DIR.
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Directory authorities.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = within(0..=9))]
    pub authorities: u16,
    /// Relays that are no exits.
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = within(0..=200))]
    pub relays: u16,
    /// Relays that are exits.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = within(0..=40))]
    pub exits: u16,
    /// Bridges: relays in no consensus, over which the clients go. The folder gets `bridges`, their
    /// lines.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = within(0..=20))]
    pub bridges: u16,
    /// What their traffic is to look like: obfs4 (by lyrebird or obfs4proxy), webtunnel; more by
    /// commas.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub transport: Vec<Transport>,
    /// Clients, each with a SOCKS port.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = within(0..=100))]
    pub clients: u16,
    /// Onion services, each a process of its own that shows the page.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = within(0..=100))]
    pub onion_services: u16,
    /// Nodes besides, which run Debian's tor: tor:ROLE=N, where ROLE is authority, relay, exit,
    /// bridge (without a transport), client or onion; more by commas.
    #[arg(long, value_name = "NODES", value_delimiter = ',')]
    pub with: Vec<Share>,
    /// The program that they run.
    #[arg(long, value_name = "PATH", default_value = "tor")]
    pub tor: PathBuf,
    /// A file with further lines for each of their torrc; {address} is the node's own, {spare_port}
    /// a port that no node has.
    #[arg(long, value_name = "FILE")]
    pub torrc: Option<PathBuf>,
    /// Paths may have two relays of one /16, as with TestingTorNetwork. Each node here has a /16 of
    /// its own; this is for relays that join from elsewhere and have none.
    #[arg(long)]
    pub no_subnet_rule: bool,
    /// A consensus parameter to vote for; may be given several times.
    #[arg(long, value_name = "NAME=VALUE", value_parser = param)]
    pub param: Vec<(String, i32)>,
    /// Seconds from one consensus to the next: a divisor of a day, 10 at least.
    #[arg(long, value_name = "SECONDS", default_value_t = 20)]
    pub interval: u32,
    /// What the nodes that run Cepa log: error, warn, info, debug or trace.
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    pub log: Level,
    /// How long bytes take from node to node: 50ms, 0.2s; up to 2s.
    #[arg(long, value_name = "TIME", value_parser = delay)]
    pub delay: Option<Duration>,
    /// The first port: OR ports are BASE, directory ports BASE+1, SOCKS ports BASE+50 and on. If
    /// not given, what the folder's network had before, else 5000, else 5200 and so on, whichever
    /// has all its ports free.
    #[arg(long, value_name = "BASE", value_parser = within(1024..=60000))]
    pub base_port: Option<u16>,
    /// Seconds after which the network is ended, ready or not, with an error.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    pub timeout: Option<u32>,
    /// A command that is run once the network is ready. The network ends with it, and the exit code
    /// is the command's. It finds in its environment CEPA_SOCKS (address and port; of further
    /// clients CEPA_SOCKS_2 and so on), CEPA_ONION_1 and so on, CEPA_PAGE (a URL that the exits
    /// reach), CEPA_NETWORK (network.toml) and CEPA_DIR.
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<std::ffi::OsString>,
}

/// A consensus parameter such as cc_alg=2.
fn param(text: &str) -> Result<(String, i32), String> {
    let read = text.split_once('=').and_then(|(name, value)| {
        let value = value.parse().ok()?;
        is_param_name(name).then(|| (name.to_owned(), value))
    });
    read.ok_or_else(|| "expected NAME=VALUE, the value a number of 32 bits".to_owned())
}

/// The longest delay of a link, in seconds.
const DELAY_SECS_MAX: f64 = 2.0;

/// A time such as 50ms or 0.2s.
fn delay(text: &str) -> Result<Duration, String> {
    let (number, unit) = match text.strip_suffix("ms") {
        Some(number) => (number, 0.001),
        None => (text.strip_suffix('s').unwrap_or(""), 1.0),
    };
    let seconds = number.parse::<f64>().map(|number| number * unit);
    match seconds {
        Ok(seconds) if (0.0..=DELAY_SECS_MAX).contains(&seconds) => {
            Ok(Duration::from_secs_f64(seconds))
        }
        _ => Err(format!(
            "expected a time such as 50ms or 0.2s, up to {DELAY_SECS_MAX}s"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_and_params_are_read() {
        assert_eq!(delay("50ms"), Ok(Duration::from_millis(50)));
        assert_eq!(delay("0.2s"), Ok(Duration::from_millis(200)));
        assert_eq!(param("cc_alg=2"), Ok(("cc_alg".to_owned(), 2)));
        assert!(param("cc_alg").is_err() && param("a b=1").is_err());
        assert!(delay("50").is_err() && delay("-1s").is_err() && delay("9s").is_err());
    }
}
