//! A channel's ids, queues, bounds and turns; and all of it against a naive model.

use std::collections::BTreeMap;
use std::time::Duration;

use cepa_wire::cell::{CELL_LEN, Command};
use cepa_wire::padding::PaddingNegotiate;
use proptest::prelude::*;

use super::*;
use crate::fixture::{addr, bob, ip, later, now, rng};

fn channel(version: u16, initiator: bool) -> Channel {
    let link = Established {
        version,
        initiator,
        peer: initiator.then(|| bob().identity.id()),
        peer_addr: addr("127.0.0.2:9001"),
        peer_addrs: vec![],
        my_addr_seen: ip("127.0.0.1"),
        clock_skew_secs: None,
        canonical: initiator,
    };
    Channel::new(link, now())
}

/// A channel with circuits 1 to `count`, of the peer's.
fn with_circuits(count: u32) -> Channel {
    let mut channel = channel(5, false);
    for id in 1..=count {
        channel
            .accept(CircId(id | CircId::INITIATOR_BIT), CircuitRef(id.into()))
            .unwrap();
    }
    channel
}

fn id(number: u32) -> CircId {
    CircId(number | CircId::INITIATOR_BIT)
}

/// A cell of that circuit, with a mark to tell it by.
fn cell_of(number: u32, mark: u8) -> CellBuf {
    let mut cell = cell::new_cell(id(number), Command::RELAY);
    cell[5] = mark;
    cell
}

fn queue(channel: &mut Channel, number: u32, count: usize) {
    for mark in 0..count {
        let mark = u8::try_from(mark % 256).unwrap();
        channel.queue(&cell_of(number, mark), now()).unwrap();
    }
}

/// Circuit and mark of each cell that goes out; control cells are circuit 0.
fn take(channel: &mut Channel, cells_max: usize, now: Now) -> Vec<(u32, u8)> {
    let (mut out, mut drained) = (Vec::new(), Vec::new());
    let taken = channel.take_output(&mut out, cells_max, now, &mut drained);
    assert_eq!(out.len(), taken * CELL_LEN);
    let (cells, _) = out.as_chunks::<CELL_LEN>();
    cells
        .iter()
        .map(|cell| (cell::circ_id(cell).0 & !CircId::INITIATOR_BIT, cell[5]))
        .collect()
}

#[test]
fn ids_are_of_the_half_of_who_opened_the_link() {
    for initiator in [true, false] {
        let mut channel = channel(5, initiator);
        for circuit in 0..50 {
            let id = channel.allocate(&mut rng(3), CircuitRef(circuit)).unwrap();
            assert_eq!(id.is_of_initiator(), initiator);
            assert_eq!(channel.circuit(id), Some(CircuitRef(circuit)));
        }
        assert_eq!(channel.circuit_count(), 50);
    }
}

#[test]
fn ids_of_the_peer_are_checked() {
    let mut channel = channel(5, false);
    let circuit = CircuitRef(1);
    assert_eq!(
        channel.accept(CircId::NONE, circuit),
        Err(AcceptError::Zero)
    );
    assert_eq!(
        channel.accept(CircId(1), circuit),
        Err(AcceptError::WrongHalf)
    );
    assert_eq!(channel.accept(id(1), circuit), Ok(()));
    assert_eq!(
        channel.accept(id(1), CircuitRef(2)),
        Err(AcceptError::InUse)
    );
    assert_eq!(channel.circuit(id(1)), Some(circuit));
    assert!(channel.set_circuit(id(1), CircuitRef(9)));
    assert_eq!(channel.remove(id(1)), Some(CircuitRef(9)));
    assert_eq!(channel.remove(id(1)), None);
    assert_eq!(channel.accept(id(1), CircuitRef(2)), Ok(()));
    let mut initiator = super::tests::channel(5, true);
    assert_eq!(
        initiator.accept(id(1), circuit),
        Err(AcceptError::WrongHalf)
    );
    assert_eq!(initiator.accept(CircId(1), circuit), Ok(()));
}

