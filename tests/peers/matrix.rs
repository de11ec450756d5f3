//! What works with `tor`: a table whose rows are abilities and whose columns are directions.
//!
//! Four networks run at once: one of `tor` with nodes of ours in it (`among_theirs`), one of ours
//! with nodes of `tor` (`among_ours`), one whose authorities are of both (`voting`), and a small
//! one in a namespace (`netinfo`). A cell is a test of its own; all are tried, whatever came of the
//! others. With `CEPA_MATRIX=FILE` the table is written there, too, as Markdown.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;

use crate::support::now;
use crate::tor::is_tor_here;
use crate::{among_ours, among_theirs, netinfo, voting};

/// A direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Column {
    /// A node of ours in a network of `tor`, used by `tor`.
    OursAmongTheirs,
    /// A node of `tor` in a network of ours, used by us.
    TheirsAmongOurs,
}

/// What came of a cell.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Verdict {
    Passed,
    Failed(String),
    /// Why there is nothing to run.
    CannotBe(&'static str),
}

/// An ability: a row of the table.
pub(crate) struct Row {
    /// How it is called in the table.
    pub(crate) name: &'static str,
    /// The versions of subprotocols that it shows: `Link=4`.
    pub(crate) protocols: &'static [&'static str],
}

const fn row(name: &'static str, protocols: &'static [&'static str]) -> Row {
    Row { name, protocols }
}

/// All rows, in the order of the table.
pub(crate) const ROWS: &[Row] = &[
    row(FROM_AUTHORITY, &["Cons=2", "Microdesc=2"]),
    row(FROM_FALLBACK, &["DirCache=2"]),
    row(DIFFS, &[]),
    row(ZLIB, &[]),
    row(ZSTD, &[]),
    row(LZMA, &[]),
    row(GUARD, &["Relay=2"]),
    row(MIDDLE, &["Relay=2", "Relay=3"]),
    row(EXIT_IPV4, &[]),
    row(EXIT_IPV6, &[]),
    row(EXIT_NAME, &[]),
    row(RESOLVE, &[]),
    row(REVERSE, &[]),
    row(CACHE, &["DirCache=2", "Microdesc=2", "Desc=2"]),
    row(LINK_4, &["Link=4"]),
    row(LINK_5, &["Link=5"]),
    row(HYBRID, &[]),
    row(AUTHENTICATED, &["LinkAuth=3"]),
    row(ONE_CHANNEL, &[]),
    row(NETINFO, &[]),
    row(PADDING_NEGOTIATED, &[]),
    row(PADDING_SENT, &[]),
    row(NTOR, &["Relay=2"]),
    row(NTOR_V3, &["Relay=4", "FlowCtrl=1", "FlowCtrl=2"]),
    row(CGO, &["Relay=5", "Relay=6"]),
    row(XOFF, &["FlowCtrl=2"]),
    row(CREATE_FAST, &[]),
    row(UPLOADS, &["Desc=2"]),
    row(VOTING, &["Cons=2"]),
    row(FAMILY_LISTS, &[]),
    row(FAMILY_KEYS, &["Desc=4"]),
    row(ONIONS, &["HSDir=2", "HSIntro=4", "HSIntro=5", "HSRend=2"]),
    row(MACHINES, &["Padding=2"]),
    row(NO_WARNING, &[]),
];

pub(crate) const FROM_AUTHORITY: &str = "a client bootstraps from authorities";
pub(crate) const FROM_FALLBACK: &str = "a client bootstraps from a fallback alone";
pub(crate) const DIFFS: &str = "consensus diffs: asked for, served, applied";
pub(crate) const ZLIB: &str = "documents in zlib";
pub(crate) const ZSTD: &str = "documents in zstd";
pub(crate) const LZMA: &str = "documents in lzma";
pub(crate) const GUARD: &str = "guard";
pub(crate) const MIDDLE: &str = "middle";
pub(crate) const EXIT_IPV4: &str = "exit to an IPv4 address";
pub(crate) const EXIT_IPV6: &str = "exit to an IPv6 address";
pub(crate) const EXIT_NAME: &str = "exit to a name";
pub(crate) const RESOLVE: &str = "RESOLVE of a name";
pub(crate) const REVERSE: &str = "RESOLVE of an address";
pub(crate) const CACHE: &str = "directory cache for clients";
pub(crate) const LINK_4: &str = "link protocol 4";
pub(crate) const LINK_5: &str = "link protocol 5";
pub(crate) const HYBRID: &str = "X25519MLKEM768 on links";
pub(crate) const AUTHENTICATED: &str = "relays authenticate, whoever opens the link";
pub(crate) const ONE_CHANNEL: &str = "one channel for circuits from both ends";
pub(crate) const NETINFO: &str = "NETINFO: the address that the peer sees";
pub(crate) const PADDING_NEGOTIATED: &str = "channel padding negotiated";
pub(crate) const PADDING_SENT: &str = "channel padding sent";
pub(crate) const NTOR: &str = "ntor";
pub(crate) const NTOR_V3: &str = "ntor-v3, congestion control";
pub(crate) const CGO: &str = "counter galois onion, v1 relay messages";
pub(crate) const XOFF: &str = "XOFF and XON for an end that is slow";
pub(crate) const CREATE_FAST: &str = "CREATE_FAST";
pub(crate) const UPLOADS: &str = "relays upload to authorities, and are listed";
pub(crate) const VOTING: &str = "authorities vote together, ten rounds";
pub(crate) const FAMILY_LISTS: &str = "family by lists";
pub(crate) const FAMILY_KEYS: &str = "family by keys";
pub(crate) const ONIONS: &str = "onion services, visited and hosted, with and without client keys";
pub(crate) const MACHINES: &str = "circuit padding machines of onion visits";
pub(crate) const NO_WARNING: &str = "no warning of tor names one of ours";

/// The cells so far.
#[derive(Default)]
pub(crate) struct Board {
    cells: Mutex<BTreeMap<(&'static str, Column), Verdict>>,
}

impl Board {
    /// Tries a cell. One that is tried in parts passes if all of them do.
    pub(crate) fn cell(&self, row: &'static str, column: Column, cell: impl FnOnce()) {
        let started = now();
        let done = catch_unwind(AssertUnwindSafe(cell));
        let took = now().duration_since(started).as_secs_f64();
        let verdict = match &done {
            Ok(()) => Verdict::Passed,
            Err(panic) => Verdict::Failed(message(panic.as_ref())),
        };
        let word = if done.is_ok() { "pass" } else { "FAIL" };
        println!("{column:?}: {row}: {word} ({took:.1} s)");
        self.set(row, column, verdict);
    }

    /// Notes why there is nothing to run.
    pub(crate) fn cannot(&self, row: &'static str, column: Column, why: &'static str) {
        self.set(row, column, Verdict::CannotBe(why));
    }

    fn set(&self, row: &'static str, column: Column, verdict: Verdict) {
        let mut cells = self.cells.lock().unwrap();
        let held = cells.get(&(row, column));
        if !matches!(held, Some(Verdict::Failed(_))) {
            cells.insert((row, column), verdict);
        }
    }

    fn text(&self, row: &'static str, column: Column) -> String {
        match self.cells.lock().unwrap().get(&(row, column)) {
            None => "FAIL: was not run".to_owned(),
            Some(Verdict::Passed) => "pass".to_owned(),
            Some(Verdict::Failed(why)) => format!("FAIL: {why}"),
            Some(Verdict::CannotBe(why)) => (*why).to_owned(),
        }
    }

    /// The table as Markdown.
    fn markdown(&self) -> String {
        let head = "| | ours among theirs | theirs among ours |\n|---|---|---|\n";
        let line = |row: &Row| {
            let [ours, theirs] = COLUMNS.map(|column| self.text(row.name, column));
            format!("| {} | {ours} | {theirs} |\n", row.name)
        };
        ROWS.iter()
            .map(line)
            .fold(head.to_owned(), |all, line| all + &line)
    }

    /// The cells that have failed.
    fn failures(&self) -> Vec<String> {
        let cells = ROWS
            .iter()
            .flat_map(|row| COLUMNS.map(|column| (row.name, column)));
        cells
            .map(|(row, column)| format!("{row}, {column:?}: {}", self.text(row, column)))
            .filter(|text| text.contains(": FAIL"))
            .collect()
    }
}

const COLUMNS: [Column; 2] = [Column::OursAmongTheirs, Column::TheirsAmongOurs];

/// The first line of what a panic said.
pub(crate) fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied());
    let first = text.unwrap_or("a panic").lines().next();
    first.unwrap_or_default().to_owned()
}

