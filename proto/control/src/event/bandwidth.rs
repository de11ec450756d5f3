//! Bytes, cells and times: STREAM_BW, CIRC_BW, CONN_BW, CELL_STATS and BUILDTIMEOUT_SET
//! (control-spec 4.1.13, 4.1.16, 4.1.21 to 4.1.23).

use std::fmt::{Display, Formatter, Result};
use std::time::SystemTime;

use super::{push_field, time_with_micros};
use crate::keyword::keywords;

/// STREAM_BW, since the last one of the stream, from the application's side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamBandwidth {
    /// The stream.
    pub id: u64,
    /// Bytes that the application wrote.
    pub written: u64,
    /// Bytes that the application read.
    pub read: u64,
    /// When this was counted.
    pub time: SystemTime,
}

impl Display for StreamBandwidth {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let time = time_with_micros(self.time);
        write!(f, "{} {} {} {time}", self.id, self.written, self.read)
    }
}

/// The congestion control of a circuit, at its last hop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CongestionState {
    /// Whether it is in slow start.
    pub is_slow_start: bool,
    /// The congestion window, in cells.
    pub window_cells: u64,
    /// The smoothed time of a round trip, in milliseconds.
    pub rtt_ms: u64,
    /// The shortest one, in milliseconds.
    pub rtt_min_ms: u64,
}

/// CIRC_BW, since the last one of the circuit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CircuitBandwidth {
    /// The circuit.
    pub id: u64,
    /// Bytes read, checked or not.
    pub read: u64,
    /// Bytes written.
    pub written: u64,
    /// When this was counted.
    pub time: SystemTime,
    /// Bytes in valid messages that were read.
    pub delivered_read: u64,
    /// Bytes left unused in their cells.
    pub overhead_read: u64,
    /// Bytes in messages that were written.
    pub delivered_written: u64,
    /// Bytes left unused in their cells.
    pub overhead_written: u64,
    /// Its congestion control, if it was negotiated.
    pub congestion: Option<CongestionState>,
}

impl Display for CircuitBandwidth {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let mut line = format!("ID={}", self.id);
        push_field(&mut line, "READ", Some(self.read));
        push_field(&mut line, "WRITTEN", Some(self.written));
        push_field(&mut line, "TIME", Some(time_with_micros(self.time)));
        push_field(&mut line, "DELIVERED_READ", Some(self.delivered_read));
        push_field(&mut line, "OVERHEAD_READ", Some(self.overhead_read));
        push_field(&mut line, "DELIVERED_WRITTEN", Some(self.delivered_written));
        push_field(&mut line, "OVERHEAD_WRITTEN", Some(self.overhead_written));
        if let Some(congestion) = &self.congestion {
            push_field(&mut line, "SS", Some(u8::from(congestion.is_slow_start)));
            push_field(&mut line, "CWND", Some(congestion.window_cells));
            push_field(&mut line, "RTT", Some(congestion.rtt_ms));
            push_field(&mut line, "MIN_RTT", Some(congestion.rtt_min_ms));
        }
        f.write_str(&line)
    }
}

keywords! {
    /// What a connection is.
    pub enum ConnKind {
        Or = "OR",
        Dir = "DIR",
        Exit = "EXIT",
    }
}

/// CONN_BW, since the last one of the connection; in testing networks only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnBandwidth {
    /// The connection.
    pub id: u64,
    /// What it is.
    pub kind: ConnKind,
    /// Bytes read.
    pub read: u64,
    /// Bytes written.
    pub written: u64,
}

impl Display for ConnBandwidth {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let ConnBandwidth {
            id,
            kind,
            read,
            written,
        } = self;
        write!(f, "ID={id} TYPE={kind} READ={read} WRITTEN={written}")
    }
}

/// Cells of one kind that left a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CellCount {
    /// The kind, in small letters, such as `relay_early`.
    pub kind: String,
    /// How many went in.
    pub added: u64,
    /// How many came out.
    pub removed: u64,
    /// How long those waited in all, in milliseconds.
    pub waited_ms: u64,
}

