//! Exec requests, parsed into one of three things that this server does.

use paas_api::AppName;

/// Longest exec request that is looked at; an app's name has 63 letters.
const LONGEST: usize = 512;

/// What a client asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Command {
    /// `ping`.
    Ping,
    /// A push to, or a clone or fetch of, the app that was named.
    Git(Service, Result<AppName, BadName>),
}

/// Git's two sides of a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Service {
    /// `git-receive-pack`: a push.
    Receive,
    /// `git-upload-pack`: a clone or fetch.
    Upload,
}

/// A text in the place of an app's name that cannot be one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadName {
    /// Nothing, or a path upwards.
    #[error("No repo given")]
    None,
    /// Not a legal name.
    #[error("{0:?} is not the name of an app; the address of a repository ends in /<app>.git")]
    Illegal(String),
}

impl Command {
    /// `None` for everything that this server does not do.
    pub(super) fn parse(request: &[u8]) -> Option<Self> {
        if request == b"ping" {
            return Some(Self::Ping);
        }
        if request.len() > LONGEST {
            return None;
        }
        let (program, argument) = std::str::from_utf8(request).ok()?.split_once(' ')?;
        let service = match program {
            "git-receive-pack" => Service::Receive,
            "git-upload-pack" => Service::Upload,
            _ => return None,
        };
        // Git puts the path between single quotes; a quote within would be written '\'' and is in no name of ours.
        let path = argument.strip_prefix('\'')?.strip_suffix('\'')?;
        if path.contains('\'') {
            return None;
        }
        Some(Self::Git(service, name(path)))
    }
}

fn name(path: &str) -> Result<AppName, BadName> {
    let path = path.strip_prefix('/').unwrap_or(path);
    let name = path.strip_suffix(".git").unwrap_or(path);
    if name.is_empty() || name.contains("..") {
        return Err(BadName::None);
    }
    name.parse().map_err(|_| BadName::Illegal(name.chars().take(80).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app(text: &str) -> AppName {
        text.parse().unwrap()
    }

    #[test]
    fn gits_own_requests_are_understood() {
        for (request, service) in [
            ("git-receive-pack '/hello.git'", Service::Receive),
            ("git-receive-pack 'hello.git'", Service::Receive),
            ("git-upload-pack '/hello'", Service::Upload),
        ] {
            assert_eq!(Command::parse(request.as_bytes()), Some(Command::Git(service, Ok(app("hello")))), "{request}");
        }
        assert_eq!(Command::parse(b"ping"), Some(Command::Ping));
    }

    #[test]
    fn everything_else_is_no_command() {
        for request in [
            "",
            "ping ",
            "pong",
            "ls",
            "git-shell",
            "git-receive-pack",
            "git-receive-pack hello.git",
            "git-receive-pack 'hello.git' extra",
            "git-receive-pack 'a' 'b'",
            "git-receive-pack 'a'\\''b'",
            "git-receive-pack --upload-pack=x 'hello'",
            "git-receive-pack 'hello.git';id",
            "git-upload-archive 'hello.git'",
            "git receive-pack 'hello.git'",
            " git-receive-pack 'hello.git'",
            "sh -c 'git-receive-pack hello'",
            "$(id)",
            "`id`",
        ] {
            assert_eq!(Command::parse(request.as_bytes()), None, "{request}");
        }
        assert_eq!(Command::parse(b"git-receive-pack '\xff'"), None);
        assert_eq!(Command::parse(format!("git-receive-pack '{}'", "a".repeat(600)).as_bytes()), None);
    }

    #[test]
    fn hostile_paths_name_no_app() {
        for path in [
            "..",
            "/../hello.git",
            "a/../b",
            "",
            "/",
            ".git",
            "/.git",
            "//hello",
            "/a/b.git",
            "~root",
            "%2e%2e",
            "-hello",
            "--upload-pack=id",
            "hello\n",
            "hello\0",
            "Hello",
            "héllo",
            "hеllo",
            "hello$(id)",
            "hello`id`",
            "hello;id",
            "hello git",
        ] {
            let request = format!("git-receive-pack '{path}'");
            assert!(
                matches!(Command::parse(request.as_bytes()), Some(Command::Git(Service::Receive, Err(_)))),
                "{path:?} must name no app"
            );
        }
    }
}
