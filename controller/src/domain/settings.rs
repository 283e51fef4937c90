//! Settings of an app (contract §1.12): what visitors meet, whatever the release.

use std::{collections::BTreeMap, fmt, str::FromStr};

use ipnet::IpNet;
use paas_api::ProcessType;
use serde_json::Value;

use super::{
    autoscale::{Rule, Rules},
    network::Network,
    routing::Routing,
};

/// Longest text of an address.
const LONGEST_ADDRESS: usize = 50;
/// Most addresses of a whitelist.
pub const MOST_ADDRESSES: usize = 1000;
/// Longest name of a label, in characters.
const LONGEST_LABEL: usize = 63;
/// Longest value of a label, in characters.
const LONGEST_VALUE: usize = 253;
/// Longest maintenance page, in bytes: every router holds every page.
pub const LONGEST_PAGE: usize = 64 << 10;
/// Most labels of an app.
const MOST_LABELS: usize = 100;

/// What an app's visitors meet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// Visitors get the maintenance page.
    pub maintenance: bool,
    /// The app has a place in the routing table.
    pub routable: bool,
    /// Who may visit; nobody in it lets everybody in.
    pub whitelist: Vec<Address>,
    /// Free words about the app.
    pub labels: BTreeMap<String, String>,
    /// How its processes come and go by their load.
    pub autoscale: Rules,
    /// What is said about its requests.
    pub routing: Routing,
    /// What visitors see while it is in maintenance, as HTML.
    pub maintenance_page: Option<String>,
}

/// What is to be other; `None` leaves as it is.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    /// Maintenance.
    pub maintenance: Option<bool>,
    /// A place in the routing table.
    pub routable: Option<bool>,
    /// The whole whitelist.
    pub whitelist: Option<Vec<Address>>,
    /// Labels that are set, and with `None` unset.
    pub labels: BTreeMap<String, Option<String>>,
    /// Rules that are set, and with `None` unset.
    pub autoscale: BTreeMap<ProcessType, Option<Rule>>,
    /// Rules about requests that are set, and with `None` unset.
    pub routing: BTreeMap<String, Option<Value>>,
    /// The maintenance page; the router's own comes back with `Some(None)`.
    pub maintenance_page: Option<Option<String>>,
}

/// Why settings cannot be changed so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// A label that is not there cannot be unset.
    #[error("{0} does not exist under label")]
    NoLabel(String),
    /// A rule that is not there cannot be unset.
    #[error("{0} does not exist under autoscale")]
    NoAutoscale(ProcessType),
    /// A rule that makes no sense.
    #[error("could not validate {0}: {1}")]
    Autoscale(ProcessType, String),
    /// An address that is not there cannot be taken away.
    #[error("addresses {{{0}}} does not exist in whitelist")]
    NoAddress(String),
    /// A label that cannot be.
    #[error("{0}")]
    Label(String),
    /// A rule that is not there cannot be unset.
    #[error("{0} does not exist under routing")]
    NoRule(String),
    /// A rule that cannot be.
    #[error("{0}")]
    Routing(String),
    /// A page that is too long.
    #[error("A maintenance page has at most {LONGEST_PAGE} bytes")]
    Page,
    /// More than anybody needs.
    #[error("A whitelist has at most {MOST_ADDRESSES} addresses")]
    TooMany,
}

impl Settings {
    /// The settings with these changes.
    pub fn merged(&self, changes: Changes) -> Result<Self, SettingsError> {
        let mut labels = self.labels.clone();
        for (name, value) in changes.labels {
            match value {
                Some(value) => {
                    check_label(&name, &value)?;
                    labels.insert(name, value);
                }
                None => drop(labels.remove(&name).ok_or(SettingsError::NoLabel(name))?),
            }
        }
        let autoscale = self.merged_rules(changes.autoscale)?;
        if labels.len() > MOST_LABELS {
            return Err(SettingsError::Label(format!("An app has at most {MOST_LABELS} labels")));
        }
        let mut routing = self.routing.clone();
        for (name, value) in &changes.routing {
            routing.change(name, value.as_ref())?;
        }
        let maintenance_page = changes.maintenance_page.unwrap_or_else(|| self.maintenance_page.clone());
        if maintenance_page.as_ref().is_some_and(|page| page.len() > LONGEST_PAGE) {
            return Err(SettingsError::Page);
        }
        Ok(Self {
            routing,
            maintenance_page,
            maintenance: changes.maintenance.unwrap_or(self.maintenance),
            routable: changes.routable.unwrap_or(self.routable),
            whitelist: match changes.whitelist {
                Some(addresses) => union(&[], addresses)?,
                None => self.whitelist.clone(),
            },
            labels,
            autoscale,
        })
    }

    fn merged_rules(&self, changes: BTreeMap<ProcessType, Option<Rule>>) -> Result<Rules, SettingsError> {
        let mut rules = self.autoscale.clone();
        for (process_type, rule) in changes {
            match rule {
                Some(rule) => {
                    if let Some(trouble) = rule.trouble() {
                        return Err(SettingsError::Autoscale(process_type, trouble));
                    }
                    rules.insert(process_type, rule);
                }
                None => drop(rules.remove(&process_type).ok_or(SettingsError::NoAutoscale(process_type))?),
            }
        }
        Ok(rules)
    }

