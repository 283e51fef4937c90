//! References to images.

/// A reference without its tag and digest: the repository that it leads to.
pub(super) fn without_version(reference: &str) -> &str {
    let name = reference.split('@').next().unwrap_or(reference);
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => repository,
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_repository_is_what_stands_before_tag_and_digest() {
        for (reference, expected) in [
            ("nginx", "nginx"),
            ("nginx:1.2", "nginx"),
            ("127.0.0.1:5000/app", "127.0.0.1:5000/app"),
            ("127.0.0.1:5000/app:git-1", "127.0.0.1:5000/app"),
            ("127.0.0.1:5000/app@sha256:00", "127.0.0.1:5000/app"),
            ("a/b:c@sha256:00", "a/b"),
        ] {
            assert_eq!(without_version(reference), expected);
        }
    }
}
