//! Variables in a file: `KEY=value`, one a line, as `config:pull` writes and `config:push` reads them.
//!
//! Blank lines and those that begin with `#` are nothing. A value is all after the first `=`, as it stands. One that begins
//! with a quotation mark goes to its end mark, over as many lines as that takes: `'…'` as it stands, `"…"` with `\n`, `\r`,
//! `\t`, `\"`, `\$` and `\\` for what they are in a shell or a string. So every text comes back as it went.

use std::collections::BTreeMap;

use paas_api::{ConfigKey, Secret};

/// What is wrong with a line; it holds no value, for that may be a secret.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub(crate) struct Wrong {
    line: usize,
    reason: String,
}

/// The variables of a file; of two with the same name the later one holds.
pub(crate) fn read(text: &str) -> Result<BTreeMap<ConfigKey, Secret>, Wrong> {
    // Some editors begin a file with a mark of its encoding.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text).replace("\r\n", "\n");
    let mut variables = BTreeMap::new();
    let mut rest = text.as_str();
    let mut line = 1;
    while !rest.is_empty() {
        let (variable, length) = first(rest).map_err(|reason| Wrong { line, reason })?;
        let (taken, left) = rest.split_at_checked(length).unwrap_or((rest, ""));
        line += taken.matches('\n').count();
        rest = left;
        variables.extend(variable);
    }
    Ok(variables)
}

/// The variable that a text begins with, if its first line is one, and how much of the text that took.
fn first(text: &str) -> Result<(Option<(ConfigKey, Secret)>, usize), String> {
    let end = text.find('\n').map_or(text.len(), |end| end + 1);
    let line = text.get(..end).unwrap_or(text).trim_end_matches(['\n', '\r']);
    if line.trim().is_empty() || line.trim_start().starts_with('#') {
        return Ok((None, end));
    }
    let (key, value) = line.split_once('=').ok_or("it does not match the pattern 'key=var', ex: MODE=test")?;
    let start = key.len() + 1;
    // What is no name may be a line of a secret.
    let key: ConfigKey =
        key.trim().parse().map_err(|error| format!("it does not begin with a variable's name: {error}"))?;
    let quoted = text.get(start..).unwrap_or_default();
    let (value, length) = match value.chars().next() {
        Some('\'') => as_it_stands(quoted).ok_or_else(|| no_end(&key))?,
        Some('"') => escaped(quoted).ok_or_else(|| no_end(&key))?,
        _ => return Ok((Some((key, value.into())), end)),
    };
    let after = text.get(start + length..).unwrap_or_default();
    let end = after.find('\n').map_or(after.len(), |end| end + 1);
    if !after.get(..end).unwrap_or(after).trim().is_empty() {
        return Err(format!("something follows the value of {key} after its quotation mark"));
    }
    Ok((Some((key, value.into())), start + length + end))
}

fn no_end(key: &ConfigKey) -> String {
    format!("the value of {key} begins with a quotation mark and has none at its end")
}

/// What is between two single marks, and how long that is with them.
fn as_it_stands(text: &str) -> Option<(String, usize)> {
    let inside = text.get(1..)?;
    let end = inside.find('\'')?;
    Some((inside.get(..end)?.to_owned(), end + 2))
}

/// What is between two double marks, and how long that is with them.
fn escaped(text: &str) -> Option<(String, usize)> {
    let mut value = String::new();
    let mut letters = text.char_indices().skip(1);
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Some((value, at + 1)),
            '\\' => {
                let (_, escaped) = letters.next()?;
                match escaped {
                    'n' => value.push('\n'),
                    'r' => value.push('\r'),
                    't' => value.push('\t'),
                    '"' | '\\' | '$' => value.push(escaped),
                    other => value.extend(['\\', other]),
                }
            }
            other => value.push(other),
        }
    }
    None
}

/// The variables as lines of a file.
pub(crate) fn write(variables: &BTreeMap<String, String>) -> String {
    let lines: Vec<String> = variables.iter().map(|(key, value)| format!("{key}={}\n", written(value))).collect();
    lines.concat()
}

/// A value as it stands where that is read back the same, else between double marks.
pub(crate) fn written(value: &str) -> String {
    if !value.starts_with(['"', '\'']) && !value.contains(['\n', '\r']) {
        return value.to_owned();
    }
    let mut out = String::with_capacity(value.len() + 16);
    out.push('"');
    for letter in value.chars() {
        match letter {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_as_text(text: &str) -> Vec<(String, String)> {
        read(text).unwrap().into_iter().map(|(key, value)| (key.into(), value.expose().to_owned())).collect()
    }

    #[test]
    fn every_value_comes_back_as_it_went() {
        let values = [
            "",
            " ",
            " a ",
            "1=2",
            "a#b",
            "'",
            "\"",
            "'a'",
            "\"a\"",
            "\\",
            "\\n",
            "a\nb",
            "\n",
            "a\r\nb\r",
            "\"a\\\nb",
            "-----BEGIN X-----\nMIIB\n-----END X-----\n",
            "\u{fc}\u{1f600}\u{202e}",
            "\t",
            "$HOME `x`",
            "a\u{2028}b",
            "\u{feff}",
            "\"a\" b",
        ];
        let variables: BTreeMap<String, String> =
            values.iter().enumerate().map(|(index, value)| (format!("K{index:02}"), (*value).to_owned())).collect();
        let read: BTreeMap<String, String> = read_as_text(&write(&variables)).into_iter().collect();
        assert_eq!(read, variables);
    }

    #[test]
    fn a_file_may_be_of_any_hand() {
        let text =
            "\u{feff}# note\r\nA=1\r\n\r\n  # more\n B=x # y\nC='it \\n\nis'  \nD=\"a\nb\\n\\\"\\$\\d\"\nE=\nA=2";
        let pairs = [("A", "2"), ("B", "x # y"), ("C", "it \\n\nis"), ("D", "a\nb\n\"$\\d"), ("E", "")];
        assert_eq!(read_as_text(text), pairs.map(|(key, value)| (key.to_owned(), value.to_owned())));
        assert_eq!(read_as_text(""), []);
    }

    #[test]
    fn what_is_wrong_is_told_by_its_line_without_the_value() {
        for (text, told) in [
            ("A=1\nhunter2", "line 2: it does not match the pattern 'key=var', ex: MODE=test"),
            ("A='x\ny'\n\nB-C=hunter2", "line 4: it does not begin with a variable's name: Config keys"),
            ("hunter2+/==", "line 1: it does not begin"),
            ("export A=hunter2", "line 1: it does not begin"),
            ("A=\"hunter2\nB=1", "line 1: the value of A begins with a quotation mark and has none at its end"),
            ("A='hunter2", "line 1: the value of A begins"),
            ("A=\"\\", "line 1: the value of A begins"),
            ("A='hun'ter2", "line 1: something follows the value of A after its quotation mark"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.starts_with(told) && !error.contains("hunter2"), "{error}");
        }
    }
}
