//! What a switch counts, for logs and metrics: what there is, and what became of the rarer
//! messages. Nothing is counted by the cell.

use std::ops::AddAssign;

use cepa_limits::DosCounts;

use super::memory::MemoryCounts;
use super::onionskins::OnionskinCounts;
use super::points::PointCounts;
use super::streams::StreamCounts;

/// What a switch has and has counted, for logs and metrics.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize)]
pub struct SwitchCounts {
    /// Open channels.
    pub channels: usize,
    /// Those of them that we opened.
    pub channels_initiated: usize,
    /// Circuits that begin at these channels.
    pub circuits: usize,
    /// Streams, look-ups included.
    pub streams: usize,
    /// Cells that wait to be sent.
    pub queued_cells: usize,
    /// Onionskins that wait for their answer.
    pub onionskins: usize,
    /// How many onionskins were answered and refused since the start.
    pub onionskins_ever: OnionskinCounts,
    /// Streams that were taken, ever.
    pub streams_taken: StreamCounts,
    /// What was refused by `tor`'s defences.
    pub dos: DosCounts,
    /// What is done for onion services.
    pub points: PointCounts,
    /// How often the limit of memory closed something.
    pub memory: MemoryCounts,
}

impl AddAssign<&SwitchCounts> for SwitchCounts {
    fn add_assign(&mut self, other: &SwitchCounts) {
        self.channels += other.channels;
        self.channels_initiated += other.channels_initiated;
        self.circuits += other.circuits;
        self.streams += other.streams;
        self.queued_cells += other.queued_cells;
        self.onionskins += other.onionskins;
        self.onionskins_ever += other.onionskins_ever;
        self.streams_taken.begin += other.streams_taken.begin;
        self.streams_taken.begin_dir += other.streams_taken.begin_dir;
        self.streams_taken.resolve += other.streams_taken.resolve;
        self.dos += &other.dos;
        self.points += &other.points;
        self.memory += other.memory;
    }
}
