//! The arguments of the command `cepa`.
//!
//! What a node does is in its configuration file; arguments are few, and each `--help` ends with
//! lines that can be typed as they are.

mod authority;
mod testnet;

use std::net::SocketAddr;
use std::path::PathBuf;

use cepa_client::{RelayPattern, VanguardMode};
use clap::{Args as ClapArgs, Parser, Subcommand};

use crate::config::onion::PortTarget;

pub use self::authority::{
    AuthorityArgs, AuthorityCommand, ComputeArgs, ConsensusArgs, DiffArgs, KeygenArgs, WhyArgs,
};
pub use self::testnet::{
    BenchArgs, Peer, SimArgs, SimAuthoritiesArgs, SimCommand, SimGuardsArgs, SimNetworkArgs,
    SimOnionsArgs, TestnetArgs, TestnetCommand, UpArgs,
};

/// An onion-routing network: authorities, relays and clients in one program.
#[derive(Debug, Parser)]
#[command(name = "cepa", version, about, after_help = ROOT_HELP, arg_required_else_help = true)]
pub struct Args {
    /// What to run.
    #[command(subcommand)]
    pub command: Command,
}

const ROOT_HELP: &str = "\
Examples:
  cepa testnet up                     a whole network on this machine, and a curl line to try it
  cepa client --network network.toml  join a network; programs use SOCKS at 127.0.0.1:9050
  cepa onion serve --network network.toml 80=127.0.0.1:8080
                                      host a site without a public address
  cepa relay --config relay.toml      carry the traffic of others
  cepa authority keygen --dir auth    keys of a new directory authority";

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a directory authority, or make its keys.
    Authority(AuthorityArgs),
    /// Run a relay.
    Relay(RelayArgs),
    /// Say how to hand out a bridge.
    Bridge(BridgeArgs),
    /// Run a client with a SOCKS port.
    Client(ClientArgs),
    /// Host onion services.
    Onion(OnionArgs),
    /// Look at a configuration, its folder and this machine, and say what will not work.
    #[command(after_help = DOCTOR_HELP)]
    Doctor(DoctorArgs),
    /// Print a torrc as a configuration of ours, or the other way round.
    #[command(after_help = CONFIG_HELP)]
    Config(ConfigArgs),
    /// Read a torrc and arguments as `tor` does, and be what they say.
    #[command(after_help = TOR_HELP, disable_help_flag = true)]
    Tor(TorArgs),
    /// Run a whole network on this machine.
    Testnet(TestnetArgs),
}

const CONFIG_HELP: &str = "\
A FILE whose name ends in .toml is ours; any other is a torrc. docs/torrc.md says what each option
of tor is here.

Examples:
  cepa config /etc/tor/torrc > client.toml
  cepa config client.toml > torrc";

/// `cepa config`.
#[derive(Debug, ClapArgs)]
pub struct ConfigArgs {
    /// A torrc, or a configuration (TOML).
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

const TOR_HELP: &str = "\
The same happens by a link to this program whose name is tor. Where a torrc has no DirAuthority, the
network is that of the file which CEPA_NETWORK names, or of /etc/cepa/network.toml.

Examples:
  cepa tor -f torrc
  cepa tor -f torrc --verify-config
  cepa tor --hash-password SECRET
  ln -s cepa tor; ./tor SocksPort auto ControlPort auto CookieAuthentication 1";

/// `cepa tor`.
#[derive(Debug, ClapArgs)]
pub struct TorArgs {
    /// As tor has them: -f FILE, --defaults-torrc FILE, --verify-config, --OPTION VALUE, ...
    #[arg(
        value_name = "ARGS",
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    pub arguments: Vec<String>,
}

const DOCTOR_HELP: &str = "\
Starts nothing and writes nothing. Looks at rights, disk, descriptors, memory, sysctls, ports, keys
and their certificates, the authorities and their clocks, and the name servers of an exit. Fails if
something will not work.

Examples:
  cepa doctor --config relay.toml
  cepa doctor --config client.toml --json";

/// `cepa doctor`.
#[derive(Debug, ClapArgs)]
pub struct DoctorArgs {
    /// The configuration of a relay, an authority or a client (TOML).
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Print the findings as JSON.
    #[arg(long)]
    pub json: bool,
}

/// `cepa relay`: either `--config F`, or a command of its own.
#[derive(Debug, ClapArgs)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = RELAY_HELP,
    arg_required_else_help = true
)]
pub struct RelayArgs {
    /// The key command or the question, if any.
    #[command(subcommand)]
    pub command: Option<RelayCommand>,
    /// What any node takes.
    #[command(flatten)]
    pub node: Option<NodeArgs>,
}

