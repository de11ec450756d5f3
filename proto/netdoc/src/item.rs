//! The meta-format of directory documents: items of a keyword line and an optional object
//! (dir-spec.txt section 1.2).
//!
//! [`Items`] walks a document without copying: every [`Item`] borrows from it and knows its byte
//! offsets, so that signed ranges can be cut out exactly. It takes what `tor` takes, since all
//! authorities must judge alike: white space and `#` comments between items, `opt` before a
//! keyword, keywords of any form (unknown ones are yielded like all others and ignored by the
//! callers), a last line without its newline. Objects are found eagerly, their base64 is decoded
//! under a bound. Bytes and items of a document are bounded by the caller's [`Limits`]. After an
//! error the iterator ends.

use std::time::SystemTime;

use cepa_crypto::encoding;
use memchr::{memchr, memmem};

use crate::timestamp;

/// Longest line of any document, in bytes: `tor` refuses a document with a longer one. Texts that
/// are kept as they stand (`v`, `pr`, `contact`, ...) have no other bound, so that what one reader
/// takes all take.
pub const LINE_LEN_MAX: usize = 128 * 1024;
/// Most arguments of a line whose arguments are looked at one by one, as in `tor`.
pub const ARGS_MAX: usize = 512;

/// What a caller is ready to walk through: no document is larger, none has more items.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest document, in bytes.
    pub bytes_max: usize,
    /// The most items that a document may have.
    pub items_max: usize,
}

/// Why a text is not a document, or an item not what it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ItemError {
    /// The document is longer than the caller's bound.
    #[error("document is longer than {0} bytes")]
    TooLong(usize),
    /// The document has more items than the caller's bound.
    #[error("document has more than {0} items")]
    TooManyItems(usize),
    /// A line is longer than [`LINE_LEN_MAX`].
    #[error("line at byte {0} is longer than {LINE_LEN_MAX} bytes")]
    LineTooLong(usize),
    /// A line is an annotation, which no document has that is sent.
    #[error("line at byte {0} is an annotation")]
    Annotation(usize),
    /// The document holds a NUL.
    #[error("byte {0} is a NUL")]
    NulByte(usize),
    /// An object has a malformed first line, or no end, or the end of another tag.
    #[error("object at byte {0} is malformed")]
    BadObject(usize),
    /// An object is not base64.
    #[error("object {0} is not base64")]
    BadBase64(String),
    /// An object is longer, decoded, than the caller's bound.
    #[error("object {0} is too long")]
    ObjectTooLong(String),
    /// An item that must be there is not.
    #[error("item {0} is missing")]
    Missing(String),
    /// An item that may occur once occurs again.
    #[error("item {0} occurs more than once")]
    Repeated(String),
    /// An item has no object of the wanted tag, or an object where it must have none.
    #[error("item {0} has no object of the right tag")]
    WrongObject(String),
    /// An argument is missing or malformed.
    #[error("argument {1} of {0} is missing or malformed")]
    BadArgument(String, usize),
}

/// An object: the block in PEM style after a keyword line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Object<'a> {
    /// The words between `-----BEGIN ` and `-----`.
    pub tag: &'a str,
    /// The lines between the first and the last, undecoded.
    pub body: &'a str,
}

impl Object<'_> {
    /// Decodes the base64, with or without padding, if it is at most `bytes_max` long.
    pub fn decode(&self, bytes_max: usize) -> Result<Vec<u8>, ItemError> {
        // Line breaks and padding take less than a sixteenth on top of four thirds.
        if self.body.len() > bytes_max.saturating_mul(3) / 2 + 64 {
            return Err(ItemError::ObjectTooLong(self.tag.to_owned()));
        }
        let bytes = encoding::base64_decode(self.body)
            .ok_or_else(|| ItemError::BadBase64(self.tag.to_owned()))?;
        if bytes.len() > bytes_max {
            return Err(ItemError::ObjectTooLong(self.tag.to_owned()));
        }
        Ok(bytes)
    }
}