#[test]
fn circuits_are_bounded() {
    let mut channel = with_circuits(u32::try_from(CIRCUITS_MAX).unwrap());
    assert_eq!(
        channel.accept(id(0x7fff_ffff), CircuitRef(0)),
        Err(AcceptError::TooMany)
    );
    let allocated = channel.allocate(&mut rng(1), CircuitRef(0));
    assert_eq!(allocated, Err(AllocateError::Exhausted));
}

#[test]
fn control_goes_first_and_circuits_keep_their_order() {
    let mut channel = with_circuits(1);
    queue(&mut channel, 1, 3);
    channel
        .queue_control(&cell::new_cell(CircId::NONE, Command::PADDING))
        .unwrap();
    assert_eq!((channel.queued(id(1)), channel.queued_total()), (3, 4));
    assert_eq!(take(&mut channel, 2, now()), [(0, 0), (1, 0)]);
    assert_eq!(take(&mut channel, 31, now()), [(1, 1), (1, 2)]);
    assert!(!channel.has_output());
    assert_eq!(take(&mut channel, 31, now()), []);
    assert_eq!(
        channel.queue(&cell_of(2, 0), now()),
        Err(QueueError::NoCircuit)
    );
}

#[test]
fn a_quiet_circuit_gets_ahead_of_a_busy_one() {
    let mut channel = with_circuits(2);
    queue(&mut channel, 1, 500);
    assert_eq!(take(&mut channel, 100, now()).len(), 100);
    queue(&mut channel, 2, 2);
    assert_eq!(take(&mut channel, 3, now()), [(2, 0), (2, 1), (1, 100)]);
}

#[test]
fn busy_circuits_share_alike() {
    let mut channel = with_circuits(3);
    (1..=3).for_each(|number| queue(&mut channel, number, 100));
    let sent = take(&mut channel, 90, now());
    for number in 1..=3 {
        assert_eq!(
            sent.iter()
                .filter(|(circuit, _)| *circuit == number)
                .count(),
            30
        );
    }
}

#[test]
fn what_was_sent_long_ago_counts_little() {
    // Twice: within the range of weights, and past it, when counts are scaled down.
    for later in [
        later(Duration::from_secs(300)),
        later(Duration::from_secs(6000)),
    ] {
        let mut channel = with_circuits(2);
        queue(&mut channel, 1, 1000);
        take(&mut channel, 1000, now());
        queue(&mut channel, 2, 100);
        take(&mut channel, 100, later);
        queue(&mut channel, 1, 1);
        queue(&mut channel, 2, 1);
        assert_eq!(take(&mut channel, 1, later), [(1, 0)]);
        // Both were in the heap when the counts were scaled.
        queue(&mut channel, 1, 1);
        assert_eq!(
            take(&mut channel, 2, later + Duration::from_secs(6000)),
            [(1, 0), (2, 0)]
        );
    }
}

#[test]
fn queues_are_bounded() {
    let mut channel = with_circuits(1);
    queue(&mut channel, 1, QUEUE_MAX_CELLS);
    assert_eq!(channel.queue(&cell_of(1, 0), now()), Err(QueueError::Full));
    assert_eq!(channel.queued(id(1)), QUEUE_MAX_CELLS);
    let padding = cell::new_cell(CircId::NONE, Command::PADDING);
    (0..CONTROL_MAX_CELLS).for_each(|_| channel.queue_control(&padding).unwrap());
    assert_eq!(channel.queue_control(&padding), Err(ControlFull));
    let reason = DestroyReason::PROTOCOL;
    (0..CONTROL_MAX_CELLS).for_each(|_| channel.queue_refusal(id(2), reason).unwrap());
    assert_eq!(channel.queue_refusal(id(2), reason), Err(ControlFull));
    assert_eq!(channel.queue_destroy(id(2), reason), Ok(()));
    take(&mut channel, CONTROL_MAX_CELLS + 2, now());
    assert_eq!(channel.queue_refusal(id(2), reason), Ok(()));
}

