//! The column "theirs among ours": authorities, relays and exits of ours, with relays of `tor`
//! that our clients are pinned to, and `tor` clients that use relays of ours.
//!
//! What a client of ours did is read in what the `tor` relays that it used count (MetricsPort).

use std::io::Write as _;
use std::process::{Command, Stdio};

use cepa_testnet::NodeSummary;
use rustix::process::Signal;

use crate::among_theirs::{
    HYBRID, PADDING, PADDING_MAX, ROUNDS_MAX, exit_cells, hybrid, logged, one_channel,
    padding_cells,
};
use crate::family::{self, Family};
use crate::machines;
use crate::matrix::{self, Board, Column};
use crate::onions;
use crate::support::documents::consensus;
use crate::support::processes::send;
use crate::support::{dns, fetch, until};
use crate::traffic::{self, carries};
use crate::world::World;

const COLUMN: Column = Column::TheirsAmongOurs;
/// What `tor` calls the onionskins that it has answered.
const ONIONSKINS: &str = "tor_relay_load_onionskins_total";
/// What it calls its XOFFs and the like.
const FLOW: &str = "tor_relay_congestion_control_total";

/// Runs all cells of the column.
pub(crate) fn run(board: &Board) {
    let dir = tempfile::tempdir().unwrap();
    let resolv = dir.path().join("resolv.conf");
    std::fs::write(&resolv, format!("nameserver {}\n", dns::start())).unwrap();
    let more = format!(
        "ServerDNSResolvConfFile {}\nServerDNSDetectHijacking 0\n",
        resolv.display()
    );
    let args = "--authorities 3 --relays 2 --exits 1 --clients 0 --with tor:relay=2,tor:exit=1";
    let args: Vec<_> = args.split_whitespace().chain(PADDING).collect();
    let mut world = World::up(dir.path(), &more, &args);
    let _relay = world.relay("ourrelay", 101, "");
    let _old = world.relay("ourold", 103, "link_version = 4");
    let family = Family::start(&world);
    world.settle();
    board.cell(matrix::UPLOADS, COLUMN, || {
        world.wait_for(2 + family::RELAYS);
        for dir in world.dirs() {
            let seen = consensus(dir).unwrap();
            assert_eq!(seen.voters.len(), 3);
            for relay in world.relays("tor") {
                let path = format!("/tor/server/fp/{}", relay.rsa.as_ref().unwrap());
                assert!(fetch::document(dir, &path).is_some(), "{}", relay.nickname);
            }
        }
    });
    let world = &world;
    std::thread::scope(|scope| {
        scope.spawn(|| their_clients(board, world));
        scope.spawn(|| their_exit(board, world));
        scope.spawn(|| their_guard_and_middle(board, world));
        scope.spawn(|| others(board, world));
        scope.spawn(|| onions::cell(board, COLUMN, world));
        scope.spawn(|| {
            machines::cell(board, COLUMN, world);
            board.cell(matrix::NTOR, COLUMN, || ntor(world));
        });
    });
    family.cells(board, COLUMN, world);
    board.cell(matrix::NO_WARNING, COLUMN, || {
        let complaints = world.complaints(&[("ourrelay", 101), ("ourold", 103)]);
        assert!(complaints.is_empty(), "{complaints:?}");
    });
}

/// Ntor, which is for relays that nothing but a message tells of: the visitor of [`machines`] met a
/// service of ours at a relay of `tor`.
fn ntor(world: &World) {
    let labels = ["type=\"ntor\"", "action=\"processed\""];
    let relays = world.relays("tor").into_iter();
    let counted: u64 = relays
        .map(|relay| world.counted(relay, ONIONSKINS, &labels))
        .sum();
    assert!(counted > 0);
}