/// One item of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item<'a> {
    /// The keyword.
    pub keyword: &'a str,
    /// All after the keyword and the white space behind it, without the newline. What is kept as
    /// it stands (`contact`, `v`, `pr`, ...) is this.
    pub args_text: &'a str,
    /// The object, if there is one.
    pub object: Option<Object<'a>>,
    /// Offset of the keyword's first byte in the document.
    pub start: usize,
    /// Offset of the byte behind the keyword line's newline.
    pub line_end: usize,
    /// Offset of the byte behind the item, its object included.
    pub end: usize,
}

impl<'a> Item<'a> {
    /// The arguments, in order; a `#` ends one like a space, and behind a space all of them.
    pub fn args(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        args(self.args_text)
    }

    /// The argument at `index`, counted from zero.
    pub fn arg(&self, index: usize) -> Result<&'a str, ItemError> {
        self.args()
            .nth(index)
            .ok_or_else(|| self.bad_argument(index))
    }

    /// The argument at `index` as what it stands for (a number, an address).
    pub fn arg_as<T: std::str::FromStr>(&self, index: usize) -> Result<T, ItemError> {
        self.arg(index)?
            .parse()
            .map_err(|_| self.bad_argument(index))
    }

    /// The arguments at `index` and behind it as a time, `YYYY-MM-DD HH:MM:SS`.
    pub fn timestamp(&self, index: usize) -> Result<SystemTime, ItemError> {
        timestamp::parse_words(self.arg(index)?, self.arg(index + 1)?)
            .map_err(|_| self.bad_argument(index))
    }

    /// The error that says that argument `index` is bad.
    pub fn bad_argument(&self, index: usize) -> ItemError {
        ItemError::BadArgument(self.keyword.to_owned(), index)
    }

    /// The decoded object, which must have the tag `tag` and be at most `bytes_max` long.
    pub fn object_bytes(&self, tag: &str, bytes_max: usize) -> Result<Vec<u8>, ItemError> {
        match self.object {
            Some(object) if object.tag == tag => object.decode(bytes_max),
            _ => Err(ItemError::WrongObject(self.keyword.to_owned())),
        }
    }

    /// The range of a document that ends with the first space behind this keyword (the signed
    /// range of `router-sig-ed25519` and `directory-signature`), from `from` on.
    pub fn through_space<'t>(&self, document: &'t str, from: usize) -> Option<&'t str> {
        let end = self.start + self.keyword.len();
        let range = document.get(from..end + 1)?;
        range.ends_with(' ').then_some(range)
    }

    /// The range of a document that ends with this keyword line's newline (the signed range of
    /// `router-signature`), from `from` on.
    pub fn through_line<'t>(&self, document: &'t str, from: usize) -> Option<&'t str> {
        document.get(from..self.line_end)
    }
}

/// The items of a document, in order.
#[derive(Clone, Debug)]
pub struct Items<'a> {
    text: &'a str,
    offset: usize,
    items_left: usize,
    limits: Limits,
}

impl<'a> Items<'a> {
    /// Starts at the beginning of `text`, which must be within `limits`.
    pub fn new(text: &'a str, limits: Limits) -> Result<Self, ItemError> {
        if text.len() > limits.bytes_max {
            return Err(ItemError::TooLong(limits.bytes_max));
        }
        if let Some(at) = memchr(0, text.as_bytes()) {
            return Err(ItemError::NulByte(at));
        }
        Ok(Self {
            text,
            offset: 0,
            items_left: limits.items_max,
            limits,
        })
    }