/// What is done without starting a relay.
#[derive(Debug, Subcommand)]
pub enum RelayCommand {
    /// Make the master identity key of a relay, to be kept offline, or renew its signing key.
    #[command(after_help = RELAY_KEYGEN_HELP)]
    Keygen(RelayKeygenArgs),
    /// Say how a running relay is: its keys, policy, bounds, and what it carries.
    Status(AskArgs),
}

/// The arguments of `cepa relay status` and `cepa authority status`.
#[derive(Debug, ClapArgs)]
pub struct AskArgs {
    /// The data folder of the running process.
    #[arg(long, value_name = "DIR")]
    pub data_dir: PathBuf,
    /// As JSON.
    #[arg(long)]
    pub json: bool,
}

const BRIDGE_LINE_HELP: &str = "\
A bridge is a relay whose configuration has bridge = true (docs/bridges.md). It writes its lines to
the file bridgelines of its data folder, anew when its address or a transport changes.

Examples:
  cepa bridge line --data-dir bridge1";

/// `cepa bridge`.
#[derive(Debug, ClapArgs)]
pub struct BridgeArgs {
    /// What to say.
    #[command(subcommand)]
    pub command: BridgeCommand,
}

/// What is told of a bridge.
#[derive(Debug, Subcommand)]
pub enum BridgeCommand {
    /// Print the lines that lead to a bridge, to be handed to who needs it.
    #[command(after_help = BRIDGE_LINE_HELP)]
    Line(BridgeLineArgs),
}

/// The arguments of `cepa bridge line`.
#[derive(Debug, ClapArgs)]
pub struct BridgeLineArgs {
    /// The data folder of the bridge.
    #[arg(long, value_name = "DIR")]
    pub data_dir: PathBuf,
}

const RELAY_KEYGEN_HELP: &str = "\
The files are tor's (tor --keygen), and belong into keys/ of the relay's data folder: all but
ed25519_master_id_secret_key, which stays where this runs. Before a signing key ends the relay says
so, and takes the two files that --renew writes when it gets SIGHUP.

Examples:
  cepa relay keygen --dir master --days 90
  cepa relay keygen --dir master --days 90 --renew";

/// The arguments of `cepa relay keygen`.
#[derive(Debug, ClapArgs)]
pub struct RelayKeygenArgs {
    /// The folder for the four files.
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub dir: PathBuf,
    /// How long the signing key is good.
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = within(1..=366))]
    pub days: u16,
    /// Make a signing key only, for the master key that is there.
    #[arg(long)]
    pub renew: bool,
}

/// The arguments of a relay or authority.
#[derive(Debug, ClapArgs)]
pub struct NodeArgs {
    /// The configuration (TOML).
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Started by a launcher: stages to standard output, stop when standard input ends.
    #[arg(long, hide = true)]
    pub launched: bool,
}

const RELAY_HELP: &str = "\
Examples:
  cepa relay --config relay.toml
  cepa relay status --data-dir relay1
  cepa relay keygen --dir master      a master key that is kept offline

