//! netdoc