    /// The document.
    pub fn text(&self) -> &'a str {
        self.text
    }

    /// The offset at which the next item or blank line starts.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// The line at `at` without its newline, and the offset behind it.
    fn line(&self, at: usize) -> (&'a str, usize) {
        let rest = self.text.get(at..).unwrap_or_default();
        match memchr(b'\n', rest.as_bytes()) {
            Some(len) => (rest.get(..len).unwrap_or_default(), at + len + 1),
            None => (rest, self.text.len()),
        }
    }

    /// The offset of the first byte from `at` on that is neither white space nor in a comment.
    fn next_token(&self, at: usize) -> usize {
        let bytes = self.text.as_bytes();
        let mut at = at;
        loop {
            match bytes.get(at) {
                Some(b' ' | b'\t' | b'\r' | b'\n') => at += 1,
                Some(b'#') => {
                    let rest = bytes.get(at..).unwrap_or_default();
                    at += memchr(b'\n', rest).unwrap_or(rest.len());
                }
                _ => return at,
            }
        }
    }

    /// The object that starts behind a line that ends at `at`, if one does, and the offset behind
    /// it.
    fn object(&self, at: usize) -> Result<Option<(Object<'a>, usize)>, ItemError> {
        let at = self.next_token(at);
        let rest = self.text.get(at..).unwrap_or_default();
        if !rest.starts_with(BEGIN) || memchr(b'\n', rest.as_bytes()).is_none() {
            return Ok(None);
        }
        let bad = ItemError::BadObject(at);
        let (first, body_start) = self.line(at);
        let tag = first
            .strip_prefix(BEGIN)
            .and_then(|rest| rest.strip_suffix(DASHES));
        let tag = tag.filter(|tag| !tag.is_empty()).ok_or(bad.clone())?;
        let body = self.text.get(body_start..).unwrap_or_default();
        let body_len = memmem::find(body.as_bytes(), END.as_bytes()).ok_or(bad.clone())?;
        let body = body.get(..body_len).unwrap_or_default();
        let (last, end) = self.line(body_start + body_len);
        let last_tag = last
            .strip_prefix(END)
            .and_then(|rest| rest.strip_suffix(DASHES));
        if last_tag != Some(tag) || body_len > LINE_LEN_MAX {
            return Err(bad);
        }
        if encoding::base64_decode(body).is_none() {
            return Err(ItemError::BadBase64(tag.to_owned()));
        }
        Ok(Some((Object { tag, body }, end)))
    }

    fn item(&mut self) -> Result<Option<Item<'a>>, ItemError> {
        let mut start = self.next_token(self.offset);
        if start == self.text.len() {
            return Ok(None);
        }
        if self.items_left == 0 {
            return Err(ItemError::TooManyItems(self.limits.items_max));
        }
        let (mut line, line_end) = self.line(start);
        if line.len() > LINE_LEN_MAX {
            return Err(ItemError::LineTooLong(start));
        }
        if line.get(..word_end(line)) == Some("opt") {
            let behind = line.get(3..).unwrap_or_default();
            let behind = behind.trim_start_matches(BLANKS);
            start += line.len() - behind.len();
            line = behind;
        }
        let (keyword, args_text) = line.split_at(word_end(line));
        if keyword.starts_with('@') {
            return Err(ItemError::Annotation(start));
        }
        let found = self.object(line_end)?;
        let end = found.map_or(line_end, |(_, end)| end);
        self.items_left -= 1;
        self.offset = end;
        Ok(Some(Item {
            keyword,
            args_text: args_text.trim_start_matches(BLANKS),
            object: found.map(|(object, _)| object),
            start,
            line_end,
            end,
        }))
    }
}

impl<'a> Iterator for Items<'a> {
    type Item = Result<Item<'a>, ItemError>;

    fn next(&mut self) -> Option<Self::Item> {
        let item = self.item();
        if item.is_err() {
            self.offset = self.text.len();
        }
        item.transpose()
    }
}

const BEGIN: &str = "-----BEGIN ";
const END: &str = "-----END ";
const DASHES: &str = "-----";

/// White space within a line.
const BLANKS: [char; 3] = [' ', '\t', '\r'];

/// Where the word ends that a line starts with.
fn word_end(line: &str) -> usize {
    line.find([' ', '\t', '\r', '#']).unwrap_or(line.len())
}

/// The arguments of a line without its keyword.
pub(crate) fn args(line: &str) -> impl Iterator<Item = &str> {
    let mut rest = line.trim_start_matches(BLANKS);
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (arg, behind) = rest.split_at(word_end(rest));
        rest = behind.get(1..).unwrap_or_default();
        rest = rest.trim_start_matches(BLANKS);
        if rest.starts_with('#') {
            rest = "";
        }
        Some(arg)
    })
}

/// All items of a small document, for parsers that look them up by keyword.
#[derive(Clone, Debug)]
pub struct Section<'a> {
    /// The document.
    pub text: &'a str,
    /// Its items, in order.
    pub items: Vec<Item<'a>>,
}