/// A `tor` client, and one that knows a fallback only.
fn their_clients(board: &Board, world: &World) {
    board.cell(matrix::FROM_AUTHORITY, COLUMN, || {
        let pins = "EntryNodes ourrelay";
        let (tor, socks) = world.tor_client("client", 0, pins);
        carries(socks);
        board.cell(matrix::DIFFS, COLUMN, || {
            until(ROUNDS_MAX, "a diff", || {
                logged(world, "client", &["Applied consensus diff"])
            });
        });
        board.cell(matrix::ZSTD, COLUMN, || {
            let words = ["a document is served", "x-zstd", "status=200"];
            logged(world, "ourrelay", &words).unwrap();
        });
        drop(tor);
    });
    board.cell(matrix::FROM_FALLBACK, COLUMN, || {
        let (_tor, socks) = world.tor_client_by("fallback", 1, "ourrelay", "");
        carries(socks);
    });
    board.cell(matrix::ZLIB, COLUMN, || {
        let path = "/tor/status-vote/current/consensus";
        let (encoding, body) = fetch::encoded(world.dirs()[0], path, "deflate").unwrap();
        assert_eq!(encoding.as_deref(), Some("deflate"));
        assert!(expanded("zlib", &body).starts_with("network-status-version 3"));
    });
    board.cell(matrix::LZMA, COLUMN, || {
        let path = "/tor/status-vote/current/consensus";
        let (encoding, body) = fetch::encoded(world.dirs()[0], path, "x-tor-lzma").unwrap();
        assert_eq!(encoding.as_deref(), Some("x-tor-lzma"));
        assert!(expanded("lzma", &body).starts_with("network-status-version 3"));
    });
}

