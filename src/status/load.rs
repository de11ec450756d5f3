//! The metrics of a relay's load: onionskins and memory, under `tor`'s names where `tor` has them.

use cepa_limits::{Memory, MemoryClass};
use cepa_relay::{OnionskinKind, SwitchCounts};

/// A metric: name, kind, help, and rows of labels and value.
pub(super) type Metric = (&'static str, &'static str, &'static str, Vec<(String, u64)>);

/// What became of onionskins, what memory is held for, and what was thrown away of it.
pub(super) fn load(counts: &SwitchCounts, memory: &Memory) -> [Metric; 4] {
    let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    let labels = |class: MemoryClass| format!("subsys=\"{}\"", class.label());
    let freed = |class| (labels(class), memory.freed_bytes(class));
    let held = |class| (labels(class), number(memory.held_bytes(class)));
    let all = MemoryClass::ALL;
    [
        (
            "tor_relay_load_onionskins_total",
            "counter",
            "Onionskins answered, and not",
            onionskins(counts),
        ),
        (
            "tor_relay_load_oom_bytes_total",
            "counter",
            "Bytes thrown away because memory was short",
            all.map(freed).into(),
        ),
        (
            "cepa_memory_bytes",
            "gauge",
            "Bytes held",
            all.map(held).into(),
        ),
        (
            "cepa_memory_max_bytes",
            "gauge",
            "Bytes that may be held",
            vec![(String::new(), number(memory.max_bytes()))],
        ),
    ]
}

/// What became of onionskins, by their type.
fn onionskins(counts: &SwitchCounts) -> Vec<(String, u64)> {
    let kinds = OnionskinKind::ALL.into_iter();
    let rows = kinds.flat_map(|kind| {
        let (processed, dropped) = counts.onionskins_ever.number(kind);
        let row = |action: &str, count| {
            let labels = format!("type=\"{}\",action=\"{action}\"", kind.label());
            (labels, count)
        };
        [row("processed", processed), row("dropped", dropped)]
    });
    rows.collect()
}
