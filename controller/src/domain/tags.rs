//! Tags: labels that the machine of an app's processes shall have (contract §1.7, §2.5).

use std::collections::BTreeMap;

use paas_api::name;

const LONGEST_PREFIX: usize = 253;

name!(
    /// A key: a name, maybe after a prefix, as in `example.test/zone`.
    TagKey,
    |text| {
        let (prefix, name) = text.split_once('/').map_or((None, text), |(prefix, name)| (Some(prefix), name));
        if let Some(prefix) = prefix {
            if prefix.len() > LONGEST_PREFIX {
                return Err("Tag key prefixes must 253 characters or less.".to_owned());
            }
            if !prefix.split('.').all(is_word) {
                return Err("Tag key prefixes must be DNS subdomains.".to_owned());
            }
        }
        is_word(name).then_some(()).ok_or_else(|| "Tag keys must be alphanumeric or \"-_.\", and 1-63 characters.".to_owned())
    }
);

name!(
    /// A value, maybe empty.
    TagValue,
    |text| {
        let legal = text.is_empty() || is_word(text);
        legal.then_some(()).ok_or_else(|| "Tag values must be alphanumeric or \"-_.\", and 1-63 characters.".to_owned())
    }
);

/// 1 to 63 letters, digits and `-_.`, with a letter or digit at both ends.
fn is_word(text: &str) -> bool {
    let ends = |c: char| c.is_ascii_alphanumeric();
    (1..=63).contains(&text.len())
        && text.starts_with(ends)
        && text.ends_with(ends)
        && text.chars().all(|c| ends(c) || "-_.".contains(c))
}

/// The tags of an app.
pub type Tags = BTreeMap<TagKey, TagValue>;

/// Labels of one machine.
pub type Labels = BTreeMap<String, String>;

/// Why there is no machine for these tags; none when one has all of them. `before` are the tags of the release before.
pub fn without_machine(tags: &Tags, before: &Tags, machines: &[Labels]) -> Option<String> {
    let fits = |machine: &Labels| tags.iter().all(|(key, value)| machine.get(&key.0) == Some(&value.0));
    if tags.is_empty() || machines.iter().any(fits) {
        return None;
    }
    let told = |wanted: &dyn Fn(&TagKey, &TagValue) -> bool| {
        let pairs = tags.iter().filter(|(key, value)| wanted(key, value));
        pairs.map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(", ")
    };
    let mut text = format!("No nodes matched the provided labels: {}", told(&|_, _| true));
    let added = told(&|key, value| before.get(key) != Some(value));
    if !before.is_empty() && !added.is_empty() {
        text = format!("{text} - Addition of {added} is the cause");
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(of: &[(&str, &str)]) -> Tags {
        of.iter().map(|(key, value)| (key.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn keys_and_values_follow_the_contract() {
        let long = "x".repeat(64);
        for good in ["a", "zone", "a.b-c_d", "1", "example.test/zone", &"x".repeat(63)] {
            assert!(good.parse::<TagKey>().is_ok(), "{good}");
        }
        let name = "Tag keys must be alphanumeric or \"-_.\", and 1-63 characters.";
        let prefix = "Tag key prefixes must be DNS subdomains.";
        for (bad, text) in [
            ("", name),
            ("-a", name),
            ("a-", name),
            ("a b", name),
            ("a/b/c", name),
            ("a/", name),
            (long.as_str(), name),
            ("ä", name),
            ("/a", prefix),
            ("a..b/c", prefix),
            ("a b/c", prefix),
            (&format!("{}/a", "x.".repeat(130)), "Tag key prefixes must 253 characters or less."),
        ] {
            assert_eq!(bad.parse::<TagKey>().unwrap_err().to_string(), text, "{bad}");
        }
        assert!("".parse::<TagValue>().is_ok());
        for bad in ["a b", "a/b", "-", &long] {
            let text = "Tag values must be alphanumeric or \"-_.\", and 1-63 characters.";
            assert_eq!(bad.parse::<TagValue>().unwrap_err().to_string(), text, "{bad}");
        }
    }

    #[test]
    fn one_machine_must_have_all_the_labels() {
        let machine = |of: &[(&str, &str)]| -> Labels {
            of.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        let machines = [machine(&[("zone", "a"), ("disk", "ssd")]), machine(&[("zone", "b")])];
        let none = Tags::new();
        for good in [&[("zone", "a")][..], &[("zone", "b")], &[("zone", "a"), ("disk", "ssd")], &[]] {
            assert_eq!(without_machine(&tags(good), &none, &machines), None);
        }
        assert_eq!(without_machine(&none, &tags(&[("rack", "1")]), &[]), None);
        let text = "No nodes matched the provided labels: disk=ssd, zone=b";
        assert_eq!(without_machine(&tags(&[("zone", "b"), ("disk", "ssd")]), &none, &machines).as_deref(), Some(text));
        let text = "No nodes matched the provided labels: rack=1, zone=a - Addition of rack=1 is the cause";
        let told = without_machine(&tags(&[("zone", "a"), ("rack", "1")]), &tags(&[("zone", "a")]), &machines);
        assert_eq!(told.as_deref(), Some(text));
    }
}
