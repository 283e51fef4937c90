//! Words of the form `key=value`, as labels and tags are set.

use std::collections::BTreeMap;

use crate::error::Error;

/// What sets these pairs. A key is not empty, and no value holds another `=`; `example` tells how it is done.
pub(crate) fn read(words: &[String], example: &str) -> Result<BTreeMap<String, Option<String>>, Error> {
    words
        .iter()
        .map(|word| match word.split_once('=') {
            Some((key, value)) if !key.is_empty() && !value.contains('=') => {
                Ok((key.to_owned(), Some(value.to_owned())))
            }
            _ => Err(Error::usage(format!("'{word}' does not match the pattern 'key=value', ex: {example}"))),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::read;

    #[test]
    fn a_pair_has_one_equals_sign() {
        let words = ["example.com/rack=12", "team=web and more", "fast="].map(str::to_owned);
        let expected = [("example.com/rack", "12"), ("fast", ""), ("team", "web and more")];
        let expected = expected.map(|(key, value)| (key.to_owned(), Some(value.to_owned())));
        assert_eq!(read(&words, "zone=a").unwrap(), expected.into());
        for bad in ["zone", "=a", "zone=a=b", ""] {
            let text = read(&[bad.to_owned()], "zone=a").unwrap_err().to_string();
            assert_eq!(text, format!("'{bad}' does not match the pattern 'key=value', ex: zone=a"));
        }
    }
}
