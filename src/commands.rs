//! The subcommands: each reads its configuration, starts the log, and runs until it is stopped.

mod authority_compute;
mod authority_consensus;
pub mod authority_keygen;
mod authority_votes;
mod bridge_line;
mod config_print;
pub mod doctor;
pub mod onion;
mod relay_keygen;
pub mod testnet_bench;
pub mod testnet_sim;
pub mod testnet_up;
pub mod tor;
pub mod tor_gencert;

use std::future::Future;
use std::path::Path;
use std::process::ExitCode;

use toml::{Table, Value};

use crate::args::{
    Args, AuthorityArgs, AuthorityCommand, BridgeCommand, ClientArgs, ClientAskArgs, ClientCommand,
    Command, OnionCommand, RelayArgs, RelayCommand, ServeArgs, SimCommand, TestnetCommand,
};
use crate::config::{
    self, AuthorityConfig, ClientConfig, Listener, OnionServiceConfig, RelayConfig,
};
use crate::error::{Failure, fail};
use crate::launched::{Launch, Reporter, Shutdown};
use crate::reload::{Reread, Signals};
use crate::roles::Lifecycle;
use crate::runtime::runtime;
use crate::status::{Question, Subject};
use crate::{logs, roles, status, terminal};

/// Runs the command that was asked for; gives the code of the process.
pub fn run(args: Args) -> Result<ExitCode, Failure> {
    let done = match args.command {
        Command::Authority(args) => authority(args),
        Command::Relay(args) => relay(args),
        Command::Bridge(args) => match args.command {
            BridgeCommand::Line(args) => bridge_line::run(&args),
        },
        Command::Client(args) => client(args),
        Command::Onion(args) => match args.command {
            OnionCommand::Serve(args) => onion_serve(args),
            OnionCommand::Key(args) => onion::key(&args),
            OnionCommand::Status(args) => onion::status(&args),
        },
        Command::Doctor(args) => doctor::run(&args),
        Command::Config(args) => config_print::run(&args),
        // `main` runs it, as its arguments are not ours.
        Command::Tor(_) => Ok(()),
        Command::Testnet(args) => match args.command {
            TestnetCommand::Up(args) => return testnet_up::run(&args),
            TestnetCommand::Bench(args) => testnet_bench::run(&args),
            TestnetCommand::Sim(args) => match args.command {
                SimCommand::Onions(args) => testnet_sim::onions(&args),
                SimCommand::Guards(args) => testnet_sim::guards(&args),
                SimCommand::Authorities(args) => testnet_sim::authorities(&args),
                SimCommand::Network(args) => testnet_sim::network(&args),
            },
        },
    };
    done.map(|()| ExitCode::SUCCESS)
}

fn authority(args: AuthorityArgs) -> Result<(), Failure> {
    match args.command {
        Some(AuthorityCommand::Keygen(args)) => return authority_keygen::run(&args),
        Some(AuthorityCommand::Compute(args)) => return authority_compute::run(&args),
        Some(AuthorityCommand::Status(args)) => {
            return ask(&args.data_dir, Subject::Authority, args.json);
        }
        Some(AuthorityCommand::Health(args)) => return authority_votes::health(&args),
        Some(AuthorityCommand::Why(args)) => return authority_votes::why(&args),
        Some(AuthorityCommand::Diff(args)) => return authority_votes::diff(&args),
        Some(AuthorityCommand::Consensus(args)) => return authority_consensus::run(&args),
        None => {}
    }
    let Some(node) = args.node else {
        return fail(
            "no configuration",
            "cepa authority",
            "give --config FILE or keygen",
        );
    };
    let launched = node.launched;
    let read: Reread<AuthorityConfig> = Box::new(move || config::load_authority(&node.config));
    let config = read()?;
    logs::start(&config.relay.log)?;
    let launch = Launch::by(launched);
    block_on(launch, |lifecycle| {
        roles::authority::run(config, read, lifecycle)
    })
}

fn relay(args: RelayArgs) -> Result<(), Failure> {
    match args.command {
        Some(RelayCommand::Keygen(args)) => return relay_keygen::run(&args),
        Some(RelayCommand::Status(args)) => {
            return ask(&args.data_dir, Subject::Relay, args.json);
        }
        None => {}
    }
    let Some(args) = args.node else {
        return fail("no configuration", "cepa relay", "give --config FILE");
    };
    let launched = args.launched;
    let read: Reread<RelayConfig> = Box::new(move || config::load_relay(&args.config));
    let config = read()?;
    logs::start(&config.log)?;
    let launch = Launch::by(launched);
    block_on(launch, |lifecycle| {
        roles::relay::run(config, read, lifecycle)
    })
}

fn client(args: ClientArgs) -> Result<(), Failure> {
    match &args.command {
        Some(ClientCommand::Guards(args)) => return ask_client(args, Subject::Guards),
        Some(ClientCommand::Circuits(args)) => return ask_client(args, Subject::Circuits),
        None => {}
    }
    run_client(args.launched, Box::new(move || client_config(&args)))
}

/// Runs a client with what `read` gives, now and each time that it is to be read again.
fn run_client(launched: bool, read: Reread<ClientConfig>) -> Result<(), Failure> {
    let config = read()?;
    logs::start(&config.log)?;
    let launch = Launch::by(launched);
    block_on(launch, |lifecycle| {
        roles::client::run(config, read, lifecycle, None)
    })
}

/// Asks a running client for its guards or the like.
fn ask_client(args: &ClientAskArgs, subject: Subject) -> Result<(), Failure> {
    let data_dir = match &args.data_dir {
        Some(data_dir) => data_dir.clone(),
        None => config::client::default_data_dir()?,
    };
    ask(&data_dir, subject, args.json)
}