    /// The settings with more addresses let in.
    pub fn with_addresses(&self, addresses: Vec<Address>) -> Result<Self, SettingsError> {
        Ok(Self { whitelist: union(&self.whitelist, addresses)?, ..self.clone() })
    }

    /// The settings with some addresses taken away.
    pub fn without_addresses(&self, addresses: &[Address]) -> Result<Self, SettingsError> {
        let missing: Vec<String> = addresses
            .iter()
            .filter(|address| !self.whitelist.contains(address))
            .map(|address| format!("'{address}'"))
            .collect();
        if !missing.is_empty() {
            return Err(SettingsError::NoAddress(missing.join(", ")));
        }
        let kept = self.whitelist.iter().filter(|address| !addresses.contains(address)).cloned().collect();
        Ok(Self { whitelist: kept, ..self.clone() })
    }
}

fn union(known: &[Address], more: Vec<Address>) -> Result<Vec<Address>, SettingsError> {
    let mut all = known.to_vec();
    for address in more {
        if !all.contains(&address) {
            all.push(address);
        }
    }
    if all.len() > MOST_ADDRESSES { Err(SettingsError::TooMany) } else { Ok(all) }
}

fn check_label(name: &str, value: &str) -> Result<(), SettingsError> {
    let told = |text: String| Err(SettingsError::Label(text));
    if name.is_empty() || name.chars().count() > LONGEST_LABEL {
        return told(format!("The name of a label has 1 to {LONGEST_LABEL} characters"));
    }
    if value.chars().count() > LONGEST_VALUE {
        return told(format!("The value of a label has at most {LONGEST_VALUE} characters"));
    }
    if name.chars().chain(value.chars()).any(char::is_control) {
        return told("Labels have no control characters".to_owned());
    }
    Ok(())
}

/// An address, a network, or an interface (an address with the size of its network): kept as it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    text: String,
    network: Network,
}

impl Address {
    /// All addresses that are meant.
    pub fn network(&self) -> IpNet {
        self.network.as_net()
    }

    /// As it was given.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// A text that is no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("The address {0} is not valid")]
pub struct BadAddress(String);

impl FromStr for Address {
    type Err = BadAddress;

    fn from_str(text: &str) -> Result<Self, BadAddress> {
        let bad = || BadAddress(text.chars().take(LONGEST_ADDRESS).collect());
        if text.len() > LONGEST_ADDRESS {
            return Err(bad());
        }
        let network = text.parse().map_err(|_| bad())?;
        Ok(Self { text: text.to_owned(), network })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        text.parse().unwrap()
    }

    #[test]
    fn addresses_networks_and_interfaces_are_taken() {
        for (text, network) in [
            ("192.0.2.7", "192.0.2.7/32"),
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("10.1.2.3/8", "10.0.0.0/8"),
            ("::1", "::1/128"),
            ("2001:db8::/32", "2001:db8::/32"),
            ("0.0.0.0/0", "0.0.0.0/0"),
        ] {
            assert_eq!(address(text).network(), network.parse().unwrap(), "{text}");
            assert_eq!(address(text).to_string(), text);
        }
        for text in ["", "1.2.3.4.5", "10.0.0.0/33", "10.0.0", "::1/129", "example.test", "10.0.0.1 ", &"1".repeat(60)]
        {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
        assert_eq!("1.2.3.4.5".parse::<Address>().unwrap_err().to_string(), "The address 1.2.3.4.5 is not valid");
    }

    #[test]
    fn a_whitelist_grows_without_doubles_and_shrinks_by_what_it_has() {
        let settings = Settings::default().with_addresses(vec![address("10.0.0.1"), address("::1")]).unwrap();
        let same = settings.with_addresses(vec![address("::1"), address("::1")]).unwrap();
        assert_eq!(same, settings);
        let error = settings.without_addresses(&[address("10.0.0.1"), address("10.0.0.2")]).unwrap_err();
        assert_eq!(error.to_string(), "addresses {'10.0.0.2'} does not exist in whitelist");
        assert_eq!(settings.without_addresses(&[address("10.0.0.1")]).unwrap().whitelist, [address("::1")]);
        let many = (0..=MOST_ADDRESSES).map(|n| address(&format!("10.0.{}.{}", n / 256, n % 256))).collect();
        assert_eq!(settings.with_addresses(many), Err(SettingsError::TooMany));
    }

    #[test]
    fn labels_are_set_and_unset() {
        let set = |name: &str, value: Option<&str>| Changes {
            labels: BTreeMap::from([(name.to_owned(), value.map(str::to_owned))]),
            ..Changes::default()
        };
        let settings = Settings::default().merged(set("team", Some("web"))).unwrap();
        assert_eq!(settings.labels["team"], "web");
        assert_eq!(settings.merged(set("team", None)).unwrap(), Settings::default());
        let error = settings.merged(set("other", None)).unwrap_err();
        assert_eq!(error.to_string(), "other does not exist under label");
        for (name, value) in [("", "x"), ("a\nb", "x"), ("a", "\u{1b}[2J"), (&*"a".repeat(64), "x")] {
            assert!(settings.merged(set(name, Some(value))).is_err(), "{name:?}");
        }
    }
}
