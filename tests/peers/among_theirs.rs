//! The column "ours among theirs": authorities, relays and exits of `tor`, with relays of ours
//! that `tor` clients are pinned to, and clients of ours that use `tor` relays.
//!
//! What a `tor` client did is read in the logs at debug of the relays of ours that it used.

use std::net::IpAddr;
use std::time::Duration;

use cepa_dir::encoding::Encoding;
use rustix::process::Signal;

use crate::family::{self, Family};
use crate::machines;
use crate::matrix::{self, Board, Column};
use crate::onions;
use crate::support::fetch::{self, Bound};
use crate::support::{dns, server, until};
use crate::tor::{Tor, has_hybrid};
use crate::traffic::{self, carries, carries_to};
use crate::world::{Ours, World};

const COLUMN: Column = Column::OursAmongTheirs;
/// How long something may take that comes with the next consensus.
pub(crate) const ROUNDS_MAX: Duration = Duration::from_secs(60);
/// Channels are padded after a second and a half without a cell at the latest: a client that
/// follows consensuses ten seconds apart, and learns how long circuits take, is seldom idle long.
pub(crate) const PADDING: [&str; 4] = ["--param", "nf_ito_low=500", "--param", "nf_ito_high=1500"];
/// How long padding may take to be sent.
pub(crate) const PADDING_MAX: Duration = Duration::from_secs(60);
/// Documents, as long as they may be.
const DOCUMENT_LEN_MAX: usize = 10 << 20;

/// A relay of ours that promises no more than what those of 2019 did: `tor` takes ntor-v3 where it
/// finds Relay=5-6.
const OLD: &str = "link_version = 4\nprotocols = \"Cons=2 Desc=2 DirCache=2 FlowCtrl=1 HSDir=2 \
    HSIntro=4-5 HSRend=2 Link=4 LinkAuth=3 Microdesc=2 Relay=2\"";

/// Runs all cells of the column.
pub(crate) fn run(board: &Board) {
    let dir = tempfile::tempdir().unwrap();
    // Guards have to be stable, in the eyes of `tor`: relay1 is as old as the network.
    let args = "--authorities 0 --relays 1 --exits 0 --clients 0 --log debug \
                --with tor:authority=3,tor:relay=3,tor:exit=1";
    let args: Vec<_> = args.split_whitespace().chain(PADDING).collect();
    let mut world = World::up(dir.path(), "", &args);
    let names = dns::start();
    let policy = format!("exit_policy = [\"accept *:*\"]\nname_servers = [\"{names}\"]");
    let exit = world.relay("ourexit", 102, &policy);
    let _old = world.relay("ourold", 103, OLD);
    let _told = world.relay("ourtold", 105, "listen = \"127.105.0.1\"");
    let family = Family::start(&world);
    world.settle();
    board.cell(matrix::UPLOADS, COLUMN, || {
        world.wait_for(3 + family::RELAYS);
        for dir in world.dirs() {
            for name in ["ourexit", "ourold"] {
                let path = format!("/tor/server/fp/{}", world.fingerprint(name));
                until(ROUNDS_MAX, name, || fetch::document(dir, &path));
            }
        }
    });
    let world = &world;
    std::thread::scope(|scope| {
        scope.spawn(|| our_client(board, world));
        scope.spawn(|| our_exit(board, world, &exit));
        scope.spawn(|| our_guard_and_middle(board, world));
        scope.spawn(|| others(board, world));
        scope.spawn(|| onions::cell(board, COLUMN, world));
        scope.spawn(|| machines::cell(board, COLUMN, world));
    });
    family.cells(board, COLUMN, world);
    board.cell(matrix::NO_WARNING, COLUMN, || {
        let added = [("ourexit", 102), ("ourold", 103), ("ourtold", 105)];
        let complaints = world.complaints(&added);
        assert!(complaints.is_empty(), "{complaints:?}");
    });
}

/// A client of ours, and one that knows a fallback only.
fn our_client(board: &Board, world: &World) {
    board.cell(matrix::FROM_AUTHORITY, COLUMN, || {
        let (client, socks) = world.client("client", 0, "");
        carries(socks);
        board.cell(matrix::DIFFS, COLUMN, || {
            until(ROUNDS_MAX, "a diff", || {
                logged(world, "client", &["a consensus diff"])
            });
        });
        board.cell(matrix::ZSTD, COLUMN, || {
            let words = ["a directory has answered", "x-zstd", "status=200"];
            logged(world, "client", &words).unwrap();
        });
        drop(client);
    });
    board.cell(matrix::FROM_FALLBACK, COLUMN, || {
        let cache = world.relays("tor")[3];
        let (_client, socks) = world.client_of(&world.network_by(cache), "fallback", 1, "");
        carries(socks);
    });
    board.cell(matrix::ZLIB, COLUMN, || {
        let path = "/tor/status-vote/current/consensus";
        let (encoding, body) = fetch::encoded(world.dirs()[0], path, "deflate").unwrap();
        let encoding = Encoding::parse(encoding.as_deref()).unwrap();
        assert_eq!(encoding, Encoding::Deflate);
        let text = encoding.decode(&body, DOCUMENT_LEN_MAX).unwrap();
        assert!(text.starts_with(b"network-status-version 3"));
    });
    board.cell(matrix::LZMA, COLUMN, || {
        let words = ["a directory has answered", "x-tor-lzma", "status=200"];
        logged(world, "client", &words).unwrap();
    });
}

