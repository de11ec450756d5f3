//! Numbers with names: the tables of command, reason and type codes in the specifications.
//!
//! A code is a newtype over its integer, never an enum: peers may send numbers that we do not know,
//! and such a number must survive being read and written again.

macro_rules! codes {
    (
        $(#[$meta:meta])*
        pub struct $name:ident($int:ty) { $($code:ident = $value:literal,)* }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(
            /// The number on the wire.
            pub $int,
        );

        impl $name {
            $(
                #[doc = concat!("Number ", stringify!($value), ".")]
                pub const $code: $name = $name($value);
            )*

            /// Whether it is one of the numbers with a name.
            #[must_use]
            pub fn is_known(self) -> bool {
                [$($value),*].contains(&self.0)
            }
        }

        impl std::fmt::Display for $name {
            /// The specification's name, or the number where there is none.
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                match self.0 {
                    $($value => f.write_str(stringify!($code)),)*
                    number => write!(f, "{number}"),
                }
            }
        }
    };
}

pub(crate) use codes;
