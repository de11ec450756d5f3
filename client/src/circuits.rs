//! The circuits of a client and the links under them (path-spec 2).

pub(crate) mod build_times;
pub(crate) mod links;
pub(crate) mod path_bias;
pub(crate) mod pool;