/// What zlib or liblzma itself makes of bytes.
fn expanded(library: &str, body: &[u8]) -> String {
    let script = format!(
        "import sys, {library} as library; \
         sys.stdout.buffer.write(library.decompress(sys.stdin.buffer.read()))"
    );
    let mut python = Command::new("/usr/bin/python3")
        .args(["-c", &script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = python.stdin.take().unwrap();
    let body = body.to_owned();
    let writer = std::thread::spawn(move || input.write_all(&body).unwrap());
    let output = python.wait_with_output().unwrap();
    writer.join().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

fn pins(entry: &str, middle: &str, exit: &str) -> String {
    format!("[paths]\nentry = [\"{entry}\"]\nmiddle = [\"{middle}\"]\nexit = [\"{exit}\"]\n")
}

fn node<'a>(world: &'a World, nickname: &str) -> &'a NodeSummary {
    let mut nodes = world.network.summary.nodes.iter();
    nodes.find(|node| node.nickname == nickname).unwrap()
}

/// A client of ours whose exit is theirs.
fn their_exit(board: &Board, world: &World) {
    let exit = node(world, "torexit1");
    let (_client, socks) = world.client("exits", 2, &pins("relay1", "relay2", "torexit1"));
    board.cell(matrix::EXIT_IPV4, COLUMN, || carries(socks));
    board.cell(matrix::NTOR_V3, COLUMN, || {
        let labels = ["type=\"ntor_v3\"", "action=\"processed\""];
        assert!(world.counted(exit, ONIONSKINS, &labels) > 0);
    });
    board.cell(matrix::CGO, COLUMN, || {
        carries(socks);
        logged(world, "exits", &["circuit built", "hop=2", "Some(Cgo)"]).unwrap();
    });
    exit_cells(board, COLUMN, socks);
    board.cell(matrix::XOFF, COLUMN, || {
        let has_sent = |what| world.counted(exit, FLOW, &[what]) > 0;
        // Nothing tells of an XOFF that `tor` got.
        traffic::slow_reader(socks, || true);
        traffic::slow_server(socks, || has_sent("xoff_num_sent"));
        assert!(has_sent("xon_num_sent"));
    });
}

/// Clients of ours whose guard, only directory, or middle hop is theirs.
fn their_guard_and_middle(board: &Board, world: &World) {
    let guard = node(world, "torrelay2");
    board.cell(matrix::CACHE, COLUMN, || {
        let pins = "[paths]\nentry = [\"torrelay2\"]\n";
        let network = world.network_by(guard);
        let (_client, socks) = world.client_of(&network, "cached", 3, pins);
        carries(socks);
        let words = ["a directory has answered", "status=200", "/tor/micro/d"];
        logged(world, "cached", &words).unwrap();
    });
    board.cell(matrix::CREATE_FAST, COLUMN, || {
        // `tor` counts what its workers answer, and this is none of it. But of a fallback nothing
        // is known except its identity and address: no other handshake could be made with it.
        let words = [
            "a directory has answered",
            "status=200",
            "consensus-microdesc",
        ];
        logged(world, "cached", &words).unwrap();
    });
    let (_client, socks) = world.client("guarded", 4, &pins("torrelay2", "relay2", "exit1"));
    board.cell(matrix::GUARD, COLUMN, || carries(socks));
    board.cell(matrix::LINK_5, COLUMN, || {
        let peer = format!("peer={}", guard.rsa.as_ref().unwrap());
        logged(world, "guarded", &["a link is open", "version=5", &peer]).unwrap();
    });
    hybrid(board, COLUMN, || {
        let peer = format!("peer={}", guard.rsa.as_ref().unwrap());
        logged(world, "guarded", &["a link is open", HYBRID, &peer]).unwrap();
    });
    board.cell(matrix::PADDING_SENT, COLUMN, || {
        until(PADDING_MAX, "a PADDING cell at tor", || {
            send(guard.pid.unwrap(), Signal::USR1);
            padding_cells(&world.tor_log("torrelay2")).filter(|count| *count > 0)
        });
    });
    board.cell(matrix::PADDING_NEGOTIATED, COLUMN, || {
        let more = format!(
            "channel_padding = \"reduced\"\n{}",
            pins("torrelay2", "relay2", "exit1")
        );
        let (_client, socks) = world.client("reduced", 10, &more);
        carries(socks);
        // It tells of those that it ignores, and of nothing else.
        assert!(!world.tor_log("torrelay2").contains("PADDING_NEGOTIATE"));
    });
    board.cell(matrix::DIFFS, COLUMN, || {
        until(ROUNDS_MAX, "a diff of theirs at ours", || {
            logged(world, "guarded", &["a consensus diff"])
        });
    });
    board.cell(matrix::MIDDLE, COLUMN, || {
        let pins = pins("relay1", "torrelay1", "exit1");
        let (_client, socks) = world.client("middle", 5, &pins);
        carries(socks);
    });
}

/// Link protocol 4, and links between relays.
fn others(board: &Board, world: &World) {
    board.cell(matrix::LINK_4, COLUMN, || {
        let pins = pins("ourold", "torrelay2", "exit1");
        let (_client, socks) = world.client("old", 6, &pins);
        carries(socks);
        logged(world, "ourold", &["a link is open", "version=4", "peer="]).unwrap();
    });
    board.cell(matrix::ONE_CHANNEL, COLUMN, || {
        let (_ours, socks) = world.client("there", 7, &pins("ourrelay", "torrelay1", "exit1"));
        carries(socks);
        one_channel(world, "ourrelay", || {
            let pins = "EntryNodes torrelay1\nMiddleNodes ourrelay\nExitNodes exit1";
            let (_theirs, socks) = world.tor_client("back", 8, pins);
            carries(socks);
        });
    });
    board.cell(matrix::AUTHENTICATED, COLUMN, || {
        let pins = pins("ourrelay", "torrelay2", "exit1");
        let (_ours, socks) = world.client("again", 9, &pins);
        carries(socks);
        for opened in ["opened=true", "opened=false"] {
            until(ROUNDS_MAX, opened, || {
                logged(world, "ourrelay", &["a link is open", opened, "peer="])
            });
        }
    });
}