/// One direction of a circuit's cells.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct QueueStats {
    /// The circuit's id on its connection there, and the connection, where there is one.
    pub queue: Option<(u64, u64)>,
    /// Cells by kind.
    pub cells: Vec<CellCount>,
}

impl QueueStats {
    fn push_to(&self, line: &mut String, direction: &str) {
        if let Some((queue, conn)) = self.queue {
            push_field(line, &format!("{direction}Queue"), Some(queue));
            push_field(line, &format!("{direction}Conn"), Some(conn));
        }
        let list = |count: fn(&CellCount) -> u64, is_there: fn(&CellCount) -> bool| {
            let cells = self.cells.iter().filter(|cells| is_there(cells));
            let texts = cells.map(|cells| format!("{}:{}", cells.kind, count(cells)));
            let texts: Vec<String> = texts.collect();
            (!texts.is_empty()).then(|| texts.join(","))
        };
        let added = list(|cells| cells.added, |cells| cells.added > 0);
        push_field(line, &format!("{direction}Added"), added);
        let removed = list(|cells| cells.removed, |cells| cells.removed > 0);
        push_field(line, &format!("{direction}Removed"), removed);
        let waited = list(|cells| cells.waited_ms, |cells| cells.removed > 0);
        push_field(line, &format!("{direction}Time"), waited);
    }
}

/// CELL_STATS, since the last one of the circuit; in testing networks only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CellStats {
    /// The circuit, if it is our own.
    pub id: Option<u64>,
    /// Cells towards the client.
    pub inbound: QueueStats,
    /// Cells away from the client.
    pub outbound: QueueStats,
}

impl Display for CellStats {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let mut line = String::new();
        push_field(&mut line, "ID", self.id);
        self.inbound.push_to(&mut line, "Inbound");
        self.outbound.push_to(&mut line, "Outbound");
        f.write_str(line.trim_start())
    }
}

keywords! {
    /// Why the time-out of circuits changed.
    pub enum BuildTimeoutKind {
        Computed = "COMPUTED",
        Reset = "RESET",
        Suspended = "SUSPENDED",
        Discard = "DISCARD",
        Resume = "RESUME",
    }
}

/// BUILDTIMEOUT_SET (path-spec 2.4).
#[derive(Debug, Clone, PartialEq)]
pub struct BuildTimeout {
    /// Why it changed.
    pub kind: BuildTimeoutKind,
    /// How many build times it was computed from.
    pub times: u64,
    /// When a circuit is given up, in milliseconds.
    pub timeout_ms: u64,
    /// The Pareto parameter Xm, in milliseconds.
    pub xm_ms: u64,
    /// The Pareto parameter alpha.
    pub alpha: f64,
    /// The part of circuits that should be in time.
    pub quantile: f64,
    /// The part of circuits that were given up.
    pub timeout_rate: f64,
    /// When a circuit is closed, in milliseconds.
    pub close_ms: u64,
    /// The part of circuits that were closed, where that is counted.
    pub close_rate: Option<f64>,
}

impl Display for BuildTimeout {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let mut line = self.kind.to_string();
        push_field(&mut line, "TOTAL_TIMES", Some(self.times));
        push_field(&mut line, "TIMEOUT_MS", Some(self.timeout_ms));
        push_field(&mut line, "XM", Some(self.xm_ms));
        push_field(&mut line, "ALPHA", Some(format!("{:.6}", self.alpha)));
        push_field(
            &mut line,
            "CUTOFF_QUANTILE",
            Some(format!("{:.6}", self.quantile)),
        );
        push_field(
            &mut line,
            "TIMEOUT_RATE",
            Some(format!("{:.6}", self.timeout_rate)),
        );
        push_field(&mut line, "CLOSE_MS", Some(self.close_ms));
        let close_rate = self.close_rate.map(|rate| format!("{rate:.6}"));
        push_field(&mut line, "CLOSE_RATE", close_rate);
        f.write_str(&line)
    }
}
