//! What an option of `tor` is: its name, its type, its default, and what becomes of it here.

/// The type of a value, as `GETINFO config/names` tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// 0 or 1.
    Bool,
    /// 0, 1 or auto.
    AutoBool,
    /// A number from 0 on, of 31 bits.
    Number,
    /// A number from 0 on, of 64 bits.
    Number64,
    /// A number.
    Signed,
    /// A number with a fraction.
    Float,
    /// A time, in seconds unless a unit is given.
    Interval,
    /// A time, in milliseconds unless a unit is given.
    Millis,
    /// Bytes, with units.
    Size,
    /// Words with commas between them.
    Words,
    /// Relays, with commas between them.
    Routers,
    /// Any text.
    Text,
    /// A path.
    Path,
    /// As many lines as are written.
    Lines,
}

impl Kind {
    /// Its name in `config/names`.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Bool => "Boolean",
            Kind::AutoBool => "Boolean+Auto",
            Kind::Number | Kind::Number64 => "Integer",
            Kind::Signed => "SignedInteger",
            Kind::Float => "Float",
            Kind::Interval => "TimeInterval",
            Kind::Millis => "TimeMsecInterval",
            Kind::Size => "DataSize",
            Kind::Words => "CommaList",
            Kind::Routers => "RouterList",
            Kind::Text => "String",
            Kind::Path => "Filename",
            Kind::Lines => "LineList",
        }
    }
}

/// What becomes of an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It means here what it means in `tor`.
    Meant,
    /// It has no meaning here, and nobody is worse off for it: it is told at info.
    Accepted,
    /// Whoever writes it would be misled if it were passed over: it is an error, unless it says
    /// what is so anyway.
    Refused,
}

/// An option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OptionInfo {
    /// Its name.
    pub name: &'static str,
    /// The type of its value.
    pub kind: Kind,
    /// Its default; empty if it is not set.
    pub default: &'static str,
    /// What becomes of it.
    pub fate: Fate,
    /// What it is here, or why it is nothing.
    pub why: &'static str,
}
