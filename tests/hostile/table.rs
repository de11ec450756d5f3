//! The figures of all attacks, as a table: printed, and with `CEPA_HOSTILE=FILE` written there.

use std::fmt::Write as _;
use std::sync::Mutex;
use std::time::Duration;

/// What one attack did.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    /// What the attacker spent.
    pub(crate) cost: String,
    /// The median of honest latencies without it, and with it.
    pub(crate) quiet: Duration,
    pub(crate) during: Duration,
    /// The victim's memory before, at most, and after, in bytes.
    pub(crate) resident: [u64; 3],
    /// Its descriptors before, under attack, and after.
    pub(crate) fds: [usize; 3],
    /// How long after the attack all was as before; none: not within the limit.
    pub(crate) calm: Option<Duration>,
}

static ROWS: Mutex<Vec<Row>> = Mutex::new(Vec::new());

/// Adds a row, and writes all so far.
pub(crate) fn add(row: Row) {
    let text = {
        let mut rows = ROWS.lock().unwrap();
        // An attack that is repeated has one row.
        rows.retain(|known| known.name != row.name);
        rows.push(row);
        rows.sort_by_key(|row| row.name);
        render(&rows)
    };
    if let Ok(path) = std::env::var("CEPA_HOSTILE") {
        std::fs::write(path, text).unwrap();
    }
}

/// Prints all rows so far.
pub(crate) fn print() {
    println!("{}", render(&ROWS.lock().unwrap()));
}

fn render(rows: &[Row]) -> String {
    let mut text = String::from(
        "| attack | by | honest, quiet | honest, attacked | memory: before, most, after | \
         descriptors | as before after |\n|---|---|---:|---:|---|---|---:|\n",
    );
    for row in rows {
        let millis = |time: Duration| format!("{:.0} ms", time.as_secs_f64() * 1000.0);
        let resident = row.resident.map(|bytes| (bytes >> 20).to_string());
        let fds = row.fds.map(|count| count.to_string());
        let calm = row.calm.map(|time| format!("{:.1} s", time.as_secs_f64()));
        // Writing to a String does not fail.
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} MiB | {} | {} |",
            row.name,
            row.cost,
            millis(row.quiet),
            millis(row.during),
            resident.join(", "),
            fds.join(", "),
            calm.as_deref().unwrap_or("not"),
        );
    }
    text
}
