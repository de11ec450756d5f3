//! Tests of congestion windows: `tor`'s own tables, and properties.

use std::time::Duration;

use proptest::prelude::{Strategy, any, prop_assert, prop_assert_eq, proptest};

use super::*;

/// Sent and acknowledged at, channel blocked, cells under way; then the average and the least round
/// trip, window, slow start, full, blocked.
type Row = (u64, u64, u8, u32, u64, u64, u32, u8, u8, u8);

/// `tor`'s unit test congestion_control/vegas_cwnd, its four tables: edge cases with the end of
/// slow start by round trips, its end by a blocked channel, and two real uploads.
const TABLES: [&[Row]; 4] = [
    &[
        (100_000, 200_000, 0, 124, 100_000, 100_000, 155, 1, 0, 0),
        (200_000, 300_000, 0, 155, 100_000, 100_000, 186, 1, 1, 0),
        (350_000, 500_000, 0, 186, 133_333, 100_000, 217, 1, 1, 0),
        (500_000, 550_000, 0, 217, 77_777, 77_777, 248, 1, 1, 0),
        (600_000, 700_000, 0, 248, 92_592, 77_777, 279, 1, 1, 0),
        (700_000, 750_000, 0, 279, 64_197, 64_197, 310, 1, 0, 0),
        (750_000, 875_000, 0, 310, 104_732, 64_197, 341, 1, 1, 0),
        (875_000, 900_000, 0, 341, 51_577, 51_577, 372, 1, 1, 0),
        (900_000, 950_000, 0, 279, 50_525, 50_525, 403, 1, 1, 0),
        (950_000, 1_000_000, 0, 279, 50_175, 50_175, 434, 1, 1, 0),
        (1_000_000, 1_050_000, 0, 279, 50_058, 50_058, 465, 1, 1, 0),
        (1_050_000, 1_100_000, 0, 279, 50_019, 50_019, 496, 1, 1, 0),
        (1_100_000, 1_150_000, 0, 279, 50_006, 50_006, 527, 1, 1, 0),
        (1_150_000, 1_200_000, 0, 279, 50_002, 50_002, 558, 1, 1, 0),
        (1_200_000, 1_250_000, 0, 550, 50_000, 50_000, 589, 1, 1, 0),
        (1_250_000, 1_300_000, 0, 550, 50_000, 50_000, 620, 1, 0, 0),
        (1_300_000, 1_350_000, 0, 550, 50_000, 50_000, 635, 1, 1, 0),
        (1_350_000, 1_400_000, 0, 550, 50_000, 50_000, 650, 1, 1, 0),
        (1_400_000, 1_450_000, 0, 150, 50_000, 50_000, 650, 1, 0, 0),
        (1_450_000, 1_500_000, 0, 150, 50_000, 50_000, 650, 1, 0, 0),
        (1_500_000, 1_550_000, 0, 550, 50_000, 50_000, 664, 1, 1, 0),
        (1_500_000, 1_600_000, 0, 550, 83_333, 50_000, 584, 0, 1, 0),
        (1_600_000, 1_650_000, 0, 550, 61_111, 50_000, 585, 0, 1, 0),
        (1_650_000, 1_700_000, 0, 550, 53_703, 50_000, 586, 0, 1, 0),
        (1_700_000, 1_750_000, 0, 100, 51_234, 50_000, 586, 0, 0, 0),
        (1_750_000, 1_900_000, 0, 100, 117_078, 50_000, 559, 0, 0, 0),
        (1_900_000, 2_000_000, 0, 100, 105_692, 50_000, 558, 0, 0, 0),
        (2_000_000, 2_075_000, 0, 500, 85_230, 50_000, 558, 0, 1, 0),
        (2_075_000, 2_125_000, 1, 500, 61_743, 50_000, 557, 0, 1, 1),
        (2_125_000, 2_150_000, 0, 500, 37_247, 37_247, 558, 0, 1, 0),
        (2_150_000, 2_350_000, 0, 500, 145_749, 37_247, 451, 0, 1, 0),
    ],
    &[
        (100_000, 200_000, 0, 124, 100_000, 100_000, 155, 1, 0, 0),
        (200_000, 300_000, 0, 155, 100_000, 100_000, 186, 1, 1, 0),
        (350_000, 500_000, 0, 186, 133_333, 100_000, 217, 1, 1, 0),
        (500_000, 550_000, 1, 217, 77_777, 77_777, 403, 0, 1, 1),
        (600_000, 700_000, 0, 248, 92_592, 77_777, 404, 0, 1, 0),
        (700_000, 750_000, 1, 404, 64_197, 64_197, 403, 0, 0, 1),
        (750_000, 875_000, 0, 403, 104_732, 64_197, 404, 0, 1, 0),
    ],
    &[
        (
            18_258_527, 19_002_938, 0, 83, 744_411, 744_411, 155, 1, 0, 0,
        ),
        (
            18_258_580, 19_254_257, 0, 52, 911_921, 744_411, 186, 1, 1, 0,
        ),
        (
            20_003_224, 20_645_298, 0, 164, 732_023, 732_023, 217, 1, 1, 0,
        ),
        (
            20_003_367, 21_021_444, 0, 133, 922_725, 732_023, 248, 1, 1, 0,
        ),
        (
            20_003_845, 21_265_508, 0, 102, 1_148_683, 732_023, 279, 1, 1, 0,
        ),
        (
            20_003_975, 21_429_157, 0, 71, 1_333_015, 732_023, 310, 1, 0, 0,
        ),
        (
            20_004_309, 21_707_677, 0, 40, 1_579_917, 732_023, 310, 1, 0, 0,
        ),
    ],
    &[
        (
            358_297_091,
            358_854_163,
            0,
            83,
            557_072,
            557_072,
            155,
            1,
            0,
            0,
        ),
        (
            358_297_649,
            359_123_845,
            0,
            52,
            736_488,
            557_072,
            186,
            1,
            1,
            0,
        ),
        (
            359_492_879,
            359_995_330,
            0,
            186,
            580_463,
            557_072,
            217,
            1,
            1,
            0,
        ),
        (
            359_493_043,
            360_489_243,
            0,
            217,
            857_621,
            557_072,
            248,
            1,
            1,
            0,
        ),
        (
            359_493_232,
            360_489_673,
            0,
            248,
            950_167,
            557_072,
            279,
            1,
            1,
            0,
        ),
        (
            359_493_795,
            360_489_971,
            0,
            279,
            980_839,
            557_072,
            310,
            1,
            0,
            0,
        ),
        (
            359_493_918,
            360_490_248,
            0,
            310,
            991_166,
            557_072,
            341,
            1,
            1,
            0,
        ),
        (
            359_494_029,
            360_716_465,
            0,
            341,
            1_145_346,
            557_072,
            372,
            1,
            1,
            0,
        ),
        (
            359_996_888,
            360_948_867,
            0,
            372,
            1_016_434,
            557_072,
            403,
            1,
            1,
            0,
        ),
        (
            359_996_979,
            360_949_330,
            0,
            403,
            973_712,
            557_072,
            434,
            1,
            1,
            0,
        ),
        (
            360_489_528,
            361_113_615,
            0,
            434,
            740_628,
            557_072,
            465,
            1,
            1,
            0,
        ),
        (
            360_489_656,
            361_281_604,
            0,
            465,
            774_841,
            557_072,
            496,
            1,
            1,
            0,
        ),
        (
            360_489_837,
            361_500_461,
            0,
            496,
            932_029,
            557_072,
            482,
            0,
            1,
            0,
        ),
        (
            360_489_963,
            361_500_631,
            0,
            482,
            984_455,
            557_072,
            482,
            0,
            1,
            0,
        ),
        (
            360_490_117,
            361_842_481,
            0,
            482,
            1_229_727,
            557_072,
            481,
            0,
            1,
            0,
        ),
    ],
];