impl<'a> Section<'a> {
    /// Reads all items of `text`.
    pub fn parse(text: &'a str, limits: Limits) -> Result<Self, ItemError> {
        let items = Items::new(text, limits)?.collect::<Result<Vec<_>, _>>()?;
        Ok(Self { text, items })
    }

    /// All items of a keyword, in order.
    pub fn all<'s>(&'s self, keyword: &'s str) -> impl Iterator<Item = &'s Item<'a>> {
        self.items
            .iter()
            .filter(move |item| item.keyword == keyword)
    }

    /// The item of a keyword that occurs at most once.
    pub fn optional(&self, keyword: &str) -> Result<Option<&Item<'a>>, ItemError> {
        let mut found = self.items.iter().filter(|item| item.keyword == keyword);
        let first = found.next();
        match found.next() {
            Some(_) => Err(ItemError::Repeated(keyword.to_owned())),
            None => Ok(first),
        }
    }

    /// The item of a keyword that occurs exactly once.
    pub fn required(&self, keyword: &str) -> Result<&Item<'a>, ItemError> {
        self.optional(keyword)?
            .ok_or_else(|| ItemError::Missing(keyword.to_owned()))
    }

    /// The item of a keyword that occurs exactly once, at `index` from the start.
    pub fn required_at(&self, index: usize, keyword: &str) -> Result<&Item<'a>, ItemError> {
        let item = self.required(keyword)?;
        match self.items.get(index) {
            Some(at) if at.start == item.start => Ok(item),
            _ => Err(ItemError::Missing(keyword.to_owned())),
        }
    }

    /// The item of a keyword that occurs exactly once, `index` items before the last one.
    pub fn required_from_end(&self, index: usize, keyword: &str) -> Result<&Item<'a>, ItemError> {
        let at = (self.items.len().checked_sub(index + 1))
            .ok_or_else(|| ItemError::Missing(keyword.to_owned()))?;
        self.required_at(at, keyword)
    }
}

/// Cuts a text of several documents, each of which starts with a line of one of `keywords`;
/// what stands before the first is left out. The pieces are the caller's to count and to bound.
pub fn split_documents<'a>(
    text: &'a str,
    keywords: &'a [&'a str],
) -> impl Iterator<Item = &'a str> + 'a {
    let mut start = next_document(text, 0, keywords);
    std::iter::from_fn(move || {
        let from = start?;
        let second_line = memchr(b'\n', text.as_bytes().get(from..)?).map(|len| from + len + 1);
        start = second_line.and_then(|line| next_document(text, line, keywords));
        text.get(from..start.unwrap_or(text.len()))
    })
}

