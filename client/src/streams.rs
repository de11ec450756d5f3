//! The streams of applications, from the request to the end (path-spec 2.1.2, 3).

pub mod automap;
pub(crate) mod requests;
