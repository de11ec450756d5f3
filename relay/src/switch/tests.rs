//! Switches wired in memory, with a client that speaks cells.

mod attacks;
mod cgo;
mod channels;
mod dos;
mod flow;
mod net;
mod padding;
mod paths;
mod points;
mod rendezvous;
mod streams;