/// A `tor` client whose exit is ours.
fn our_exit(board: &Board, world: &World, exit: &Ours) {
    let pins = "EntryNodes torrelay1\nMiddleNodes torrelay3\nExitNodes ourexit";
    let (_tor, socks) = world.tor_client("exits", 2, pins);
    board.cell(matrix::EXIT_IPV4, COLUMN, || carries(socks));
    board.cell(matrix::NTOR_V3, COLUMN, || {
        logged(world, "ourexit", &["CREATE2", "NTOR_V3"]).unwrap();
        logged(
            world,
            "ourexit",
            &["CREATED2", "has_congestion_control=true"],
        )
        .unwrap();
    });
    board.cell(matrix::CGO, COLUMN, || {
        carries(socks);
        logged(world, "ourexit", &["CREATED2", "cipher=Cgo"]).unwrap();
    });
    exit_cells(board, COLUMN, socks);
    board.cell(matrix::XOFF, COLUMN, || {
        let came = |what| logged(world, "ourexit", &["flow control came", what]);
        let goes = |what| logged(world, "ourexit", &["flow control goes", what]);
        traffic::slow_reader(socks, || came("XOFF").is_some());
        came("XON").unwrap();
        traffic::slow_server_behind(socks, exit.pid(), || goes("XOFF").is_some());
    });
}

/// What an exit does besides, by a client that is pinned to it.
pub(crate) fn exit_cells(board: &Board, column: Column, socks: std::net::SocketAddr) {
    let loopback: IpAddr = [127, 0, 0, 1].into();
    board.cell(matrix::EXIT_IPV6, column, || {
        carries_to(socks, "::1", server::start_at("[::1]:0").port());
    });
    board.cell(matrix::EXIT_NAME, column, || {
        carries_to(socks, dns::NAME, server::start().port());
    });
    board.cell(matrix::RESOLVE, column, || {
        assert_eq!(
            fetch::resolve(socks, dns::NAME).unwrap(),
            Bound::Ip(loopback)
        );
    });
    board.cell(matrix::REVERSE, column, || {
        let name = Bound::Name(dns::NAME.to_owned());
        assert_eq!(fetch::reverse(socks, dns::NAMED).unwrap(), name);
    });
}

/// `tor` clients whose guard is ours, one of which knows no other directory; and one whose middle
/// hop is.
fn our_guard_and_middle(board: &Board, world: &World) {
    let pins = "EntryNodes relay1\nMiddleNodes torrelay2\nExitNodes torexit1";
    let guarded = std::cell::OnceCell::<(Tor, std::net::SocketAddr)>::new();
    board.cell(matrix::CACHE, COLUMN, || {
        let _ = guarded.set(world.tor_client_by("guarded", 3, "relay1", pins));
        let served = ["a document is served", "status=200"];
        for path in ["current/consensus-microdesc", "/tor/micro/d"] {
            logged(world, "relay1", &[&served[..], &[path]].concat()).unwrap();
        }
    });
    let Some((tor, socks)) = guarded.get() else {
        return;
    };
    board.cell(matrix::CREATE_FAST, COLUMN, || {
        logged(world, "relay1", &["CREATED_FAST"]).unwrap();
    });
    board.cell(matrix::GUARD, COLUMN, || carries(*socks));
    board.cell(matrix::LINK_5, COLUMN, || {
        logged(world, "relay1", &["a link is open", "version=5"]).unwrap();
    });
    hybrid(board, COLUMN, || {
        let words = ["a link is open", "opened=false", HYBRID];
        logged(world, "relay1", &words).unwrap();
    });
    board.cell(matrix::MIDDLE, COLUMN, || {
        let pins = "EntryNodes torrelay1\nMiddleNodes relay1\nExitNodes torexit1";
        let (_tor, socks) = world.tor_client("middle", 4, pins);
        carries(socks);
    });
    board.cell(matrix::PADDING_SENT, COLUMN, || {
        until(PADDING_MAX, "a PADDING cell at tor", || {
            tor.signal(Signal::USR1);
            padding_cells(&world.log("guarded")).filter(|count| *count > 0)
        });
    });
    board.cell(matrix::DIFFS, COLUMN, || {
        until(ROUNDS_MAX, "a diff of ours at tor", || {
            logged(world, "guarded", &["Applied consensus diff"])
        });
    });
}

