//! Tests of XON and XOFF.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::{any, prop_assert, proptest};

use super::*;
use crate::congestion::tests::epoch;
use crate::congestion::{CongestionParams, CongestionPath};
use crate::stream::{Stream, StreamViolation};
use cepa_wire::end::EndReason;
use cepa_wire::relay::StreamId;

fn stream_with(params: CongestionParams) -> Stream {
    let congestion = Congestion {
        params: Arc::new(params),
        sendme_inc_cells: 31,
        path: CongestionPath::Exit,
    };
    let mut stream =
        Stream::accept(StreamId(7)).with_congestion(Some(&congestion), StreamSide::Exit);
    stream.connected();
    stream
}

fn stream() -> Stream {
    stream_with(CongestionParams::default())
}

/// Takes and writes all that waits.
fn drain(stream: &mut Stream, now: Instant) {
    let mut out = Vec::new();
    while stream.take(&mut out, 1 << 16).more {}
    stream.written(out.len(), now);
}

#[test]
fn a_queue_that_grows_stops_the_peer_and_an_empty_one_lets_it_go_on() {
    let now = epoch();
    let mut stream = stream();
    for n in 1..=501 {
        stream.handle_data(&[0; 498], now).unwrap();
        let expected = (n == 501).then_some(FlowMessage::Xoff);
        assert_eq!(stream.message_due(), expected);
    }
    // A peer that has not seen it yet hears it only once.
    stream.handle_data(&[0; 498], now).unwrap();
    assert_eq!((stream.message_due(), stream.sendmes_due()), (None, 0));
    // The socket takes nothing for a minute, then a cell, and 501 cells in a tenth of a second.
    let later = now + Duration::from_secs(60);
    stream.written(498, later);
    assert_eq!(stream.message_due(), None);
    let later = later + Duration::from_millis(100);
    stream.written(501 * 498, later);
    assert_eq!(stream.message_due(), Some(FlowMessage::Xon(2494)));
    assert_eq!(stream.message_due(), None);
}

#[test]
fn a_socket_that_is_fast_again_is_told_of_soon() {
    let mut now = epoch();
    let mut stream = stream();
    for _ in 0..520 {
        stream.handle_data(&[0; 498], now).unwrap();
    }
    for _ in 0..520 {
        now += Duration::from_micros(4980);
        stream.written(498, now);
    }
    assert_eq!(stream.message_due(), Some(FlowMessage::Xon(100)));
    // From now on bursts of 64 cells are taken as they come.
    let mut told = Vec::new();
    for _ in 0..80 {
        now += Duration::from_millis(1);
        for _ in 0..64 {
            stream.handle_data(&[0; 498], now).unwrap();
        }
        now += Duration::from_millis(1);
        stream.written(64 * 498, now);
        told.extend(stream.message_due());
    }
    let doubled = (1..=told.len() as u32).map(|n| FlowMessage::Xon(100 << n));
    assert_eq!(told, doubled.collect::<Vec<_>>());
    assert!(told.len() >= 9);
}

#[test]
fn another_rate_is_told_unless_it_is_nearly_the_same() {
    let mut now = epoch();
    let mut stream = stream();
    let mut told = Vec::new();
    // A first queue beyond XOFF, then a socket of 1 MB/s, of 1.1 MB/s, and of 100 kB/s, never idle.
    for _ in 0..520 {
        stream.handle_data(&[0; 498], now).unwrap();
    }
    assert_eq!(stream.message_due(), Some(FlowMessage::Xoff));
    for (usec_per_cell, cells) in [(498, 1500), (450, 1500), (4980, 3000)] {
        for _ in 0..cells {
            now += Duration::from_micros(usec_per_cell);
            stream.written(498, now);
            let message = stream.message_due();
            // From the first XON on, 40 cells wait all the time.
            let cells = match (message, told.len()) {
                (Some(_), 0) => 40,
                _ => usize::from(!told.is_empty()),
            };
            told.extend(message);
            for _ in 0..cells {
                stream.handle_data(&[0; 498], now).unwrap();
            }
        }
    }
    let kbps: Vec<u32> = told
        .iter()
        .map(|message| match message {
            FlowMessage::Xon(kbps) => *kbps,
            FlowMessage::Xoff => panic!("no queue grows so long"),
        })
        .collect();
    assert!((990..1010).contains(&kbps[0]), "{kbps:?}");
    assert!(kbps[1..].iter().all(|kbps| *kbps < 800), "{kbps:?}");
    assert!((90..130).contains(kbps.last().unwrap()), "{kbps:?}");
    assert!(kbps.len() <= 6, "{kbps:?}");
}