#[test]
fn windows_move_as_those_of_tor() {
    for (table, rows) in TABLES.into_iter().enumerate() {
        let mut vegas = Vegas::new(&CongestionParams::default(), CongestionPath::Exit, 31);
        for (n, row) in rows.iter().enumerate() {
            let (sent, acked, blocked, inflight, current, least, cwnd, start, full, was) = *row;
            let queue = LocalQueue {
                cells: 0,
                is_blocked: blocked == 1,
            };
            vegas.acknowledged(acked - sent, inflight, queue);
            let rtt = (vegas.rtt().current_usec(), vegas.rtt().least_usec());
            assert_eq!(rtt, (current, least), "table {table}, row {n}");
            assert_eq!(vegas.cwnd_cells(), cwnd, "table {table}, row {n}");
            let flags = (start == 1, full == 1, was == 1);
            assert_eq!(vegas.flags(), flags, "table {table}, row {n}");
        }
    }
}

/// Always the same instant; the tests' clocks move on from it.
#[allow(
    clippy::disallowed_methods,
    reason = "a test needs one instant to begin with"
)]
pub(crate) fn epoch() -> Instant {
    static EPOCH: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    *EPOCH.get_or_init(Instant::now)
}

fn congestion() -> Congestion {
    Congestion {
        params: Arc::default(),
        sendme_inc_cells: 31,
        path: CongestionPath::Exit,
    }
}

