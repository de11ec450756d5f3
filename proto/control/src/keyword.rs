//! Enums whose variants are words of the protocol.
//!
//! Words are written as `tor` writes them and read in any case (control-spec 3).

/// Declares an enum of words: `ALL` lists them, `name` writes one, `from_name` reads one.
macro_rules! keywords {
    ($(#[$attribute:meta])* pub enum $name:ident {
        $($variant:ident = $word:literal,)+
    }) => {
        $(#[$attribute])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $(#[doc = concat!("`", $word, "`.")] $variant,)+
        }

        impl $name {
            /// Each of them, in the order in which they are listed to controllers.
            pub const ALL: &'static [$name] = &[$($name::$variant),+];

            /// The word of the protocol.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $($name::$variant => $word,)+
                }
            }

            /// The one of that word, in any case.
            #[must_use]
            pub fn from_name(word: &str) -> Option<$name> {
                $name::ALL
                    .iter()
                    .copied()
                    .find(|one| one.name().eq_ignore_ascii_case(word))
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}

pub(crate) use keywords;
