//! What strangers may take of a process: places, work and memory, counted in constant memory.
//!
//! Pure machines, shared by all doors (OR port, DirPort, BEGIN_DIR, SOCKS, control): no I/O and no
//! clock. The shell asks before it lets a stranger in, and tells when he has left.
