//! Channels to other relays: wanted no more, and worse than another.

use std::time::Duration;

use cepa_wire::cell::{self, CircId, Command as Cell};
use cepa_wire::relay::{RelayCommand, StreamId};

use super::net::{Net, Path, extend2_body};
use crate::switch::{Command, Switch};

#[test]
fn a_circuit_that_is_gone_wants_no_channel() {
    let mut net = Net::new(&[1, 1]);
    let client = net.client((0, 0));
    let mut path = Path::create_fast(&mut net, client, 0x8000_0001);
    let body = extend2_body(&net, 1, &[0; 84]);
    let (early, extend) = (Cell::RELAY_EARLY, RelayCommand::EXTEND2);
    let cell = path.cell_at(&mut net, 0, early, extend, StreamId(0), &body);
    let destroy = cell::new_cell(CircId(0x8000_0001), Cell::DESTROY);
    let mut cells = [cell, destroy].concat();
    let (_, _, channel) = net.channel_of_client(client);
    let now = net.now;
    let switch = &mut net.nodes[0].switches[0];
    switch.handle_cells(channel, &mut cells, now).unwrap();
    let Some(Command::NeedChannel { circuit, target }) = switch.poll_command() else {
        panic!("no NeedChannel")
    };
    assert!(!target.is_listed && target.asker == channel);
    let Some(Command::ChannelUnwanted { circuit: gone, rsa }) = switch.poll_command() else {
        panic!("no ChannelUnwanted")
    };
    assert_eq!((gone, rsa), (circuit, target.rsa));
    // An answer that comes all the same is harmless.
    switch.handle_channel_found(circuit, None, now);
}

#[test]
fn a_worse_channel_ends_when_it_is_idle() {
    let mut net = Net::new(&[1, 1]);
    net.link((0, 0), (1, 0));
    let client = net.client((0, 0));
    let mut path = Path::create(&mut net, client, 0x8000_0001, 0);
    path.extend(&mut net, 1);
    let (_, _, channel) = net.channel_of_client(client);
    let switch = &mut net.nodes[0].switches[0];
    switch.retire_channel(channel);
    let mut now = net.now;
    let mut closed = |switch: &mut Switch, seconds: u64| {
        for _ in 0..seconds {
            now = now + Duration::from_secs(1);
            switch.handle_timeout(now);
        }
        std::iter::from_fn(|| switch.poll_command()).any(
            |command| matches!(command, Command::CloseChannel { channel: it, .. } if it == channel),
        )
    };
    assert!(!closed(switch, 60), "it has a circuit");
    let mut destroy = cell::new_cell(CircId(0x8000_0001), Cell::DESTROY).to_vec();
    switch.handle_cells(channel, &mut destroy, net.now).unwrap();
    assert!(!closed(switch, 9));
    assert!(closed(switch, 9));
}