fn ask(data_dir: &Path, subject: Subject, is_json: bool) -> Result<(), Failure> {
    let question = Question {
        is_json,
        ..Question::about(subject)
    };
    let told = status::ask(data_dir, question)?;
    terminal::say(String::from_utf8_lossy(&told).trim_end());
    Ok(())
}

fn onion_serve(args: ServeArgs) -> Result<(), Failure> {
    run_client(args.launched, Box::new(move || serve_config(&args)))
}

/// A client that hosts one service, and nothing else.
fn serve_config(args: &ServeArgs) -> Result<ClientConfig, Failure> {
    let mut config = config::client::defaults(args.network.clone())?;
    config.socks.clear();
    let data_dir = args.data_dir.clone();
    config.data_dir = data_dir.unwrap_or_else(|| args.dir.join("client"));
    config.vanguards = args.vanguards;
    config.onion_services = vec![OnionServiceConfig::new(
        args.dir.clone(),
        args.ports.clone(),
    )];
    Ok(config)
}

/// The client's file, if any, with the arguments over it.
fn client_config(args: &ClientArgs) -> Result<ClientConfig, Failure> {
    let mut config = match (&args.config, &args.network) {
        (Some(path), _) => config::load_client(path)?,
        (None, Some(network)) => config::client::defaults(network.clone())?,
        (None, None) => return fail("no network", "cepa client", "give --network network.toml"),
    };
    if let Some(network) = &args.network {
        config.network = network.clone().into();
    }
    if !args.socks.is_empty() {
        config.socks = args.socks.iter().copied().map(Listener::from).collect();
    }
    if let Some(data_dir) = &args.data_dir {
        config.data_dir.clone_from(data_dir);
    }
    config.vanguards = args.vanguards.or(config.vanguards);
    config.written.lay_over(&keys_of(args));
    let rules = &mut config.rules;
    for (set, given) in [
        (&mut rules.entry, &args.entry),
        (&mut rules.middle, &args.middle),
        (&mut rules.exit, &args.exit),
        (&mut rules.exclude, &args.exclude),
    ] {
        if !given.is_empty() {
            set.0.clone_from(given);
        }
    }
    Ok(config)
}

/// Arguments as the keys of a file that they stand for: what a controller changes is laid over
/// both.
fn keys_of(args: &ClientArgs) -> Table {
    let mut keys = Table::new();
    let path = |path: &Path| {
        let path = std::path::absolute(path).unwrap_or(path.to_owned());
        Value::String(path.display().to_string())
    };
    if let Some(network) = &args.network {
        keys.insert("network".into(), path(network));
    }
    if let Some(data_dir) = &args.data_dir {
        keys.insert("data_dir".into(), path(data_dir));
    }
    if !args.socks.is_empty() {
        let socks = args.socks.iter().map(|addr| Value::from(addr.to_string()));
        keys.insert("socks".into(), socks.collect::<Vec<_>>().into());
    }
    if let Some(Ok(vanguards)) = args.vanguards.map(Value::try_from) {
        keys.insert("vanguards".into(), vanguards);
    }
    let lists = [
        ("entry", &args.entry),
        ("middle", &args.middle),
        ("exit", &args.exit),
        ("exclude", &args.exclude),
    ];
    let given = lists.into_iter().filter(|(_, list)| !list.is_empty());
    let paths: Table = given
        .map(|(key, list)| {
            let list = list.iter().map(|one| Value::from(one.to_string()));
            (key.to_owned(), list.collect::<Vec<_>>().into())
        })
        .collect();
    if !paths.is_empty() {
        keys.insert("paths".into(), paths.into());
    }
    keys
}

/// Runs a node on a runtime of its own until it ends.
fn block_on<F>(launch: Launch, node: impl FnOnce(Lifecycle) -> F) -> Result<(), Failure>
where
    F: Future<Output = Result<(), Failure>>,
{
    let runtime = runtime()?;
    let done = runtime.block_on(async {
        let lifecycle = Lifecycle {
            reporter: Reporter::new(launch),
            shutdown: Shutdown::watch(launch)?,
            signals: match launch.leaves_signals {
                true => Signals::unwatched(),
                false => Signals::watch()?,
            },
            torrc: None,
        };
        node(lifecycle).await
    });
    // What still runs is of no use to anybody; a look-up that blocks must not hold up the exit.
    runtime.shutdown_background();
    done
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    #[test]
    fn arguments_override_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("client.toml");
        std::fs::write(&file, "network = \"n.toml\"\nsocks = [\"127.0.0.1:1\"]\n").unwrap();
        let file = file.to_str().unwrap();
        let parse = |extra: &[&str]| {
            let given = [&["cepa", "client", "--config", file], extra].concat();
            match Args::parse_from(given).command {
                Command::Client(args) => client_config(&args).unwrap(),
                other => panic!("{other:?}"),
            }
        };
        let network = |config: ClientConfig| config.network.to_string();
        let named = dir.path().join("n.toml").display().to_string();
        assert_eq!(network(parse(&[])), named);
        let over = parse(&["--socks", "127.0.0.1:2", "--network", "m.toml"]);
        assert_eq!(over.socks[0].addr, "127.0.0.1:2".parse().unwrap());
        // What a controller changes is laid over these, too.
        let socks = over.written.table()["socks"].as_array().unwrap();
        assert_eq!(socks[0].as_str(), Some("127.0.0.1:2"));
        assert_eq!(network(over), "m.toml");
        let ruled = parse(&["--exit", "{de},moria1", "--entry", "192.0.2.0/24"]).rules;
        assert_eq!((ruled.exit.0.len(), ruled.entry.0.len()), (2, 1));
        assert!(ruled.needs_geoip() && ruled.exclude.is_empty());
    }
}
