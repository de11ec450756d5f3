//! What circuits and streams have carried (control-spec 4.1.13, 4.1.22).

use std::time::SystemTime;

use cepa_client::plane::{CircuitCarried, StreamCarried};
use cepa_client::{CircuitId, RequestId};
use cepa_control::event::{CircuitBandwidth, StreamBandwidth};

pub(super) fn of_circuit(
    circuit: CircuitId,
    carried: &CircuitCarried,
    now: SystemTime,
) -> CircuitBandwidth {
    CircuitBandwidth {
        id: circuit.0,
        read: carried.read_bytes,
        written: carried.written_bytes,
        time: now,
        delivered_read: carried.delivered_read_bytes,
        overhead_read: carried.overhead_read_bytes,
        delivered_written: carried.delivered_written_bytes,
        overhead_written: carried.overhead_written_bytes,
        congestion: None,
    }
}

pub(super) fn of_stream(
    stream: RequestId,
    carried: &StreamCarried,
    now: SystemTime,
) -> StreamBandwidth {
    StreamBandwidth {
        id: super::number_of(stream),
        written: carried.written_bytes,
        read: carried.read_bytes,
        time: now,
    }
}