#[test]
fn a_peer_that_ignores_xoff_is_cut_off() {
    let now = epoch();
    let mut stream = stream();
    for _ in 0..QUEUE_MAX_CELLS {
        stream.handle_data(&[0; 498], now).unwrap();
    }
    let overrun = StreamViolation::Window(WindowViolation::StreamOverrun);
    assert_eq!(stream.handle_data(&[0; 498], now), Err(overrun));
    drain(&mut stream, now);
    // Cells without bytes fill no queue.
    for _ in 0..100_000 {
        stream.handle_data(&[], now).unwrap();
    }
}

#[test]
fn xoff_stops_and_xon_limits() {
    let mut now = epoch();
    let mut stream = stream();
    assert_eq!(stream.room_cells(), usize::MAX);
    assert_eq!(stream.handle_message(FlowMessage::Xoff, now), Ok(()));
    assert_eq!((stream.room_cells(), stream.is_paced()), (0, false));
    let again = stream.handle_message(FlowMessage::Xoff, now);
    assert_eq!(again, Err(StreamViolation::State));
    assert_eq!(stream.handle_message(FlowMessage::Xon(5), now), Ok(()));
    // 5000 bytes at once, the last cell on credit.
    assert_eq!(stream.room_cells(), 11);
    for _ in 0..11 {
        assert!(!stream.is_paced());
        stream.packaged(498);
    }
    assert_eq!((stream.room_cells(), stream.is_paced()), (0, true));
    now += Duration::from_millis(200);
    stream.refill(now);
    assert_eq!((stream.room_cells(), stream.is_paced()), (2, false));
    assert_eq!(stream.handle_message(FlowMessage::Xon(0), now), Ok(()));
    assert_eq!(stream.room_cells(), usize::MAX);
    stream.handle_end(EndReason::DONE);
    assert_eq!((stream.room_cells(), stream.message_due()), (0, None));
}

#[test]
fn what_belongs_to_the_other_kind() {
    let now = epoch();
    let sendme = StreamViolation::Window(WindowViolation::StreamSendme);
    assert_eq!(stream().handle_sendme(), Err(sendme));
    let mut windows = Stream::accept(StreamId(7)).with_congestion(None, StreamSide::Exit);
    for message in [FlowMessage::Xoff, FlowMessage::Xon(1)] {
        let refused = windows.handle_message(message, now);
        assert_eq!(refused, Err(StreamViolation::State));
    }
    assert_eq!((windows.room_cells(), windows.is_paced()), (500, false));
}

proptest! {
    /// Against a peer that obeys after any delay: it is always told to go on, and what waits is
    /// bounded by XOFF and what was under way.
    #[test]
    fn an_obedient_peer_is_never_forgotten(
        steps in proptest::collection::vec((any::<u8>(), 0u64..50_000), 1..300),
        under_way in 0usize..400,
    ) {
        let mut now = epoch();
        let mut stream = stream();
        let (mut stopped, mut late) = (false, 0);
        for (step, usec) in steps {
            now += Duration::from_micros(usec);
            for _ in 0..step {
                if stopped && late >= under_way {
                    break;
                }
                late += usize::from(stopped);
                stream.handle_data(&[0; 498], now).unwrap();
                stopped |= stream.message_due() == Some(FlowMessage::Xoff);
            }
            prop_assert!(stream.inbound_bytes() <= (501 + under_way) * 498);
            let mut out = Vec::new();
            stream.take(&mut out, usize::from(step.reverse_bits()) * 600);
            stream.written(out.len(), now);
            if let Some(FlowMessage::Xon(_)) = stream.message_due() {
                (stopped, late) = (false, 0);
            }
        }
        drain(&mut stream, now);
        stopped &= !matches!(stream.message_due(), Some(FlowMessage::Xon(_)));
        prop_assert!(!stopped);
    }

    #[test]
    fn any_messages_and_bytes_are_borne(
        steps in proptest::collection::vec((any::<u8>(), any::<u32>(), any::<u16>()), 1..300),
    ) {
        let mut now = epoch();
        let mut stream = stream();
        for (step, n, usec) in steps {
            now += Duration::from_micros(u64::from(usec) << (step % 24));
            match step % 6 {
                0 => drop(stream.handle_message(FlowMessage::Xoff, now)),
                1 => drop(stream.handle_message(FlowMessage::Xon(n >> (step % 32)), now)),
                2 => stream.refill(now),
                3 => drain(&mut stream, now),
                4 => for _ in 0..step {
                    stream.handle_data(&[0; 498], now).unwrap();
                },
                _ => for _ in 0..stream.room_cells().min(usize::from(step)) {
                    stream.packaged(498);
                },
            }
            let _ = stream.message_due();
        }
    }
}
