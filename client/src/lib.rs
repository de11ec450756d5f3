//! client

pub mod plane;