A configuration:
  nickname = \"relay1\"
  contact = \"you@example.org\"
  address = \"203.0.113.7\"
  or_port = 9001
  data_dir = \"relay1\"
  network = \"network.toml\"
  exit_policy = [\"accept *:80\", \"accept *:443\"]   # without it: no exit

What no rule accepts is refused. As tor's options of the same names:
  reduced_exit_policy = true                        # ports of common services, behind the rules
  ipv6_exit = true                                  # streams may leave over IPv6, too
  exit_policy_reject_private = false                # not even internal addresses are refused
  exit_policy_reject_local_interfaces = true        # all addresses of this machine are
  reevaluate_exit_policy = true                     # a new policy closes streams that it refuses
  outbound_bind_address_exit = [\"203.0.113.8\"]      # where streams leave from
In a test network (testing = true) internal addresses and IPv6 are allowed without a word.";

/// The arguments of a client.
#[derive(Debug, ClapArgs)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = CLIENT_HELP,
    arg_required_else_help = true
)]
pub struct ClientArgs {
    /// A question to a running client, if any.
    #[command(subcommand)]
    pub command: Option<ClientCommand>,
    /// The network to join: its authorities and fallback directories (TOML).
    #[arg(long, value_name = "FILE", required_unless_present = "config")]
    pub network: Option<PathBuf>,
    /// Where to listen for programs that speak SOCKS 4a or 5; may be given several times.
    #[arg(long, value_name = "IP:PORT")]
    pub socks: Vec<SocketAddr>,
    /// A configuration (TOML), for all that has no argument of its own.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where guards and directory documents are kept.
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Relays to enter the network by: $FINGERPRINT, nickname, address range, {cc}, with commas
    #[arg(long, value_name = "RELAYS", value_delimiter = ',')]
    pub entry: Vec<RelayPattern>,
    /// Relays for the hops between.
    #[arg(long, value_name = "RELAYS", value_delimiter = ',')]
    pub middle: Vec<RelayPattern>,
    /// Relays to leave the network by.
    #[arg(long, value_name = "RELAYS", value_delimiter = ',')]
    pub exit: Vec<RelayPattern>,
    /// Relays to use nowhere.
    #[arg(long, value_name = "RELAYS", value_delimiter = ',')]
    pub exclude: Vec<RelayPattern>,
    /// How long hops behind the guard are kept in circuits for onion services: full, lite or off
    #[arg(long, value_name = "MODE")]
    pub vanguards: Option<VanguardMode>,
    /// Started by a launcher: stages to standard output, stop when standard input ends.
    #[arg(long, hide = true)]
    pub launched: bool,
}

const CLIENT_HELP: &str = "\
Examples:
  cepa client --network network.toml
  cepa client --network network.toml --socks 127.0.0.1:9150
  cepa client --network network.toml --exit '{de},{nl}' --exclude 192.0.2.0/24
  curl --socks5-hostname 127.0.0.1:9050 http://example.com/
  cepa client guards
  cepa client circuits

