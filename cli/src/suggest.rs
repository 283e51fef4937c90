//! What may have been meant by a command that is not there.

use clap::CommandFactory as _;

use crate::arguments::{Arguments, is_group};

/// Commands that other platforms have, and how the same is had here.
const ELSEWHERE: [(&str, &str); 47] = [
    ("access", "paas perms"),
    ("access:add", "paas perms:create"),
    ("access:remove", "paas perms:delete"),
    ("apps:delete", "paas apps:destroy"),
    ("bash", "paas run -- bash"),
    ("builds:info", "paas releases:info"),
    ("certs:auto", "paas tls:auto:enable"),
    ("certs:auto:enable", "paas tls:auto:enable"),
    ("certs:generate", "paas tls:auto:enable"),
    ("config:add", "paas config:set"),
    ("config:clear", "paas config:unset"),
    ("config:export", "paas config:pull"),
    ("config:get", "paas config"),
    ("config:keys", "paas config"),
    ("config:remove", "paas config:unset"),
    ("config:show", "paas config"),
    ("console", "paas run -- bash"),
    ("delete", "paas destroy"),
    ("deploy", "git push deis main"),
    ("enter", "paas run -- bash"),
    ("env", "paas config"),
    ("env:set", "paas config:set"),
    ("env:unset", "paas config:unset"),
    ("exec", "paas run"),
    ("history", "paas releases"),
    ("letsencrypt", "paas tls:auto:enable"),
    ("letsencrypt:enable", "paas tls:auto:enable"),
    ("list", "paas apps"),
    ("ls", "paas apps"),
    ("perms:add", "paas perms:create"),
    ("perms:remove", "paas perms:delete"),
    ("ps:exec", "paas run -- bash"),
    ("ps:start", "paas ps:scale web=1"),
    ("ps:stop", "paas ps:scale web=0"),
    ("ps:type", "paas limits"),
    ("push", "git push deis main"),
    ("restart", "paas ps:restart"),
    ("shell", "paas run -- bash"),
    ("signup", "paas register"),
    ("ssh", "paas run -- bash"),
    ("ssh-keys", "paas keys"),
    ("ssh-keys:add", "paas keys:add"),
    ("status", "paas ps"),
    ("stop", "paas ps:scale web=0"),
    ("tail", "paas logs --follow"),
    ("topics", "paas help topics"),
    ("users:create", "paas register"),
];

/// Most commands that are told for one word.
const MOST: usize = 3;

/// Hints for somebody who typed a command that is not there; `near` are the names that read like it, the nearest last.
pub(crate) fn hints(typed: &str, near: &[String]) -> Vec<String> {
    let meant = |commands: &[String]| format!("did you mean {}?", commands.join(" or "));
    if let Ok(at) = ELSEWHERE.binary_search_by_key(&typed, |(word, _)| *word)
        && let Some((_, here)) = ELSEWHERE.get(at)
    {
        return vec![meant(&[format!("'{here}'")])];
    }
    if let Some((group, action)) = typed.split_once(':').filter(|(group, _)| is_group(group)) {
        // What is not in small letters is no command but what one would be about: `config GREETING`.
        let could_be = action.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b':' || byte == b'-');
        let prefix = format!("{group}:");
        let nearest = near.iter().rev().find(|name| could_be && name.starts_with(&prefix));
        let mut hints: Vec<String> = nearest.map(|name| meant(&[format!("'paas {name}'")])).into_iter().collect();
        hints.push(format!("'paas help {group}' lists the commands of {group}"));
        return hints;
    }
    let several = format!("{typed}s");
    if is_group(&several) {
        return vec![meant(&[format!("'paas {several}'")])];
    }
    let acts = |name: &str| name.split_once(':').is_some_and(|(_, action)| action == typed);
    let commands = Arguments::command();
    let names = commands.get_subcommands().map(clap::Command::get_name).filter(|name| acts(name));
    let names: Vec<String> = names.map(|name| format!("'paas {name}'")).collect();
    if (1..=MOST).contains(&names.len()) {
        return vec![meant(&names)];
    }
    near.last().map(|name| meant(&[format!("'paas {name}'")])).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(typed: &str, near: &[&str]) -> String {
        let near: Vec<String> = near.iter().map(|name| (*name).to_owned()).collect();
        hints(typed, &near).into_iter().next().unwrap_or_default()
    }

    #[test]
    fn commands_of_elsewhere_are_in_order_and_are_not_ours() {
        assert!(ELSEWHERE.is_sorted());
        let root = Arguments::command();
        let is_ours = |name: &str| is_group(name) || root.find_subcommand(name).is_some();
        for (word, here) in ELSEWHERE {
            assert!(!is_ours(word), "{word}");
            if let Some(ours) = here.strip_prefix("paas ") {
                let name = ours.split(' ').next().unwrap();
                assert!(is_ours(name), "{here}");
            }
        }
    }

    #[test]
    fn what_is_meant_is_told() {
        for (typed, near, told) in [
            ("env:set", &["perms:list", "config:set"][..], "did you mean 'paas config:set'?"),
            ("config:sett", &["limits:set", "config:set"], "did you mean 'paas config:set'?"),
            ("perms:creat", &["certs:add"], "'paas help perms' lists the commands of perms"),
            ("config:GREETING", &["config:set"], "'paas help config' lists the commands of config"),
            ("app", &["apps:run"], "did you mean 'paas apps'?"),
            ("transfer", &[], "did you mean 'paas apps:transfer'?"),
            ("cancel", &["scale"], "did you mean 'paas auth:cancel' or 'paas builds:cancel'?"),
            ("destory", &["destroy"], "did you mean 'paas destroy'?"),
            ("add", &[], ""),
            ("zzz", &[], ""),
        ] {
            assert_eq!(first(typed, near), told, "{typed}");
        }
    }
}
