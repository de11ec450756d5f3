//! Small networks: what their users get, and that a seed does the same again.

use super::*;

const SMALL: Size = Size {
    authorities: 3,
    relays: 6,
    exits: 2,
    clients: 2,
    onion_services: 1,
    time: Duration::from_secs(300),
    delay: Duration::from_millis(20),
    jitter: Duration::from_millis(5),
    rate: 2_000_000,
    crash_one_in: 0,
    think: Duration::from_secs(10),
};

#[expect(
    clippy::disallowed_methods,
    reason = "a simulation's clock starts somewhere"
)]
fn base() -> Instant {
    Instant::now()
}

#[test]
fn clients_get_what_they_ask_for() {
    let report = run(1, SMALL, base(), std::env::var("CEPA_TRACE").is_ok());
    println!("{}", report.trace.clone().unwrap_or_default());
    println!("{report}\n{:?}", report.violations);
    assert_eq!(report.violations, [""; 0]);
    assert!(report.bootstrapped.len() >= 2, "{report}");
    assert!(report.answered() > 10, "{report}");
    let again = run(1, SMALL, base(), false);
    assert_eq!(again.hash, report.hash, "the same seed, the same bytes");
}
