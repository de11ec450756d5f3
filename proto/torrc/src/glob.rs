//! Patterns of file names, as glob(7): `*`, `?`, `[a-z]`, `[!x]`, and `\` before any of them.

/// Whether a name matches; one that begins with a dot only where the pattern does.
pub(crate) fn matches(pattern: &str, name: &str) -> bool {
    if name.starts_with('.') && !pattern.starts_with('.') {
        return false;
    }
    let pattern: Vec<char> = pattern.chars().collect();
    let name: Vec<char> = name.chars().collect();
    let (mut at, mut to) = (0, 0);
    // Where the last star was, and how much it has taken.
    let mut star = None;
    while to < name.len() {
        match one(&pattern, at, name[to]) {
            Some(next) => (at, to) = (next, to + 1),
            None if pattern.get(at) == Some(&'*') => {
                star = Some((at + 1, to));
                at += 1;
            }
            None => match star {
                Some((behind, taken)) => {
                    star = Some((behind, taken + 1));
                    (at, to) = (behind, taken + 1);
                }
                None => return false,
            },
        }
    }
    pattern.iter().skip(at).all(|c| *c == '*')
}

/// Whether a pattern is one.
pub(crate) fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '['])
}

/// Where the pattern goes on, if what stands at `at` matches one character.
fn one(pattern: &[char], at: usize, c: char) -> Option<usize> {
    match *pattern.get(at)? {
        '*' => None,
        '?' => Some(at + 1),
        '\\' if at + 1 < pattern.len() => (pattern[at + 1] == c).then_some(at + 2),
        '[' => match class(pattern, at, c) {
            Some((end, is_in)) => is_in.then_some(end),
            None => (c == '[').then_some(at + 1),
        },
        other => (other == c).then_some(at + 1),
    }
}

/// The end of a class in brackets, and whether a character is in it.
fn class(pattern: &[char], start: usize, c: char) -> Option<(usize, bool)> {
    let mut at = start + 1;
    let is_not = matches!(pattern.get(at), Some('!' | '^'));
    at += usize::from(is_not);
    let first = at;
    let mut is_in = false;
    loop {
        let low = *pattern.get(at)?;
        if low == ']' && at > first {
            return Some((at + 1, is_in != is_not));
        }
        let is_range = pattern.get(at + 1) == Some(&'-')
            && pattern.get(at + 2).is_some_and(|high| *high != ']');
        let high = if is_range { pattern[at + 2] } else { low };
        is_in |= (low..=high).contains(&c);
        at += if is_range { 3 } else { 1 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_the_shells_do() {
        for (pattern, name, is) in [
            ("*", "a", true),
            ("*", ".a", false),
            (".*", ".a", true),
            ("*.conf", "a.conf", true),
            ("*.conf", "a.conf.old", false),
            ("a*b*c", "aXbYbc", true),
            ("a?c", "abc", true),
            ("[a-c]x", "bx", true),
            ("[!a-c]x", "bx", false),
            ("[]]x", "]x", true),
            ("[x", "[x", true),
            ("\\*", "*", true),
            ("\\*", "a", false),
            ("", "", true),
        ] {
            assert_eq!(matches(pattern, name), is, "{pattern} {name}");
        }
    }
}
