//! microdesc
