//! extrainfo
