//! Paths for onion services in drawn networks.
