//! detached
