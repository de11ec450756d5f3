//! The ring against its definition: overlaps in time, wrap-around, small rings.