Rules on paths in a configuration mean what tor's EntryNodes, MiddleNodes, ExitNodes, ExcludeNodes,
ExcludeExitNodes and StrictNodes mean:
  [paths]
  entry = [\"$0123456789ABCDEF0123456789ABCDEF01234567\", \"nickname\"]
  exit = [\"{de}\"]               # countries: geoip and geoip6 name files of tor's format
  exclude = [\"192.0.2.0/24\", \"[2001:db8::]/32\"]
  exclude_exit = [\"{??}\"]
  strict = true                  # not even where an onion service chose an excluded relay
  layer2 = [\"nickname\"]          # second and third hops (layer3) to onion services: HSLayer2Nodes
  families = [\"one, another\"]    # no two of these share a path: a line of NodeFamily each

vanguards = \"full\" (before any table; or --vanguards full) keeps second hops for days and third
hops for hours in circuits for onion services, also over restarts; \"lite\", which is what there is
without a word unless the network says otherwise, only second hops until it ends; \"off\" neither.

As tor's options of the same names, at the top of a configuration (false in test networks):
  client_reject_internal_addresses = true      # no connections to internal addresses and localhost
  client_dns_reject_internal_addresses = true  # exits that tell such addresses are not believed

Padding, at the top of a configuration (full, reduced or off):
  channel_padding = \"full\"       # tor's ConnectionPadding and ReducedConnectionPadding
  circuit_padding = \"full\"       # of visits to onion services: CircuitPadding and its kin

What else tor has options for (docs/torrc.md has all); times are in seconds:
  [guards]                       # used, primary, directory, lifetime
  [path_bias]                    # notice, warn, extreme, drop_guards, ...
  [circuits]                     # build_timeout, stream_timeout, request_timeout, pending_max, ...
  [fetches]                      # network, onion_descriptors, publish_onion_descriptors
  [dormancy]                     # enabled, after, idle_streams, at_first_start, canceled_by_start
  [reach]                        # what may be connected to, as from behind a firewall:
  addresses = [\"accept *:443\"]   # and nothing else
  ipv4 = false                   # ipv6, prefer_ipv6

A control port, for programs that drive tor; without [control] there is none:
  [control]
  listen = [\"auto\"]             # a free port of loopback; or PORT, ADDRESS:PORT, unix:PATH
  write_to_file = \"FILE\"        # which port it is, as ControlPortWriteToFile
  cookie = true                  # in control_auth_cookie of the data folder, or in cookie_file
  profile = \"nyx\"               # what the cookie is good for; without: everything
  [[control.passwords]]          # hash = \"16:...\" (tor --hash-password), profile
  [[control.profiles]]           # name, commands, keys, options_told, options_set, signals,
                                 # events, targets, detach: what is not given is not allowed";

/// The questions to a running client.
#[derive(Debug, Subcommand)]
pub enum ClientCommand {
    /// Say which relays are its guards, since when, and why; and which its vanguards.
    Guards(ClientAskArgs),
    /// Say which circuits it has, and how long they may take.
    Circuits(ClientAskArgs),
}

/// The arguments of `cepa client guards` and `cepa client circuits`.
#[derive(Debug, ClapArgs)]
pub struct ClientAskArgs {
    /// The data folder of the running client [default: that of a client without --data-dir]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// As JSON.
    #[arg(long)]
    pub json: bool,
}

/// `cepa onion`.
#[derive(Debug, ClapArgs)]
pub struct OnionArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: OnionCommand,
}

/// The commands on onion services.
#[derive(Debug, Subcommand)]
pub enum OnionCommand {
    /// Host an onion service: print its address once it can be visited.
    #[command(after_help = SERVE_HELP)]
    Serve(ServeArgs),
    /// Make a key with which a client may visit a service that is not open to all.
    #[command(after_help = KEY_HELP)]
    Key(KeyArgs),
    /// Say how the onion services of a running process are.
    #[command(after_help = STATUS_HELP)]
    Status(StatusArgs),
}

const SERVE_HELP: &str = "\
The folder is as tor's HiddenServiceDir: hostname, hs_ed25519_secret_key, authorized_clients/. One
that tor made can be used as it is, and the other way round. Several services in one process:
[[onion_service]] tables in the configuration of `cepa client --config`. SIGHUP reads both again.
A service that is there for long and has enemies does well with --vanguards full (vanguards-spec).

Examples:
  cepa onion serve --network network.toml 80=127.0.0.1:8080
  cepa onion serve --network network.toml --dir blog 80=8080 22=unix:/run/ssh.sock";

/// The arguments of `cepa onion serve`.
#[derive(Debug, ClapArgs)]
pub struct ServeArgs {
    /// The network to join: its authorities and fallback directories (TOML).
    #[arg(long, value_name = "FILE")]
    pub network: PathBuf,
    /// The folder of the service, made if need be.
    #[arg(long, value_name = "DIR", default_value = "cepa-onion")]
    pub dir: PathBuf,
    /// Where guards and directory documents are kept [default: DIR/client]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// A port of the service, and where it leads: 80=127.0.0.1:8080, 80=8080, 22=unix:PATH, 80
    #[arg(value_name = "PORT=TARGET", required = true)]
    pub ports: Vec<PortTarget>,
    /// How long hops behind the guard are kept in circuits for onion services: full, lite or off
    #[arg(long, value_name = "MODE")]
    pub vanguards: Option<VanguardMode>,
    /// Started by a launcher: stages to standard output, stop when standard input ends.
    #[arg(long, hide = true)]
    pub launched: bool,
}

const KEY_HELP: &str = "\
Writes NAME.auth for the service (into authorized_clients/ of its folder) and NAME.auth_private for
the client (into the folder that its onion_auth_dir names, or tor's ClientOnionAuthDir).

Example:
  cepa onion key ADDRESS.onion --name alice";

/// The arguments of `cepa onion key`.
#[derive(Debug, ClapArgs)]
pub struct KeyArgs {
    /// The service's address.
    #[arg(value_name = "ADDRESS")]
    pub address: String,
    /// The name of the files.
    #[arg(long, value_name = "NAME", default_value = "client")]
    pub name: String,
    /// The folder for them.
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub dir: PathBuf,
}

const STATUS_HELP: &str = "\
Example:
  cepa onion status --data-dir cepa-onion/client";

/// The arguments of `cepa onion status`.
#[derive(Debug, ClapArgs)]
pub struct StatusArgs {
    /// The data folder of the running process.
    #[arg(long, value_name = "DIR", default_value = "cepa-onion/client")]
    pub data_dir: PathBuf,
    /// As JSON.
    #[arg(long)]
    pub json: bool,
    /// Do not try to visit the services.
    #[arg(long)]
    pub no_probe: bool,
}

/// A number of that range.
fn within(range: std::ops::RangeInclusive<i64>) -> clap::builder::RangedI64ValueParser<u16> {
    clap::value_parser!(u16).range(range)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn authority_takes_a_config_or_keygen() {
        assert!(Args::try_parse_from(["cepa", "authority", "--config", "a.toml"]).is_ok());
        assert!(Args::try_parse_from(["cepa", "authority", "keygen", "--dir", "d"]).is_ok());
        assert!(Args::try_parse_from(["cepa", "authority"]).is_err());
        assert!(Args::try_parse_from(["cepa", "client"]).is_err());
        assert!(Args::try_parse_from(["cepa", "client", "--network", "n"]).is_ok());
        assert!(Args::try_parse_from(["cepa", "client", "guards"]).is_ok());
        assert!(Args::try_parse_from(["cepa", "client", "circuits"]).is_ok());
        let authority = |rest: &str| {
            let words = format!("cepa authority {rest}");
            Args::try_parse_from(words.split(' ').map(str::to_owned)).is_ok()
        };
        let id = "0123456789abcdef0123456789abcdef01234567";
        assert!(authority(&format!("why {id} --data-dir d")));
        assert!(authority(&format!("why ${id} --network n --json")));
        assert!(authority(&format!("why {id} a b --authorities 3")));
        assert!(!authority("why 0123 --data-dir d"));
        assert!(!authority(&format!("why {id} --data-dir d --network n")));
        assert!(authority("diff a b") && authority("diff --network n") && !authority("diff"));
        assert!(authority("consensus 2026-11-29 --archive a") && authority("health --data-dir d"));
        let relay = |rest: &[&str]| Args::try_parse_from([&["cepa", "relay"], rest].concat());
        assert!(relay(&["--config", "r.toml"]).is_ok() && relay(&[]).is_err());
        assert!(relay(&["status", "--data-dir", "d", "--json"]).is_ok());
    }
}