#[test]
fn a_circuit_is_reported_when_it_falls_from_high_to_low() {
    let mut channel = with_circuits(2);
    queue(&mut channel, 2, QUEUE_HIGH_CELLS - 1);
    queue(&mut channel, 1, QUEUE_HIGH_CELLS);
    let (mut out, mut drained) = (Vec::new(), Vec::new());
    channel.take_output(
        &mut out,
        2 * (QUEUE_HIGH_CELLS - QUEUE_LOW_CELLS) - 2,
        now(),
        &mut drained,
    );
    assert_eq!(drained, []);
    channel.take_output(&mut out, 4, now(), &mut drained);
    assert_eq!(drained, [CircuitRef(1)]);
    channel.take_output(&mut out, usize::MAX, now(), &mut drained);
    assert_eq!(
        drained,
        [CircuitRef(1)],
        "each once; never the one that was not high"
    );
}

#[test]
fn a_removed_circuit_sends_nothing_more() {
    let mut channel = with_circuits(2);
    queue(&mut channel, 1, 10);
    queue(&mut channel, 2, 1);
    channel.remove(id(1));
    assert_eq!((channel.queued(id(1)), channel.queued_total()), (0, 1));
    // A new circuit in the old one's place is not taken for it.
    channel.accept(id(3), CircuitRef(3)).unwrap();
    queue(&mut channel, 3, 1);
    let mut sent = take(&mut channel, 31, now());
    sent.sort_unstable();
    assert_eq!(sent, [(2, 0), (3, 0)]);
}

#[test]
fn circuits_that_come_and_go_leave_nothing_behind() {
    let mut channel = with_circuits(0);
    for number in 1..5000 {
        channel.accept(id(number), CircuitRef(0)).unwrap();
        queue(&mut channel, number, 1);
        channel.remove(id(number));
    }
    assert!(channel.schedule.len() < 100);
    assert_eq!((channel.circuit_count(), channel.queued_total()), (0, 0));
}

#[test]
fn what_waits_is_told_with_its_age() {
    let mut channel = with_circuits(4);
    assert_eq!(channel.waiting().count(), 0);
    for (number, ms) in [(1, 30), (2, 10), (3, 20), (2, 40), (4, 5)] {
        channel
            .queue(&cell_of(number, 0), later(Duration::from_millis(ms)))
            .unwrap();
    }
    channel.remove(id(4));
    let mut waiting: Vec<_> = channel.waiting().collect();
    waiting.sort_by_key(|waiting| waiting.since);
    let expected = [(2, 10), (3, 20), (1, 30)].map(|(number, ms)| Waiting {
        since: later(Duration::from_millis(ms)).mono,
        circ_id: id(number),
        circuit: CircuitRef(number.into()),
    });
    assert_eq!(waiting, expected);
}

/// A circuit that is closed leaves less than it held, and others are not kept waiting by many.
#[test]
fn destroys_are_small_and_share_the_channel() {
    let mut channel = with_circuits(1000);
    (1..=1000).for_each(|number| queue(&mut channel, number, 1));
    let held = channel.queue_bytes();
    for number in 2..=1000 {
        channel.remove(id(number));
        channel
            .queue_destroy(id(number), DestroyReason::RESOURCELIMIT)
            .unwrap();
    }
    channel.trim();
    assert!(channel.queue_bytes() < held / 20, "{held}");
    assert_eq!(
        (channel.queued_destroys(), channel.queued_total()),
        (999, 1000)
    );
    let sent = take(&mut channel, 4, now());
    assert_eq!(sent, [(2, 5), (3, 5), (1, 0),]);
    assert_eq!(take(&mut channel, 4, now()).len(), 4);
    while channel.queue_destroy(id(1), DestroyReason::NONE).is_ok() {}
    assert_eq!(channel.queued_destroys(), DESTROYS_MAX);
}

#[test]
fn steady_traffic_takes_no_more_memory() {
    let mut channel = with_circuits(20);
    let (mut out, mut drained) = (Vec::new(), Vec::new());
    let mut bytes = Vec::new();
    for _ in 0..50 {
        (1..=20).for_each(|number| queue(&mut channel, number, 20));
        out.clear();
        channel.take_output(&mut out, usize::MAX, now(), &mut drained);
        bytes.push(channel.queue_bytes());
    }
    assert!(
        bytes[0] > 0 && bytes[1..].iter().all(|later| *later == bytes[1]),
        "{bytes:?}"
    );
    channel.trim();
    assert_eq!(channel.queue_bytes(), 0);
}

