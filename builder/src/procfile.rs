//! The Procfile: one process type and its command a line, `web: bin/server --port $PORT`.
//!
//! The form is Heroku's; since Deis reads the file as a flat YAML map, `---`, quotes around a whole command and comment
//! lines are taken too. What YAML would nest is refused.

use std::collections::BTreeMap;

use paas_api::ProcessType;

/// Largest Procfile.
pub(crate) const LARGEST: usize = 64 << 10;

/// Reads a Procfile: process types and their commands.
///
/// # Errors
/// What is wrong, and in which line.
pub(crate) fn parse(bytes: &[u8]) -> Result<BTreeMap<String, String>, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "it is not UTF-8 text".to_owned())?;
    let mut types = BTreeMap::new();
    for (index, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let number = index + 1;
        let line = line.trim_end();
        if line.trim_start().is_empty() || line.trim_start().starts_with('#') || (line == "---" && types.is_empty()) {
            continue;
        }
        let bad = |what: &str| Err(format!("line {number}: {what}"));
        if line.starts_with([' ', '\t']) {
            return bad("a line must start with a process type; nesting has no meaning here");
        }
        let Some((name, command)) = line.split_once(':') else {
            return bad("expected `<process type>: <command>`");
        };
        let Ok(name) = name.trim_end().parse::<ProcessType>() else {
            return bad("a process type is made of lower-case letters, digits and single hyphens");
        };
        let command = match unquote(command.trim()) {
            Ok(command) => command,
            Err(what) => return bad(what),
        };
        if types.insert(name.as_str().to_owned(), command).is_some() {
            return bad(&format!("the process type {name} is there twice"));
        }
    }
    Ok(types)
}

fn unquote(command: &str) -> Result<String, &'static str> {
    let inner = |quote: char| command.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
    let command = match (inner('"'), inner('\'')) {
        (Some(text), _) if !text.replace("\\\\", "").replace("\\\"", "").contains('"') => {
            text.replace("\\\"", "\"").replace("\\\\", "\\")
        }
        (_, Some(text)) if !text.replace("''", "").contains('\'') => text.replace("''", "'"),
        _ => command.to_owned(),
    };
    if command.is_empty() {
        return Err("the command is empty");
    }
    if matches!(command.as_str(), "|" | ">" | "|-" | ">-" | "|+" | ">+") || command.starts_with(['{', '[', '&', '*']) {
        return Err("the command must be on the same line, as plain text");
    }
    if command.chars().any(char::is_control) {
        return Err("the command holds control characters");
    }
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Result<String, String> {
        parse(text.as_bytes()).map(|types| types["web"].clone())
    }

    #[test]
    fn types_and_commands_are_read() {
        let types =
            parse(b"---\n# how to run\nweb: bin/server --port $PORT\nworker-2:  rake jobs:work \r\n\n").unwrap();
        assert_eq!(types.len(), 2);
        assert_eq!(types["web"], "bin/server --port $PORT");
        assert_eq!(types["worker-2"], "rake jobs:work");
        assert!(parse(b"").unwrap().is_empty());
    }

    #[test]
    fn quotes_around_a_whole_command_are_yamls() {
        assert_eq!(one(r#"web: "echo \"hi\"""#).unwrap(), r#"echo "hi""#);
        assert_eq!(one("web: 'it''s'").unwrap(), "it's");
        assert_eq!(one(r#"web: "a" && "b""#).unwrap(), r#""a" && "b""#);
        assert_eq!(one("web: echo 'a: b' # c").unwrap(), "echo 'a: b' # c");
    }

    #[test]
    fn what_is_no_procfile_is_refused_with_its_line() {
        for (text, says) in [
            ("web", "line 1: expected"),
            ("web:", "line 1: the command is empty"),
            ("web: a\nweb: b", "line 2: the process type web is there twice"),
            ("Web: a", "line 1: a process type"),
            ("web_x: a", "line 1: a process type"),
            ("web: |\n  a", "line 1: the command must be"),
            ("web: {a: b}", "line 1: the command must be"),
            ("web:\n  command: a", "line 1: the command is empty"),
            ("web: a\n  b: c", "line 2: a line must start"),
            ("- web: a", "line 1: a process type"),
        ] {
            let error = parse(text.as_bytes()).unwrap_err();
            assert!(error.starts_with(says), "{text:?} says {error:?}");
        }
        assert!(parse(b"web: \xff").is_err());
    }
}
