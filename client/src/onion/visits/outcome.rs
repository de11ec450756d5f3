//! How visits come out, and what an application is told of it (socks-extensions; `ExtendedErrors`
//! in tor(1)).
//!
//! ```text
//! request ─▶ Ready ─▶ Lost
//!    └─▶ Failed
//! ```
//!
//! Invariants: each request is answered by Ready or Failed; after Failed or Lost nothing more is
//! told of a visit, and the next request for the same service begins another.

use crate::names::{CircuitName, VisitId};
use cepa_wire::socks::SocksStatus;

/// How a visit of an onion service came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The service is at the other end of this circuit: streams may be opened.
    Ready {
        /// The visit whose circuit stands.
        visit: VisitId,
        /// Its rendezvous circuit, joined.
        circuit: CircuitName,
    },
    /// The service cannot be visited.
    Failed {
        /// The visit that has failed.
        visit: VisitId,
        /// Why the visit has failed.
        error: VisitError,
    },
    /// The visit was ready, and its circuit is gone, with all streams over it.
    Lost {
        /// The visit that is lost.
        visit: VisitId,
    },
}

/// Why an onion service cannot be visited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum VisitError {
    /// There is no consensus yet, no ring, or no circuit to any of its directories.
    #[error("no way to a directory of onion services")]
    NoPath,
    /// None of the responsible directories has it (F0).
    #[error("the service's descriptor was not found")]
    DescriptorNotFound,
    /// What the directories have is no descriptor of this service (F1).
    #[error("the service's descriptor is invalid")]
    DescriptorInvalid,
    /// No introduction point passed our request on (F2).
    #[error("no introduction point could be used")]
    IntroductionFailed,
    /// The service did not come to the rendezvous point (F3).
    #[error("the service did not come to the rendezvous")]
    RendezvousFailed,
    /// The descriptor is for clients with a key, and we have none for it (F4).
    #[error("the service wants a client key")]
    ClientKeyMissing,
    /// Our key is none of those that the descriptor is for (F5).
    #[error("the service does not know our client key")]
    ClientKeyWrong,
    /// The address cannot be one (F6).
    #[error("the address is invalid")]
    BadAddress,
    /// No introduction point answered in time (F7).
    #[error("the introduction points did not answer in time")]
    IntroductionTimedOut,
    /// There are too many visits.
    #[error("too many visits")]
    TooMany,
}

impl VisitError {
    /// The answer to the SOCKS request.
    #[must_use]
    pub fn socks_status(self) -> SocksStatus {
        match self {
            VisitError::NoPath | VisitError::TooMany => SocksStatus::GENERAL_FAILURE,
            VisitError::DescriptorNotFound => SocksStatus::HS_DESC_NOT_FOUND,
            VisitError::DescriptorInvalid => SocksStatus::HS_DESC_INVALID,
            VisitError::IntroductionFailed => SocksStatus::HS_INTRO_FAILED,
            VisitError::RendezvousFailed => SocksStatus::HS_REND_FAILED,
            VisitError::ClientKeyMissing => SocksStatus::HS_MISSING_CLIENT_AUTH,
            VisitError::ClientKeyWrong => SocksStatus::HS_BAD_CLIENT_AUTH,
            VisitError::BadAddress => SocksStatus::HS_BAD_ADDRESS,
            VisitError::IntroductionTimedOut => SocksStatus::HS_INTRO_TIMED_OUT,
        }
    }
}
