//! Gates and passes.

use super::*;

fn relay() -> Doors {
    Doors::of_relay(Descriptors::raise(), false, Rng::from_seed([1; 32]))
}

fn ip(n: u8) -> Option<IpAddr> {
    Some([192, 0, 2, n].into())
}

#[tokio::test]
async fn a_pass_gives_its_place_back() {
    let doors = relay();
    let gate = doors.gate(DIR_PORT);
    let passes: Vec<_> = (0..9).map(|n| gate.enter(ip(n)).unwrap()).collect();
    let inside = || doors.door_counts()[DIR_PORT.0].1.inside;
    assert_eq!(inside(), 9);
    drop(passes);
    assert_eq!(inside(), 0);
    assert!(doors.lock().wakers.is_empty());
}

#[tokio::test]
async fn the_silent_one_hears_that_he_has_to_go() {
    let doors = relay();
    let gate = doors.gate(DIR_PORT);
    let share = DIR_CONNECTIONS_MAX / 16;
    let silent: Vec<_> = (0..share).map(|_| gate.enter(ip(1)).unwrap()).collect();
    silent[0].set_busy(true);
    let newcomer = gate.enter(ip(1)).unwrap();
    silent[1].evicted().await;
    let counts = doors.door_counts()[DIR_PORT.0].1;
    assert_eq!(
        (counts.inside, counts.evicted, counts.refused),
        (share, 1, 0)
    );
    drop(silent);
    newcomer.set_busy(true);
    assert_eq!(doors.door_counts()[DIR_PORT.0].1.inside, 1);
}

#[tokio::test]
async fn streams_that_leave_have_what_links_and_the_dir_port_leave() {
    let doors = relay();
    let connections = Descriptors::raise().connections_max();
    let rest = connections - connections / 2 - DIR_CONNECTIONS_MAX.min(connections / 4);
    let gate = doors.gate(EXITS);
    let streams: Vec<_> = (0..rest).map(|_| gate.enter(None).unwrap()).collect();
    let _newcomer = gate.enter(None).unwrap();
    streams[0].evicted().await;
    assert_eq!(doors.door_counts()[EXITS.0].1.inside, rest);
}

#[tokio::test]
async fn open_links_are_counted_until_they_end() {
    let doors = relay();
    let first = doors.gate(OR_PORT).enter(ip(1)).unwrap();
    let account = first.account().unwrap();
    first.opened();
    first.opened();
    assert_eq!(account.open_links(), 1);
    let second = doors.gate(OR_PORT).enter(ip(1)).unwrap();
    second.opened();
    assert_eq!(account.open_links(), 2);
    drop((first, second));
    assert_eq!(account.open_links(), 0);
}

#[tokio::test]
async fn a_listener_takes_one_after_the_other() {
    let gate = Doors::aside(&["test"]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let mut silent = Vec::new();
    let mut inside = Vec::new();
    for _ in 0..ASIDE_MAX + 3 {
        silent.push(TcpStream::connect(addr).await.unwrap());
        inside.push(gate.accept(&listener).await);
    }
    for (_, _, pass) in &inside[..3] {
        pass.evicted().await;
    }
    inside.iter().for_each(|it| it.2.set_busy(true));
    let refused = TcpStream::connect(addr).await.unwrap();
    let none = tokio::time::timeout(Duration::from_millis(50), gate.accept(&listener)).await;
    assert!(none.is_err(), "all are busy");
    drop((refused, inside.pop()));
    let _next = TcpStream::connect(addr).await.unwrap();
    gate.accept(&listener).await;
}