#[test]
fn the_matrix() {
    if !is_tor_here() {
        return;
    }
    let board = Board::default();
    std::thread::scope(|scope| {
        scope.spawn(|| among_theirs::run(&board));
        scope.spawn(|| among_ours::run(&board));
        scope.spawn(|| voting::run(&board));
        scope.spawn(|| netinfo::run(&board));
    });
    let table = board.markdown();
    println!("{table}");
    if let Ok(file) = std::env::var("CEPA_MATRIX") {
        std::fs::write(file, &table).unwrap();
    }
    let failures = board.failures();
    assert!(failures.is_empty(), "{failures:#?}");
}

/// Documents without TAP keys: the `tor` of the matrix makes none. Shown by `cargo test -p
/// cepa-authority a_relay_without_a_tap_key_is_taken_and_voted`.
const SHOWN_WITHOUT_PEERS: [&str; 2] = ["Desc=3", "Microdesc=3"];

#[test]
fn we_promise_what_the_matrix_shows() {
    let by_rows = ROWS.iter().flat_map(|row| row.protocols).copied();
    let shown: BTreeSet<&str> = by_rows.chain(SHOWN_WITHOUT_PEERS).collect();
    let mut promised = BTreeSet::new();
    for word in cepa_relay::PROTOCOLS.split(' ') {
        let (name, versions) = word.split_once('=').unwrap();
        for range in versions.split(',') {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let (first, last): (u32, u32) = (first.parse().unwrap(), last.parse().unwrap());
            promised.extend((first..=last).map(|version| format!("{name}={version}")));
        }
    }
    let promised: BTreeSet<&str> = promised.iter().map(String::as_str).collect();
    assert_eq!(
        promised, shown,
        "the proto line, and the rows of the matrix"
    );
}
