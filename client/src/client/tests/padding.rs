//! Channel padding (padding-spec 2).

use cepa_wire::cell::Command as CellCommand;

use super::*;
use crate::config::PaddingLevel;

/// PADDING cells that the guard and other relays got within a minute, and whether the first relay
/// was told to stop.
fn padded(version: u16, padding: PaddingLevel) -> (usize, usize, bool) {
    let mut world = World::start(false);
    world.link_version = version;
    world.client.shared.config.padding = padding;
    let mut world = world.bootstrapped();
    let guard = world.client.circuits.choice.guards.primary()[0];
    let told: Vec<_> = std::mem::take(&mut world.net.padding);
    // Nothing but padding is due then.
    while world.client.circuits.build_times.is_learning() {
        let took = Duration::from_millis(20);
        world.client.circuits.build_times.built(took, false);
    }
    world.wait(Duration::from_secs(60));
    let count = |is_guard: bool| {
        let cells = world.net.padding.iter();
        let padding = cells.filter(|(_, command, _)| *command == CellCommand::PADDING);
        padding
            .filter(|(relay, ..)| (*relay == guard) == is_guard)
            .count()
    };
    // Version, then the command: 1 is to stop.
    let stop = (CellCommand::PADDING_NEGOTIATE, 1);
    let stops = told
        .iter()
        .any(|(_, command, byte)| (*command, *byte) == stop);
    (count(true), count(false), stops)
}

#[test]
fn the_guards_channel_is_padded() {
    // One in 1.5 to 9.5 s; fetches from the guard, which these documents need often, come between.
    let (mine, others, stops) = padded(5, PaddingLevel::Full);
    assert!((2..=20).contains(&mine), "{mine}");
    assert_eq!((others, stops), (0, false), "directories are not padded");
    let (mine, _, stops) = padded(5, PaddingLevel::Reduced);
    assert!((1..=6).contains(&mine) && stops, "{mine}");
    assert_eq!(padded(5, PaddingLevel::Off), (0, 0, true));
    assert_eq!(padded(4, PaddingLevel::Reduced), (0, 0, false));
}