fn tag(n: u32) -> SendmeTag {
    let mut tag = [0u8; 20];
    tag[..4].copy_from_slice(&n.to_be_bytes());
    tag.into()
}

fn sent(cells: u32, now: Instant) -> CongestionWindow {
    let mut window = CongestionWindow::new(congestion());
    for n in 1..=cells {
        window.packaged(&tag(n), now);
    }
    window
}

#[test]
fn a_hop_stops_at_124_and_slow_start_adds() {
    let now = epoch();
    let mut window = sent(124, now);
    assert_eq!(window.room_cells(), 0);
    let later = now + Duration::from_millis(80);
    for n in 1..=4 {
        let acked =
            window.handle_sendme(Some(tag(31 * n).as_bytes()), LocalQueue::default(), later);
        assert_eq!(acked, Ok(()));
    }
    // Each acknowledged 31, and added as many until the window was no longer full.
    assert_eq!(
        (window.room_cells(), window.inflight_cells()),
        (124 + 3 * 31, 0)
    );
    let early = window.handle_sendme(None, LocalQueue::default(), later);
    assert_eq!(early, Err(WindowViolation::CircuitSendmeEarly));
}

#[test]
fn sendmes_that_lie() {
    let now = epoch();
    let queue = LocalQueue::default();
    let lie = |cells, tag: Option<&[u8]>| sent(cells, now).handle_sendme(tag, queue, now);
    let (early, wrong) = (
        Err(WindowViolation::CircuitSendmeEarly),
        Err(WindowViolation::CircuitSendmeTag),
    );
    assert_eq!(lie(30, None), early);
    assert_eq!(lie(30, Some(&[])), early);
    assert_eq!(lie(62, Some(tag(62).as_bytes())), wrong);
    assert_eq!(lie(31, Some(&[0; 16])), wrong);
    assert_eq!(lie(31, Some(tag(31).as_bytes())), Ok(()));
    assert_eq!(lie(31, None), Ok(()));
}

#[test]
fn each_31st_cell_that_arrives_is_acknowledged() {
    let mut window = CongestionWindow::new(congestion());
    let due: Vec<u32> = (1..=310).filter(|_| window.delivered()).collect();
    assert_eq!(due, (1..=10).map(|n| n * 31).collect::<Vec<u32>>());
}

/// A path with one bottleneck: cells leave it at a rate, and a SENDME is back a fixed time later.
/// Returns cells delivered in the last second, and the longest queue in it.
fn run_path(rate_cells_per_s: u64, delay: Duration, run: Duration) -> (u64, u64) {
    let start = epoch();
    let gap = Duration::from_secs(1) / u32::try_from(rate_cells_per_s).unwrap();
    let mut window = CongestionWindow::new(congestion());
    let mut acks: VecDeque<(Instant, SendmeTag)> = VecDeque::new();
    let mut queue: VecDeque<u32> = VecDeque::new();
    let (mut n, mut unacked, mut delivered, mut longest) = (0u32, 0u32, 0u64, 0u64);
    let mut now = start;
    while now < start + run {
        while acks.front().is_some_and(|(at, _)| *at <= now) {
            let (at, tag) = acks.pop_front().unwrap();
            window
                .handle_sendme(Some(tag.as_bytes()), LocalQueue::default(), at)
                .unwrap();
        }
        while window.room_cells() > 0 {
            n += 1;
            window.packaged(&tag(n), now);
            queue.push_back(n);
        }
        if let Some(cell) = queue.pop_front() {
            unacked += 1;
            if unacked == 31 {
                unacked = 0;
                acks.push_back((now + delay, tag(cell)));
            }
            if now >= start + run - Duration::from_secs(1) {
                delivered += 1;
                longest = longest.max(queue.len() as u64);
            }
        }
        now += gap;
    }
    (delivered, longest)
}

