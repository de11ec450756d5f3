//! The signals of SIGNAL and of the event of that name (control-spec 3.7, 4.1.17).
//!
//! Some have two names, that of the specification and that of POSIX; events have the former.

use crate::keyword::keywords;

keywords! {
    /// What SIGNAL asks for (control-spec 3.7), in `tor`'s order of `signal/names`.
    pub enum Signal {
        Reload = "RELOAD",
        Hup = "HUP",
        Shutdown = "SHUTDOWN",
        Dump = "DUMP",
        Usr1 = "USR1",
        Debug = "DEBUG",
        Usr2 = "USR2",
        Halt = "HALT",
        Term = "TERM",
        Int = "INT",
        NewNym = "NEWNYM",
        ClearDnsCache = "CLEARDNSCACHE",
        Heartbeat = "HEARTBEAT",
        Active = "ACTIVE",
        Dormant = "DORMANT",
    }
}

impl Signal {
    /// The same signal under the name by which events know it: `HUP` is `RELOAD`.
    #[must_use]
    pub fn canonical(self) -> Signal {
        match self {
            Signal::Hup => Signal::Reload,
            Signal::Usr1 => Signal::Dump,
            Signal::Usr2 => Signal::Debug,
            Signal::Term => Signal::Halt,
            Signal::Int => Signal::Shutdown,
            other => other,
        }
    }
}
