//! `cepa testnet bench`: the same network of our program and of a peer's, in turn, under the same
//! load on the same machine.
//!
//! Each run starts a fresh network by `cepa testnet up`, waits until it is ready, and loads it
//! through its client: bytes of one stream, of eight, single bytes on ready circuits. Processor
//! time and memory are the kernel's figures of its processes. Then a client of ours, in either
//! network, builds circuits whose middle hop is one relay. Machines are noisy: programs take
//! turns, and medians and ratios are what counts.

mod load;
mod network;
mod report;
mod usage;

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use self::network::Network;
use self::report::{Figures, Report};
use crate::args::BenchArgs;
use crate::error::{Failure, fail};
use crate::folder::Folder;
use crate::{listen, terminal};

/// Our program's name in the report.
const OURS: &str = "cepa";
/// Streams that are carried at once in one of the figures.
const STREAMS: u16 = 8;
/// Single bytes that are fetched for the median of the first byte.
const FIRST_BYTES: usize = 21;
/// Circuits that are built through one middle hop, and how many of them at once.
const CIRCUITS: (u16, usize) = (400, 16);
/// How long a network that is ready may take to carry a first stream to the source.
const WARM_UP_MAX: Duration = Duration::from_secs(60);

/// Runs all, prints the table, and writes the file that was asked for.
pub fn run(args: &BenchArgs) -> Result<(), Failure> {
    let folder = Folder::open(&args.dir)?;
    let runtime = crate::runtime::runtime()?;
    let peer = args.peer.map(|peer| peer.name());
    let mut report = Report::default();
    for round in 1..=args.rounds {
        for program in std::iter::once(OURS).chain(peer) {
            let name = format!("{program}{round}");
            let figures = runtime.block_on(bench(args, program, &folder.path().join(&name)))?;
            terminal::complain(&format!("{name}: {figures}"));
            report.runs.entry(program).or_default().push(figures);
        }
    }
    runtime.shutdown_background();
    terminal::say(&report.table(OURS, peer));
    match &args.json {
        Some(file) => {
            let json = format!("{:#}\n", report.json(OURS, peer));
            std::fs::write(file, json)
                .map_err(|error| Failure::new("cannot be written", file.display(), error))
        }
        None => Ok(()),
    }
}

/// One run: a network of this program, from nothing to its end.
async fn bench(args: &BenchArgs, program: &str, folder: &Path) -> Result<Figures, Failure> {
    let source = listen::listen(SocketAddr::from(([127, 0, 0, 1], 0)), "source").await?;
    let target = source
        .local_addr()
        .map_err(|error| Failure::new("no address", "source", error))?;
    let source = tokio::spawn(load::serve(source));
    let network = Network::up(folder, args.base_port, program == OURS).await?;
    let figures = measure(args, &network, target).await;
    network.down().await;
    source.abort();
    figures
}

async fn measure(
    args: &BenchArgs,
    network: &Network,
    target: SocketAddr,
) -> Result<Figures, Failure> {
    let wrong = |error| Failure::new("a stream failed", network.folder.display(), error);
    let socks = network.socks()?;
    let fetch = |bytes| load::fetch(socks, target, bytes, None);
    load::until_fetched(socks, target, WARM_UP_MAX)
        .await
        .map_err(wrong)?;

    let mut first_bytes = Vec::with_capacity(FIRST_BYTES);
    for _ in 0..FIRST_BYTES {
        let fetched = fetch(1).await.map_err(wrong)?;
        first_bytes.push(fetched.first_byte.as_secs_f64() * 1e3);
    }

    let nodes = network.pids();
    let size = u64::from(args.megabytes) * 1_000_000;
    let before = usage::cpu_of(&nodes)?;
    let one = fetch(size).await.map_err(wrong)?.whole;
    let eight = load::fetch_at_once(socks, target, STREAMS.into(), size)
        .await
        .map_err(wrong)?;
    let cpu = usage::cpu_of(&nodes)?.saturating_sub(before);
    let megabytes = f64::from(args.megabytes);
    let carried = megabytes * f64::from(1 + STREAMS);

    let relays = network.relay_pids();
    let resident: Result<Vec<_>, Failure> = relays
        .iter()
        .map(|pid| usage::of(*pid).map(|used| used.resident_mb()))
        .collect();

    let (circuits_per_s, middle_cpu_ms_per_circuit) = circuits(network, target).await?;
    let (Some(first_byte_ms), Some(resident)) =
        (report::median(first_bytes), report::median(resident?))
    else {
        return fail("nothing to measure", network.folder.display(), "no relay");
    };
    Ok(Figures {
        start_to_first_page_s: network.ready_after.as_secs_f64(),
        first_byte_ms,
        one_stream_mb_per_s: megabytes / one.as_secs_f64(),
        eight_streams_mb_per_s: megabytes * f64::from(STREAMS) / eight.as_secs_f64(),
        cpu_ms_per_mb: cpu.as_secs_f64() * 1e3 / carried,
        resident_mb_per_relay: resident,
        circuits_per_s,
        middle_cpu_ms_per_circuit,
    })
}

/// Circuits a second through one middle hop, and its processor time for each, in milliseconds.
async fn circuits(network: &Network, target: SocketAddr) -> Result<(f64, f64), Failure> {
    let (circuits, at_once) = CIRCUITS;
    let wrong = |error| Failure::new("a circuit failed", network.folder.display(), error);
    let (nickname, pid) = network.middle()?;
    let client = network.client_through(&nickname).await?;
    load::until_fetched(client.socks, target, WARM_UP_MAX)
        .await
        .map_err(wrong)?;
    let before = usage::of(pid)?.cpu;
    let took = load::build_circuits(client.socks, target, circuits.into(), at_once)
        .await
        .map_err(wrong)?;
    let cpu = usage::of(pid)?.cpu.saturating_sub(before);
    let circuits = f64::from(circuits);
    Ok((
        circuits / took.as_secs_f64(),
        cpu.as_secs_f64() * 1e3 / circuits,
    ))
}