/// Queues a PADDING_NEGOTIATE cell's worth of wishes.
fn negotiate(channel: &mut Channel, wish: PaddingNegotiate) -> Result<(), PaddingIgnored> {
    let mut cell = cell::new_cell(CircId::NONE, Command::PADDING_NEGOTIATE);
    wish.write(cell::payload_mut(&mut cell));
    channel.handle_padding_negotiate(&cell, PaddingRange::default(), &mut rng(4))
}

#[test]
fn padding_comes_after_idle_time_only() {
    let mut channel = channel(5, false);
    assert_eq!(channel.poll_timeout(), None);
    negotiate(
        &mut channel,
        PaddingNegotiate::Start {
            low_ms: 0,
            high_ms: 0,
        },
    )
    .unwrap();
    let at = channel.poll_timeout().unwrap();
    let after = at - now().mono;
    assert!(after >= Duration::from_millis(1500) && after < Duration::from_millis(9500));
    channel.handle_timeout(now() + after / 2, &mut rng(1));
    assert!(!channel.has_output());
    channel.handle_timeout(now() + after, &mut rng(1));
    assert_eq!(take(&mut channel, 31, now() + after), [(0, 0)]);
    assert!(channel.poll_timeout().unwrap() > at);
    negotiate(&mut channel, PaddingNegotiate::Stop).unwrap();
    assert_eq!(channel.poll_timeout(), None);
}

#[test]
fn a_client_makes_padding_rarer_but_not_denser() {
    let mut channel = channel(5, false);
    negotiate(
        &mut channel,
        PaddingNegotiate::Start {
            low_ms: 60_000,
            high_ms: 1,
        },
    )
    .unwrap();
    let after = channel.poll_timeout().unwrap() - now().mono;
    assert_eq!(after, Duration::from_secs(60));
}

#[test]
fn padding_negotiation_that_is_ignored() {
    let start = PaddingNegotiate::Start {
        low_ms: 0,
        high_ms: 0,
    };
    assert_eq!(
        negotiate(&mut channel(4, false), start),
        Err(PaddingIgnored::LinkVersion(4))
    );
    assert_eq!(
        negotiate(&mut channel(5, true), start),
        Err(PaddingIgnored::FromRelay)
    );
    let mut cell = cell::new_cell(CircId::NONE, Command::PADDING_NEGOTIATE);
    cell[5] = 1;
    let mut channel = channel(5, false);
    let ignored = channel.handle_padding_negotiate(&cell, PaddingRange::default(), &mut rng(4));
    assert!(matches!(ignored, Err(PaddingIgnored::Cell(_))));
    assert_eq!(channel.poll_timeout(), None);
}

#[derive(Debug, Clone)]
enum Op {
    Queue(u32, u8),
    Take(usize),
    Remove(u32),
    Wait(u64),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        6 => (1u32..6, any::<u8>()).prop_map(|(circuit, mark)| Op::Queue(circuit, mark)),
        3 => (0usize..8).prop_map(Op::Take),
        1 => (1u32..6).prop_map(Op::Remove),
        1 => (0u64..2000).prop_map(Op::Wait),
    ];
    proptest::collection::vec(op, 0..200)
}

proptest! {
    #[test]
    fn as_a_naive_model(ops in ops()) {
        let mut channel = with_circuits(5);
        let mut model: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
        let mut now = now();
        for op in ops {
            match op {
                Op::Wait(seconds) => now = now + Duration::from_secs(seconds),
                Op::Remove(number) => {
                    channel.remove(id(number));
                    channel.accept(id(number), CircuitRef(number.into())).unwrap();
                    model.remove(&number);
                }
                Op::Queue(number, mark) => {
                    channel.queue(&cell_of(number, mark), now).unwrap();
                    model.entry(number).or_default().push(mark);
                }
                Op::Take(max) => {
                    let queued: usize = model.values().map(Vec::len).sum();
                    let sent = take(&mut channel, max, now);
                    prop_assert_eq!(sent.len(), max.min(queued));
                    for (number, mark) in sent {
                        prop_assert_eq!(model.get_mut(&number).unwrap().remove(0), mark);
                    }
                }
            }
            let queued: usize = model.values().map(Vec::len).sum();
            prop_assert_eq!(channel.queued_total(), queued);
        }
    }
}
