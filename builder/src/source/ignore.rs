//! `.dockerignore`, by Docker's rules: patterns as of Go's `filepath.Match` with `**`, `!` for exceptions, the last match
//! wins, and what matches a folder matches all that is in it.

use regex::bytes::{Regex, RegexBuilder};

/// Most patterns in one file.
const MOST_PATTERNS: usize = 1000;

/// The patterns of one `.dockerignore`.
#[derive(Debug, Default)]
pub(crate) struct Ignore(Vec<Pattern>);

#[derive(Debug)]
struct Pattern {
    matcher: Regex,
    exception: bool,
}

impl Ignore {
    /// Reads the file.
    ///
    /// # Errors
    /// What is wrong, and in which line.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(bytes).map_err(|_| "it is not UTF-8 text".to_owned())?;
        let mut patterns = Vec::new();
        for (index, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
            let bad = |what: &str| format!("line {}: {what}", index + 1);
            if line.starts_with('#') || line.trim().is_empty() {
                continue;
            }
            let line = line.trim();
            let (exception, pattern) = line.strip_prefix('!').map_or((false, line), |rest| (true, rest.trim()));
            if pattern.is_empty() {
                return Err(bad("`!` must be followed by a pattern"));
            }
            if patterns.len() == MOST_PATTERNS {
                return Err(format!("it has more than {MOST_PATTERNS} patterns"));
            }
            let matcher = RegexBuilder::new(&expression(&clean(pattern)))
                .unicode(false)
                .size_limit(1 << 20)
                .build()
                .map_err(|_| bad("this is not a pattern"))?;
            patterns.push(Pattern { matcher, exception });
        }
        Ok(Self(patterns))
    }

    /// Whether the build does not get this file.
    pub(crate) fn excludes(&self, path: &[u8]) -> bool {
        let parents: Vec<&[u8]> =
            path.iter().enumerate().filter(|(_, byte)| **byte == b'/').filter_map(|(end, _)| path.get(..end)).collect();
        self.0.iter().fold(false, |excluded, pattern| {
            // A pattern that says what is so already changes nothing.
            if excluded != pattern.exception {
                return excluded;
            }
            let hit = pattern.matcher.is_match(path) || parents.iter().any(|parent| pattern.matcher.is_match(parent));
            if hit { !pattern.exception } else { excluded }
        })
    }

    /// Whether nothing in this folder, nor the folder itself, gets into the build.
    pub(crate) fn excludes_all_in(&self, folder: &[u8]) -> bool {
        self.excludes(folder) && !self.0.iter().any(|pattern| pattern.exception)
    }
}

/// Go's `filepath.Clean`, without a leading slash.
fn clean(pattern: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in pattern.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                if parts.last().is_none_or(|last| *last == "..") {
                    parts.push("..");
                } else {
                    parts.pop();
                }
            }
            part => parts.push(part),
        }
    }
    if parts.is_empty() { ".".to_owned() } else { parts.join("/") }
}

fn expression(pattern: &str) -> String {
    let mut out = String::from("^");
    let mut characters = pattern.chars().peekable();
    while let Some(c) = characters.next() {
        match c {
            '*' if characters.next_if_eq(&'*').is_some() => {
                characters.next_if_eq(&'/');
                out.push_str(if characters.peek().is_none() { ".*" } else { "(.*/)?" });
            }
            '*' => out.push_str("[^/]*"),
            '?' => out.push_str("[^/]"),
            '\\' => out.push_str(&regex::escape(&characters.next().unwrap_or('\\').to_string())),
            '[' => {
                out.push('[');
                if characters.next_if_eq(&'^').is_some() {
                    out.push('^');
                }
                for c in characters.by_ref() {
                    match c {
                        ']' => break,
                        '-' => out.push('-'),
                        c => out.push_str(&regex::escape(&c.to_string())),
                    }
                }
                out.push(']');
            }
            c => out.push_str(&regex::escape(&c.to_string())),
        }
    }
    out.push('$');
    // A dot must match any byte, a newline in a name too.
    format!("(?s){out}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn excluded(ignore: &str, path: &str) -> bool {
        Ignore::parse(ignore.as_bytes()).unwrap().excludes(path.as_bytes())
    }

    #[test]
    fn patterns_match_as_dockers_do() {
        for (ignore, path, expected) in [
            ("target", "target/debug/x", true),
            ("target", "a/target", false),
            ("/target/", "target/x", true),
            ("**/target", "a/b/target/x", true),
            ("**/target", "target", true),
            ("*.md", "README.md", true),
            ("*.md", "docs/README.md", false),
            ("*/*.md", "docs/README.md", true),
            ("**/*.md", "README.md", true),
            ("*.md\n!README.md", "README.md", false),
            ("!README.md\n*.md", "README.md", true),
            ("docs\n!docs/keep", "docs/keep/a", false),
            ("docs\n!docs/keep", "docs/other", true),
            ("a?c", "abc", true),
            ("a?c", "a/c", false),
            ("[a-c]x", "bx", true),
            ("[^a]x", "bx", true),
            ("[^a]x", "ax", false),
            ("a.c", "abc", false),
            ("\\*", "*", true),
            ("\\*", "x", false),
            ("# a comment\na", "a", true),
            ("./a/../b", "b", true),
            ("*", "any/thing", true),
            ("**", "any/thing", true),
            ("abc/**", "abc/x/y", true),
            ("", "a", false),
        ] {
            assert_eq!(excluded(ignore, path), expected, "{ignore:?} {path:?}");
        }
    }

    #[test]
    fn a_folder_is_skipped_only_when_nothing_in_it_can_come_back() {
        assert!(Ignore::parse(b"docs").unwrap().excludes_all_in(b"docs"));
        assert!(!Ignore::parse(b"docs\n!docs/a").unwrap().excludes_all_in(b"docs"));
        assert!(!Ignore::default().excludes_all_in(b"docs"));
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        assert_eq!(Ignore::parse(b"a\n!").unwrap_err(), "line 2: `!` must be followed by a pattern");
        assert!(Ignore::parse(b"[z-a]").is_err());
        assert!(Ignore::parse(&b"x\n".repeat(MOST_PATTERNS + 1)).is_err());
    }
}