#[test]
fn a_bottleneck_is_filled_and_its_queue_stays_short() {
    for (rate, delay_ms) in [
        (2000, 50),
        (2000, 200),
        (8000, 100),
        (500, 300),
        (20_000, 20),
    ] {
        let delay = Duration::from_millis(delay_ms);
        let (delivered, longest) = run_path(rate, delay, Duration::from_secs(20));
        assert!(
            delivered * 10 >= rate * 9,
            "{delivered} of {rate} cells/s at {delay_ms} ms"
        );
        assert!(
            longest <= 400,
            "a queue of {longest} cells at {rate} cells/s, {delay_ms} ms"
        );
    }
}

/// Parameters at and beyond what a consensus may say.
fn any_params() -> impl Strategy<Value = CongestionParams> {
    any::<[u32; 24]>().prop_map(|draws| {
        let at = std::cell::Cell::new(0);
        CongestionParams::read(|_, _, min, max| {
            let n = draws[at.replace((at.get() + 1) % draws.len())];
            let span = u64::from(max.abs_diff(min)) + 1;
            // Half of them at a bound.
            let offset = match n % 4 {
                0 => 0,
                1 => span - 1,
                _ => u64::from(n) % span,
            };
            i32::try_from(i64::from(min) + offset as i64).unwrap()
        })
    })
}

proptest! {
    #[test]
    fn windows_keep_their_bounds(
        params in any_params(),
        inc in 1u8..=255,
        steps in proptest::collection::vec((any::<u16>(), any::<u64>(), any::<bool>()), 1..200),
    ) {
        let (min, max) = (params.cwnd.min_cells, params.cwnd.max_cells);
        let (min, max) = (min.max(inc.into()), max.max(min).max(inc.into()));
        let congestion = Congestion {
            params: Arc::new(params),
            sendme_inc_cells: inc,
            path: CongestionPath::Onion,
        };
        let mut window = CongestionWindow::new(congestion.clone());
        let mut now = epoch();
        let mut n = 0u32;
        let mut marks = VecDeque::new();
        for (send, rtt, blocked) in steps {
            for _ in 0..window.room_cells().min(usize::from(send % 600)) {
                n += 1;
                window.packaged(&tag(n), now);
                prop_assert!(window.inflight_cells() <= window.vegas().cwnd_cells());
                if n.is_multiple_of(inc.into()) {
                    marks.push_back(n);
                }
            }
            now += Duration::from_micros(rtt >> (send % 50 + 14));
            let queue = LocalQueue { cells: usize::from(send), is_blocked: blocked };
            let acked = window.handle_sendme(marks.front().map(|n| tag(*n)).as_ref()
                .map(SendmeTag::as_bytes), queue, now);
            prop_assert_eq!(acked.is_ok(), marks.pop_front().is_some());
            let cwnd = window.vegas().cwnd_cells();
            prop_assert!(min <= cwnd && cwnd <= max, "{} {} {}", min, cwnd, max);
        }
        // Never stuck: with all acknowledged, another SENDME's worth of cells may be sent.
        prop_assert!(window.inflight_cells() >= inc.into() || window.room_cells() > 0);
    }

    #[test]
    fn two_windows_never_disagree(steps in proptest::collection::vec(any::<bool>(), 0..4000)) {
        let mut now = epoch();
        let congestion = congestion();
        let mut ours = CongestionWindow::new(congestion.clone());
        let mut theirs = CongestionWindow::new(congestion.clone());
        let mut acks = VecDeque::new();
        let mut n = 0;
        for send in steps {
            now += Duration::from_micros(700);
            if send && ours.room_cells() > 0 {
                n += 1;
                ours.packaged(&tag(n), now);
                if theirs.delivered() {
                    acks.push_back(tag(n));
                }
            } else if let Some(ack) = acks.pop_front() {
                let acked = ours.handle_sendme(Some(ack.as_bytes()), LocalQueue::default(), now);
                prop_assert_eq!(acked, Ok(()));
            }
        }
    }
}
