//! What became of requests, and what was kept.

use super::*;

impl World {
    /// The stream of a request that was answered well.
    pub(crate) fn connected(&mut self, request: RequestId) -> StreamKey {
        match self.answers.remove(&request) {
            Some(Command::SocksConnected { stream, .. }) => stream,
            other => panic!("connected, not {other:?}"),
        }
    }

    pub(crate) fn failed(&mut self, request: RequestId) -> SocksStatus {
        match self.answers.remove(&request) {
            Some(Command::SocksFailed { status, .. }) => status,
            other => panic!("failed, not {other:?}"),
        }
    }

    pub(crate) fn saved_state(&self) -> SavedState {
        let mut state = SavedState::default();
        for saved in self.saved.iter().cloned() {
            match saved {
                Saved::Guards(text) => state.guards = Some(text),
                Saved::BuildTimes(text) => state.build_times = Some(text),
                Saved::PathBias(text) => state.path_bias = Some(text),
                Saved::Vanguards(text) => state.vanguards = Some(text),
                Saved::Dormancy(text) => state.dormancy = Some(text),
                Saved::Consensus { text, .. } => state.consensus = Some(text),
                Saved::NsConsensus(_) => {}
                Saved::Certificate { text, .. } => state.certificates.push(text),
                Saved::Microdescs(texts) => state.microdescs.extend(texts),
            }
        }
        state
    }
}
