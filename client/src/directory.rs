//! The directory: documents, where they come from, and how far the client is (dir-spec 5).

pub mod bootstrap;
pub(crate) mod fetches;
