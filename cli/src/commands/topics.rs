//! `help topics`: texts about what one does with an app, across commands.

use std::fmt::Write as _;

/// Each topic and its text, whose first line is its title.
const TOPICS: [(&str, &str); 11] = [
    ("deploying", include_str!("topics/deploying.txt")),
    ("config", include_str!("topics/config.txt")),
    ("logs", include_str!("topics/logs.txt")),
    ("scaling", include_str!("topics/scaling.txt")),
    ("domains", include_str!("topics/domains.txt")),
    ("tls", include_str!("topics/tls.txt")),
    ("routing", include_str!("topics/routing.txt")),
    ("access", include_str!("topics/access.txt")),
    ("running", include_str!("topics/running.txt")),
    ("deploy-hooks", include_str!("topics/deploy-hooks.txt")),
    ("troubleshooting", include_str!("topics/troubleshooting.txt")),
];

/// All topics, each with its title.
pub(crate) fn list() -> String {
    let mut text = "Topics:\n\n".to_owned();
    for (name, body) in TOPICS {
        let title = body.lines().next().and_then(|title| title.split_once(": ")).map_or("", |(_, title)| title);
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {name:<20}{title}");
    }
    text.push_str("\nUse 'paas help topics [topic]' to read one.\n");
    text
}

/// The text of a topic.
pub(crate) fn text(name: &str) -> Option<&'static str> {
    TOPICS.iter().find(|(topic, _)| *topic == name).map(|(_, text)| *text)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    /// Every command that a topic shows is one.
    #[test]
    fn topics_are_short_and_name_commands_that_are_there() {
        let root = crate::arguments::Arguments::command();
        let known = |name: &str| {
            crate::arguments::is_group(name)
                || root.get_subcommands().any(|command| {
                    command.get_name() == name || command.get_visible_aliases().any(|alias| alias == name)
                })
        };
        for (topic, text) in TOPICS {
            assert!(text.lines().count() < 40 && text.lines().all(|line| line.chars().count() <= 100), "{topic}");
            for words in text.split("paas ").skip(1) {
                let name: String = words.chars().take_while(|c| c.is_ascii_alphabetic() || *c == ':').collect();
                assert!(name.is_empty() || known(&name), "{topic}: paas {name}");
            }
        }
    }
}