/// The offset of the first line at or behind `from` that starts a document; `from` is the start
/// of a line.
fn next_document(text: &str, from: usize, keywords: &[&str]) -> Option<usize> {
    let mut line_start = from;
    loop {
        let rest = text.as_bytes().get(line_start..)?;
        let starts_here = keywords.iter().any(|keyword| {
            let behind = rest
                .strip_prefix(keyword.as_bytes())
                .and_then(|rest| rest.first());
            matches!(behind, Some(b' ' | b'\n'))
        });
        if starts_here {
            return Some(line_start);
        }
        line_start += memchr(b'\n', rest)? + 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: Limits = Limits {
        bytes_max: 1000,
        items_max: 10,
    };

    const SAMPLE: &str = "first one  two\tthree\n\nkey\n-----BEGIN RSA PUBLIC KEY-----\nAAEC\n\
                          Aw==\n-----END RSA PUBLIC KEY-----\nlast \n";

    #[test]
    fn walks_items_and_objects() {
        let section = Section::parse(SAMPLE, LIMITS).unwrap();
        let [first, key, last] = section.items[..] else {
            panic!("{section:?}")
        };
        assert_eq!(first.args().collect::<Vec<_>>(), ["one", "two", "three"]);
        assert_eq!(
            (first.keyword, first.start, first.line_end),
            ("first", 0, 21)
        );
        assert_eq!(key.object_bytes("RSA PUBLIC KEY", 4), Ok(vec![0, 1, 2, 3]));
        assert!(key.object_bytes("RSA PUBLIC KEY", 3).is_err());
        assert!(key.object_bytes("SIGNATURE", 4).is_err());
        assert_eq!(last.through_space(SAMPLE, key.end), Some("last "));
        assert_eq!(
            first.through_line(SAMPLE, 0),
            Some("first one  two\tthree\n")
        );
        assert!(section.required_at(0, "first").is_ok());
        assert!(section.required_from_end(0, "last").is_ok());
        assert!(section.required_from_end(0, "first").is_err());
        assert_eq!(
            section.required("none"),
            Err(ItemError::Missing("none".into()))
        );
    }

    #[test]
    fn refuses_malformed_documents() {
        for text in [
            "a\0b\n",
            "a b\0\n",
            "a\n\0",
            "@a\n",
            "a\n-----BEGIN X-----\n",
            "a\n-----BEGIN X\n-----END X-----\n",
            "a\n-----BEGIN X-----\nAA\n-----END Y-----\n",
            "a\n-----BEGIN X-----\nA-A\n-----END X-----\n",
            "a\n-----BEGIN -----\nAA\n-----END -----\n",
        ] {
            assert!(Section::parse(text, LIMITS).is_err(), "{text}");
        }
        let long = format!("a {}\n", "b".repeat(LINE_LEN_MAX));
        let limits = Limits {
            bytes_max: 1 << 20,
            ..LIMITS
        };
        assert_eq!(
            Section::parse(&long, limits).unwrap_err(),
            ItemError::LineTooLong(0)
        );
        let many = "a\n".repeat(11);
        assert_eq!(
            Section::parse(&many, LIMITS).unwrap_err(),
            ItemError::TooManyItems(10)
        );
        let long = "a".repeat(1001);
        assert_eq!(
            Section::parse(&long, LIMITS).unwrap_err(),
            ItemError::TooLong(1000)
        );
    }

    /// What `tor` 0.4.9 takes, as it takes it.
    #[test]
    fn odd_documents_are_read() {
        let text = "# a comment\n \topt opt_b 1#2 3 # 4\n\n-c\r\nd\n  -----BEGIN X Y-----\n\
                    AA-----END X Y-----\n#\né  e \nlast";
        let section = Section::parse(text, LIMITS).unwrap();
        let keywords: Vec<_> = section.items.iter().map(|item| item.keyword).collect();
        assert_eq!(keywords, ["opt_b", "-c", "d", "é", "last"]);
        let args: Vec<_> = section.items[0].args().collect();
        assert_eq!(args, ["1", "2", "3"]);
        assert_eq!(section.items[0].args_text, "1#2 3 # 4");
        assert_eq!(section.items[2].object_bytes("X Y", 1), Ok(vec![0]));
        assert_eq!(section.items[3].args_text, "e ");
    }

    #[test]
    fn splits_documents() {
        let text = "@note\nrouter a\nb\nextra-info c\nrouter-x\nrouter d\n";
        let parts: Vec<_> = split_documents(text, &["router", "extra-info"]).collect();
        assert_eq!(
            parts,
            ["router a\nb\n", "extra-info c\nrouter-x\n", "router d\n"]
        );
        assert_eq!(split_documents("", &["router"]).count(), 0);
    }

    proptest! {
        #[test]
        fn any_text_is_survived(
            text in "([a-z -]{0,8}\n|-----(BEGIN|END) [A-Z]{1,2}-----\n|\\PC)*",
        ) {
            let items = Items::new(&text, Limits { bytes_max: 4096, items_max: 100 });
            for item in items.into_iter().flatten() {
                let Ok(item) = item else { break };
                prop_assert!(item.start <= item.line_end && item.line_end <= item.end);
                prop_assert!(item.through_line(&text, 0).is_some());
                let _ = item.object.map(|object| object.decode(64));
                let _ = item.timestamp(0);
            }
            let _ = split_documents(&text, &["a", "END"]).count();
        }

        #[test]
        fn truncation_is_survived(len in 0..SAMPLE.len()) {
            let _ = Section::parse(&SAMPLE[..len], LIMITS);
        }
    }
}