/// What the log says of a link whose keys a quantum computer does not give away.
pub(crate) const HYBRID: &str = "key_exchange=Some(X25519MLKEM768)";

/// Tries a cell of the post-quantum key exchange, with a `tor` that has it.
pub(crate) fn hybrid(board: &Board, column: Column, cell: impl FnOnce()) {
    match has_hybrid() {
        Ok(()) => board.cell(matrix::HYBRID, column, cell),
        Err(why) => board.cannot(matrix::HYBRID, column, why),
    }
}

/// What SIGUSR1 makes `tor` say of the PADDING cells that came.
pub(crate) fn padding_cells(log: &str) -> Option<u64> {
    let (_, rest) = log.rsplit_once("Cells processed: ")?;
    rest.split_whitespace().next()?.parse().ok()
}

/// Link protocol 4, padding that is negotiated, and links between relays.
fn others(board: &Board, world: &World) {
    board.cell(matrix::LINK_4, COLUMN, || {
        let pins = "EntryNodes torrelay3\nMiddleNodes ourold\nExitNodes torexit1";
        let (_tor, socks) = world.tor_client("old", 5, pins);
        carries(socks);
        logged(world, "ourold", &["a link is open", "version=4", "peer="]).unwrap();
    });
    board.cell(matrix::NTOR, COLUMN, || {
        logged(world, "ourold", &["CREATE2", "NTOR\n"]).unwrap();
        assert_eq!(logged(world, "ourold", &["CREATE2", "NTOR_V3"]), None);
    });
    board.cell(matrix::PADDING_NEGOTIATED, COLUMN, || {
        let pins = "EntryNodes relay1\nMiddleNodes torrelay1\nExitNodes torexit1\n\
                    ReducedConnectionPadding 1";
        let (_tor, socks) = world.tor_client("reduced", 6, pins);
        carries(socks);
        until(ROUNDS_MAX, "PADDING_NEGOTIATE", || {
            logged(world, "relay1", &["padding negotiated"])
        });
    });
    board.cell(matrix::AUTHENTICATED, COLUMN, || {
        for opened in ["opened=true", "opened=false"] {
            until(ROUNDS_MAX, opened, || {
                logged(world, "relay1", &["a link is open", opened, "peer="])
            });
        }
    });
    board.cell(matrix::NETINFO, COLUMN, || {
        let seen = format!("seen_as={}", world.address("relay1").ip());
        let words = ["a link is open", "opened=true", &seen];
        logged(world, "relay1", &words).unwrap();
        // One that was told no address has asked the authorities for it.
        let path = format!("/tor/server/fp/{}", world.fingerprint("ourtold"));
        for dir in world.dirs() {
            let text = until(ROUNDS_MAX, "ourtold", || fetch::document(dir, &path));
            assert!(text.starts_with("router ourtold 127.105.0.1 "), "{text}");
        }
    });
    board.cell(matrix::ONE_CHANNEL, COLUMN, || {
        // The path of "reduced" was from relay1 to torrelay1.
        one_channel(world, "relay1", || {
            let pins = "EntryNodes torrelay1\nMiddleNodes relay1\nExitNodes torexit1";
            let (_tor, socks) = world.tor_client("back", 7, pins);
            carries(socks);
        });
    });
}

/// There is one link that a relay of ours has opened to torrelay1; circuits that `carry` builds the
/// other way use it, and `tor` opens none of its own.
///
/// The link has to be one that we have opened: a `tor` connects to addresses of 127/8 from
/// 127.0.0.1, whatever it is told (OutboundBindAddress). Its NETINFO does not list that one, so
/// that nobody may take its links for canonical.
pub(crate) fn one_channel(world: &World, ours: &str, carry: impl FnOnce()) {
    let (from, to) = (world.address(ours).ip(), world.address("torrelay1"));
    let peer = format!("peer={}", world.rsa("torrelay1"));
    let opened_by_tor = || {
        let log = world.log(ours);
        let lines = log.lines().filter(|line| line.contains("a link is open"));
        let theirs = lines.filter(|line| line.contains("opened=false") && line.contains(&peer));
        theirs.count()
    };
    assert_eq!(traffic::connections(from, to), 1);
    let before = opened_by_tor();
    carry();
    assert_eq!(opened_by_tor(), before, "links that tor has opened");
    assert_eq!(traffic::connections(from, to), 1);
}

/// A line of a log that has all these words, if there is one.
pub(crate) fn logged(world: &World, name: &str, words: &[&str]) -> Option<String> {
    let log = world.log(name);
    let has_all = |line: &&str| words.iter().all(|word| format!("{line}\n").contains(word));
    log.lines().find(has_all).map(str::to_owned)
}
