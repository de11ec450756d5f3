//! The arguments of `cepa authority`.

use std::net::SocketAddr;
use std::path::PathBuf;

use cepa_crypto::RsaId;
use clap::{Args as ClapArgs, Subcommand};

use super::{AskArgs, NodeArgs, within};

/// `cepa authority`: either `--config F` or `keygen`.
#[derive(Debug, ClapArgs)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = AUTHORITY_HELP,
    arg_required_else_help = true
)]
pub struct AuthorityArgs {
    /// The key command, if any.
    #[command(subcommand)]
    pub command: Option<AuthorityCommand>,
    /// What any node takes.
    #[command(flatten)]
    pub node: Option<NodeArgs>,
}

const AUTHORITY_HELP: &str = "\
Examples:
  cepa authority keygen --dir auth/keys --address 203.0.113.5:9030
  cepa authority --config authority.toml
  cepa authority compute --authorities 9 votes/*
  cepa authority health --data-dir auth
  cepa authority why --network network.toml 0123456789ABCDEF0123456789ABCDEF01234567

A configuration:
  nickname = \"auth1\"
  contact = \"you@example.org\"
  address = \"203.0.113.5\"
  or_port = 9001
  dir_port = 9030
  data_dir = \"auth\"             # holds keys/authority_signing_key, authority_certificate
  network = \"network.toml\"      # all authorities, this one included
  [authority]
  voting_interval = 3600        # seconds; a divisor of a day
  initial_voting_interval = 1800   # while no consensus is in force; half of it without a word
  consensus_method_max = 35     # 36 and 37 leave out TAP keys, and family lists
  auth_dir_max_servers_per_addr = 2   # relays that may be Running on one address; 0: any number
  tests_ipv6 = true             # relays are tested over IPv6, too: where there is IPv6
  bandwidth_file = \"/var/lib/sbws/v3bw/latest.v3bw\"   # followed; also guardfraction_file
  archive_dir = \"archive\"       # keeps every consensus and vote, as CollecTor does
  approved_routers = \"approved-routers\"   # rules in tor's format; read again on SIGHUP
  [authority.flags]             # what is enough for a flag; tor's options, for example
  auth_dir_guard_bw_guarantee = 2000000
  [[authority.rules]]             # the same here, by fingerprint, Ed25519 id, network or {country}
  relays = [\"192.0.2.0/24\"]
  verdicts = [\"reject\"]   # invalid, badexit, middleonly, stripguard, striphsdir, stripv2dir
  comment = \"asked to stop by its owner\"";

/// What is done beside running an authority.
#[derive(Debug, Subcommand)]
pub enum AuthorityCommand {
    /// Make the long-term identity key and the signing certificate of an authority.
    #[command(after_help = KEYGEN_HELP)]
    Keygen(KeygenArgs),
    /// Compute the consensus of votes, and write it without signatures to standard output.
    #[command(after_help = COMPUTE_HELP)]
    Compute(ComputeArgs),
    /// Say how a running authority is: its round, certificates, and what it voted for.
    Status(AskArgs),
    /// Say what is wrong with the rounds: who did not vote or sign, clocks, certificates.
    #[command(after_help = HEALTH_HELP)]
    Health(AskArgs),
    /// Say why a relay has the flags that it has, and by how much it misses the others.
    #[command(after_help = WHY_HELP)]
    Why(WhyArgs),
    /// Say in what the votes of a round differ.
    #[command(after_help = DIFF_HELP)]
    Diff(DiffArgs),
    /// Print the consensus that was in force at some time, from an archive.
    #[command(after_help = CONSENSUS_HELP)]
    Consensus(ConsensusArgs),
}

const COMPUTE_HELP: &str = "\
For whoever checks an archive: the bytes are those that the authorities signed, up to the
signatures. A vote that no authority would take is left out, and standard error says why. The order
of the files is that in which the votes arrived, which matters where two spellings of a version are
equal.

Example:
  cepa authority compute --authorities 9 --flavour microdesc votes/*";

/// The arguments of `cepa authority compute`.
#[derive(Debug, ClapArgs)]
pub struct ComputeArgs {
    /// How many authorities the network has, whether they voted or not.
    #[arg(long, value_name = "N", value_parser = within(1..=128))]
    pub authorities: u16,
    /// The flavour: ns or microdesc.
    #[arg(long, value_name = "NAME", default_value = "ns", value_parser = ["ns", "microdesc"])]
    pub flavour: String,
    /// The highest consensus method that is computed. That of `tor` 0.4.9.11 unless it is said;
    /// authorities of ours, and of 0.4.9.15, compute up to 37.
    #[arg(long, value_name = "N", default_value_t = 35, value_parser = within(32..=37))]
    pub method_max: u16,
    /// The round was the first of a run of shared randomness: a new value needs more votes.
    #[arg(long)]
    pub fresh_shared_random: bool,
    /// Files, each with a vote.
    #[arg(required = true, value_name = "VOTE")]
    pub votes: Vec<PathBuf>,
}

const KEYGEN_HELP: &str = "\
Writes authority_identity_key (keep it offline), authority_signing_key and authority_certificate
(both go into the authority's data_dir/keys), in the formats of tor-gencert. An identity key that is
already there is used again: that is how a certificate is renewed; a running authority takes it on
SIGHUP. -i, -s, -c, -m, -a, -r and --create-identity-key are tor-gencert's; keys under a passphrase
are not read.

An authority that gets another identity goes on signing with its former one: the files of that are
called legacy_signing_key and legacy_certificate, in the same folder.

Examples:
  cepa authority keygen --dir auth/keys --address 203.0.113.5:9030 --months 12
  cepa authority keygen -i offline/authority_identity_key -s key -c certificate -m 6";

/// The arguments of `cepa authority keygen`.
#[derive(Debug, ClapArgs)]
pub struct KeygenArgs {
    /// The folder for the three files.
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub dir: PathBuf,
    /// The address of the authority's directory port, to be named in the certificate.
    #[arg(short, long, value_name = "IP:DIRPORT")]
    pub address: Option<SocketAddr>,
    /// Make an identity key, and fail if there is one; without it one is made if there is none.
    #[arg(long)]
    pub create_identity_key: bool,
    /// Certify the signing key that is there again, instead of making one.
    #[arg(short, long)]
    pub reuse: bool,
    /// The file of the identity key [default: DIR/authority_identity_key]
    #[arg(short, long, value_name = "FILE")]
    pub identity_key: Option<PathBuf>,
    /// The file of the signing key [default: DIR/authority_signing_key]
    #[arg(short, long, value_name = "FILE")]
    pub signing_key: Option<PathBuf>,
    /// The file of the certificate [default: DIR/authority_certificate]
    #[arg(short, long, value_name = "FILE")]
    pub certificate: Option<PathBuf>,
    /// How long the signing certificate is good.
    #[arg(short, long, value_name = "N", default_value_t = 12, value_parser = within(1..=24))]
    pub months: u16,
}

const HEALTH_HELP: &str = "\
Fails if there is something to do something about, so that a script or a timer can mail it. The same
numbers are metrics of the authority (metrics = \"127.0.0.1:9035\" in its configuration):
cepa_authority_….

Example:
  cepa authority health --data-dir auth || cepa authority status --data-dir auth";

const WHY_HELP: &str = "\
Asks a running authority, which knows more than it votes: rules and their comments, tests, uptime.
Or reads public votes: those that the authorities of a network serve, or files. For each flag: who
gave it, what the others asked for, what the relay has, and by how much it missed.

Examples:
  cepa authority why 0123456789ABCDEF0123456789ABCDEF01234567 --data-dir auth
  cepa authority why 0123456789ABCDEF0123456789ABCDEF01234567 --network network.toml
  cepa authority why 0123456789ABCDEF0123456789ABCDEF01234567 --authorities 9 votes/*";

/// The arguments of `cepa authority why`.
#[derive(Debug, ClapArgs)]
pub struct WhyArgs {
    /// The relay: 40 hexadecimal digits.
    #[arg(value_name = "FINGERPRINT", value_parser = fingerprint)]
    pub relay: RsaId,
    /// The data folder of a running authority, which is asked.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["network", "votes"])]
    pub data_dir: Option<PathBuf>,
    /// The network (TOML) whose authorities are asked for their votes.
    #[arg(long, value_name = "FILE", conflicts_with = "votes")]
    pub network: Option<PathBuf>,
    /// How many authorities the network has; as many as there are votes, unless it is said.
    #[arg(long, value_name = "N", requires = "votes", value_parser = within(1..=128))]
    pub authorities: Option<u16>,
    /// Files, each with a vote.
    #[arg(value_name = "VOTE")]
    pub votes: Vec<PathBuf>,
    /// As JSON.
    #[arg(long)]
    pub json: bool,
}

const DIFF_HELP: &str = "\
Relays that only some list, flags on which they disagree, parameters, versions, protocols, shared
randomness.

Examples:
  cepa authority diff --network network.toml
  cepa authority diff --json votes/*";

/// The arguments of `cepa authority diff`.
#[derive(Debug, ClapArgs)]
pub struct DiffArgs {
    /// The network (TOML) whose authorities are asked for their votes.
    #[arg(long, value_name = "FILE", conflicts_with = "votes")]
    pub network: Option<PathBuf>,
    /// Files, each with a vote.
    #[arg(value_name = "VOTE", required_unless_present = "network")]
    pub votes: Vec<PathBuf>,
    /// As JSON.
    #[arg(long)]
    pub json: bool,
}

const CONSENSUS_HELP: &str = "\
The archive is one of CollecTor's layout: what archive_dir of an authority keeps, or CollecTor's own
files (relay-descriptors/consensus/YYYY/MM/DD/…). DATE is a day or a time, UTC; the consensus is the
last that had begun then.

Examples:
  cepa authority consensus 2026-11-29T12:30 --archive archive
  cepa authority consensus 2026-11-29 --archive archive --flavour microdesc";

/// The arguments of `cepa authority consensus`.
#[derive(Debug, ClapArgs)]
pub struct ConsensusArgs {
    /// YYYY-MM-DD, or a time behind it: THH:MM or THH:MM:SS.
    #[arg(value_name = "DATE")]
    pub date: String,
    /// The folder of the archive.
    #[arg(long, value_name = "DIR")]
    pub archive: PathBuf,
    /// The flavour: ns or microdesc.
    #[arg(long, value_name = "NAME", default_value = "ns", value_parser = ["ns", "microdesc"])]
    pub flavour: String,
}

/// A fingerprint, with or without `$` and spaces.
fn fingerprint(text: &str) -> Result<RsaId, String> {
    let joined: String = text.split_whitespace().collect();
    let read = joined.trim_start_matches('$').parse();
    read.map_err(|_| "expected 40 hexadecimal digits".to_owned())
}
