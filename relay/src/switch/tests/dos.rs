//! `tor`'s defences: circuits of one address, streams of one circuit, a dry run.

use std::sync::Arc;

use cepa_crypto::Rng;
use cepa_limits::dos::CircuitDefense;
use cepa_limits::{Account, Door, DoorRules, DosParams, DosRule, PlaceLimits, Rate, Strangers};
use cepa_wire::cell::{self, CircId, Command as Cell};
use cepa_wire::create::CreateFast;
use cepa_wire::end::{End, EndReason};
use cepa_wire::relay::RelayCommand;
use cepa_wire::resolve::{AnswerValue, Resolved};

use super::net::{Net, Path, three_hops_of};
use crate::switch::{Switch, SwitchConfig};

/// What a stranger's address may do, with so many links.
fn account(net: &Net, links: u32) -> Arc<Account> {
    let door = DoorRules {
        places: PlaceLimits::shared(100),
        is_or_port: true,
    };
    let (rng, now) = (Rng::from_seed([5; 32]), net.now.mono);
    let mut strangers = Strangers::new(&[door], None, rng, now);
    let ip = std::net::Ipv4Addr::LOCALHOST.into();
    let account = strangers
        .enter(Door(0), Some(ip), now)
        .unwrap()
        .account
        .unwrap();
    (0..links).for_each(|_| account.opened());
    account
}

fn switch(net: &mut Net, node: usize) -> &mut Switch {
    &mut net.nodes[node].switches[0]
}

fn number(net: &mut Net, node: usize, rule: DosRule) -> u64 {
    switch(net, node).counts().dos.number(rule)
}

/// Circuits that are answered, of so many.
fn created(net: &mut Net, client: usize, from: u32, times: u32) -> usize {
    for n in 0..times {
        let mut cell = cell::new_cell(CircId(0x8000_0000 + from + n), Cell::CREATE_FAST);
        CreateFast { x: [1; 20] }.write(cell::payload_mut(&mut cell));
        net.send(client, &cell).unwrap();
    }
    let cells = net.inbox[client].drain(..);
    cells
        .filter(|one| cell::command(one) == Cell::CREATED_FAST)
        .count()
}

fn with_circuit_rules(defense: CircuitDefense, is_dry_run: bool) -> (Net, usize) {
    let mut net = Net::with(&[1], |config| {
        config.dos.circuit.is_enabled = true;
        config.dos.circuit.defense = defense;
        config.dos.is_dry_run = is_dry_run;
    });
    let client = net.client((0, 0));
    (net, client)
}

#[test]
fn an_address_that_floods_gets_no_circuits() {
    let (mut net, client) = with_circuit_rules(CircuitDefense::Mark, false);
    let (_, _, key) = net.channel_of_client(client);
    let account = account(&net, 3);
    switch(&mut net, 0).set_account(key, Some(account));
    assert_eq!(created(&mut net, client, 1, 100), 90);
    assert_eq!(number(&mut net, 0, DosRule::MarkedAddress), 1);
    assert_eq!(number(&mut net, 0, DosRule::CircuitRejected), 10);
    assert_eq!(switch(&mut net, 0).counts().circuits, 90);
}

#[test]
fn a_dry_run_counts_and_lets_through() {
    let (mut net, client) = with_circuit_rules(CircuitDefense::Limit, true);
    let (_, _, key) = net.channel_of_client(client);
    let account = account(&net, 3);
    switch(&mut net, 0).set_account(key, Some(account));
    assert_eq!(created(&mut net, client, 1, 100), 100);
    assert_eq!(number(&mut net, 0, DosRule::CircuitRejected), 10);
}

/// A path of three hops to an exit with these rules.
fn exit_with(edit: fn(&mut DosParams)) -> (Net, Path) {
    let edit = move |config: &mut SwitchConfig| edit(&mut config.dos);
    three_hops_of(Net::with(&[1, 1, 1], edit), |_| 0)
}

fn resolve(net: &mut Net, path: &mut Path, id: u16) {
    path.send(net, RelayCommand::RESOLVE, id, b"example.com\0");
}

#[test]
fn streams_beyond_the_rate_are_refused() {
    let (mut net, mut path) = exit_with(|dos| {
        dos.stream.is_enabled = true;
        dos.stream.rate = Rate::new(1, 100);
    });
    for id in 1..=100 {
        resolve(&mut net, &mut path, id);
    }
    assert_eq!(path.receive(&mut net), None);
    resolve(&mut net, &mut path, 101);
    let refused = path.receive(&mut net).unwrap();
    assert_eq!(
        (refused.command, refused.stream.0),
        (RelayCommand::RESOLVED, 101)
    );
    let answers = Resolved::read(&refused.data).unwrap().answers;
    assert_eq!(answers[0].value, AnswerValue::ErrorTransient);
    path.send(
        &mut net,
        RelayCommand::BEGIN,
        302,
        b"example.com:80\0\0\0\0\0",
    );
    let refused = path.receive(&mut net).unwrap();
    let mut misc = Vec::new();
    End::from(EndReason::MISC).write(&mut misc);
    assert_eq!((refused.command, refused.data), (RelayCommand::END, misc));
    assert_eq!(number(&mut net, 2, DosRule::StreamRejected), 2);
    // Directory streams have a rate of their own.
    path.send(&mut net, RelayCommand::BEGIN_DIR, 103, &[]);
    assert_eq!(number(&mut net, 2, DosRule::BeginDirRateRejected), 0);
}

#[test]
fn sixty_directory_streams_and_the_circuit_closes() {
    let (mut net, mut path) = exit_with(|_| {});
    for id in 1..=60 {
        path.send(&mut net, RelayCommand::BEGIN_DIR, id, &[]);
    }
    assert_eq!(switch(&mut net, 2).counts().streams, 60);
    path.send(&mut net, RelayCommand::BEGIN_DIR, 61, &[]);
    assert_eq!(switch(&mut net, 2).counts().circuits, 0);
    assert_eq!(number(&mut net, 2, DosRule::BeginDirRateRejected), 1);
}

#[test]
fn one_directory_stream_for_a_relays_circuit() {
    let (mut net, mut path) = exit_with(|dos| dos.begin_dir_once = true);
    path.send(&mut net, RelayCommand::BEGIN_DIR, 1, &[]);
    path.send(&mut net, RelayCommand::BEGIN_DIR, 2, &[]);
    let refused = path.receive(&mut net).unwrap();
    assert_eq!((refused.command, refused.stream.0), (RelayCommand::END, 2));
    assert_eq!(number(&mut net, 2, DosRule::BeginDirRejected), 1);
    // A client's own circuit may have as many as the rate lets it.
    let client = net.client((0, 0));
    let mut path = Path::create_fast(&mut net, client, 0x8000_0009);
    path.send(&mut net, RelayCommand::BEGIN_DIR, 1, &[]);
    path.send(&mut net, RelayCommand::BEGIN_DIR, 2, &[]);
    assert_eq!(path.receive(&mut net), None);
    assert_eq!(number(&mut net, 0, DosRule::BeginDirRejected), 0);
}
