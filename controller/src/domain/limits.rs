//! What a process may use of its machine, and how long it may take to end (contract §2.5).

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

const MEMORY_FORMAT: &str =
    "Memory limit format: <number><unit> or <number><unit>/<number><unit>, where unit = B, K, M or G";
const CPU_FORMAT: &str = "CPU limit format: <value> or <value>/<value>, where value must be a numeric";
const GRACE_FORMAT: &str = "Termination Grace Period format: <value>, where value must be a numeric";

/// Longest time between SIGTERM and SIGKILL.
const LONGEST_GRACE: u64 = 24 * 60 * 60;

/// Why a text is not a limit; the text is the contract's own message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct LimitError(String);

impl LimitError {
    fn format(text: &str) -> Self {
        Self(text.to_owned())
    }
}

/// An amount of something: what a process is promised, and what it never gets more of. `None` is no promise, no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amount {
    /// What it is promised.
    pub request: Option<u64>,
    /// What it never gets more of.
    pub limit: Option<u64>,
}

impl Amount {
    /// Reads `limit` or `request/limit`. A single amount is both.
    fn read(text: &str, one: impl Fn(&str) -> Option<u64>) -> Option<Self> {
        let some = |amount: u64| (amount > 0).then_some(amount);
        let (request, limit) = text.split_once('/').unwrap_or((text, text));
        Some(Self { request: some(one(request)?), limit: some(one(limit)?) })
    }
}

/// What the processes of a type may use; nothing told is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// Memory, in bytes.
    pub memory: Amount,
    /// CPU time, in thousandths of one CPU.
    pub cpu: Amount,
}

macro_rules! limit {
    ($(#[$doc:meta])* $name:ident, $part:ty, $read:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name {
            text: String,
            part: $part,
        }

        impl $name {
            /// What it means.
            pub fn get(&self) -> $part {
                self.part
            }
        }

        impl FromStr for $name {
            type Err = LimitError;
            fn from_str(text: &str) -> Result<Self, LimitError> {
                let read: fn(&str) -> Result<$part, LimitError> = $read;
                Ok(Self { text: text.to_owned(), part: read(text)? })
            }
        }

        impl TryFrom<String> for $name {
            type Error = LimitError;
            fn try_from(text: String) -> Result<Self, LimitError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(limit: $name) -> String {
                limit.text
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.text)
            }
        }
    };
}

limit!(
    /// Memory: `512M`, `1G`, `20MB`, `256M/1G`, in units of 1024; `0` is no limit.
    MemoryLimit,
    Amount,
    |text| {
        let bare = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        // Only the first amount may be a bare 0.
        let second_is_bare = text.split_once('/').is_some_and(|(_, limit)| bare(limit));
        Amount::read(text, bytes).filter(|_| !second_is_bare).ok_or_else(|| LimitError::format(MEMORY_FORMAT))
    }
);

fn bytes(text: &str) -> Option<u64> {
    if text == "0" {
        return Some(0);
    }
    let end = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at_checked(end)?;
    let unit: u64 = match unit.to_ascii_uppercase().as_str() {
        "B" => 1,
        "K" | "KB" => 1 << 10,
        "M" | "MB" => 1 << 20,
        "G" | "GB" => 1 << 30,
        _ => return None,
    };
    // Engines count in signed numbers.
    number.parse::<u64>().ok()?.checked_mul(unit).filter(|bytes| i64::try_from(*bytes).is_ok())
}

limit!(
    /// CPU time: `1`, `0.5`, `500m`, `250m/1`, in CPUs or, with an `m`, in thousandths of one; `0` is no limit.
    CpuLimit,
    Amount,
    |text| Amount::read(text, millis).ok_or_else(|| LimitError::format(CPU_FORMAT))
);

/// Thousandths of a CPU; more precision than that is rounded up.
fn millis(text: &str) -> Option<u64> {
    let text = text.strip_prefix('+').unwrap_or(text);
    let (text, unit) = text.strip_suffix('m').map_or((text, 1000), |text| (text, 1));
    let (whole, fraction) = match text.split_once('.') {
        Some((whole, fraction)) if !fraction.is_empty() => (whole, fraction),
        None if !text.is_empty() => (text, "0"),
        _ => return None,
    };
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || fraction.len() > 9 || whole.len() > 9 {
        return None;
    }
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let nanos: u64 = format!("{fraction:0<9}").parse().ok()?;
    Some((whole * 1_000_000_000 + nanos).checked_mul(unit)?.div_ceil(1_000_000_000))
}

limit!(
    /// The time between SIGTERM and SIGKILL, in seconds.
    GracePeriod,
    Duration,
    |text| {
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(LimitError::format(GRACE_FORMAT));
        }
        match text.parse() {
            Ok(seconds) if seconds <= LONGEST_GRACE => Ok(Duration::from_secs(seconds)),
            _ => Err(LimitError(format!("Termination Grace Period needs to be between 0 and {LONGEST_GRACE} seconds"))),
        }
    }
);

#[cfg(test)]
mod tests {
    use super::*;

    const MEBIBYTE: u64 = 1 << 20;

    fn amount(request: u64, limit: u64) -> Amount {
        let some = |amount: u64| (amount > 0).then_some(amount);
        Amount { request: some(request), limit: some(limit) }
    }

    #[test]
    fn memory_is_read_as_the_contract_says() {
        for (text, request, limit) in [
            ("512M", 512 * MEBIBYTE, 512 * MEBIBYTE),
            ("1G", 1024 * MEBIBYTE, 1024 * MEBIBYTE),
            ("20mb", 20 * MEBIBYTE, 20 * MEBIBYTE),
            ("7b", 7, 7),
            ("3k", 3072, 3072),
            ("0", 0, 0),
            ("0m", 0, 0),
            ("0/100MB", 0, 100 * MEBIBYTE),
            ("256M/1G", 256 * MEBIBYTE, 1024 * MEBIBYTE),
            ("200GB/100MB", 200 * 1024 * MEBIBYTE, 100 * MEBIBYTE),
        ] {
            let read: MemoryLimit = text.parse().unwrap();
            assert_eq!((read.get(), read.to_string().as_str()), (amount(request, limit), text));
        }
        for bad in [
            "20MK",
            "10",
            "20gK",
            "mb",
            "",
            "1M/",
            "/1M",
            "1M/0",
            "-1M",
            "1.5G",
            "1M/2M/3M",
            "1 M",
            "9999999999G",
            "١M",
        ] {
            assert_eq!(bad.parse::<MemoryLimit>().unwrap_err().to_string(), MEMORY_FORMAT, "{bad}");
        }
    }

    #[test]
    fn cpu_is_read_as_the_contract_says() {
        for (text, request, limit) in [
            ("1", 1000, 1000),
            ("+1", 1000, 1000),
            ("0.5", 500, 500),
            (".123", 123, 123),
            ("0.0001", 1, 1),
            ("200m", 200, 200),
            ("1.5m", 2, 2),
            ("0", 0, 0),
            ("0/2", 0, 2000),
            ("250m/1", 250, 1000),
            ("500m/600m", 500, 600),
        ] {
            let read: CpuLimit = text.parse().unwrap();
            assert_eq!((read.get(), read.to_string().as_str()), (amount(request, limit), text));
        }
        for bad in ["20MK", "m", ".", "", "1.", "-1", "1/", "/1", "1/2/3", "1e3", "++1", "1 ", "9999999999", "½"] {
            assert_eq!(bad.parse::<CpuLimit>().unwrap_err().to_string(), CPU_FORMAT, "{bad}");
        }
    }

    #[test]
    fn a_grace_period_is_a_number_of_seconds() {
        assert_eq!("120".parse::<GracePeriod>().unwrap().get(), Duration::from_secs(120));
        assert_eq!("0".parse::<GracePeriod>().unwrap().get(), Duration::ZERO);
        for bad in ["", "1s", "-1", "1.5", " 1"] {
            assert_eq!(bad.parse::<GracePeriod>().unwrap_err().to_string(), GRACE_FORMAT, "{bad}");
        }
        for long in ["86401", "99999999999999999999999"] {
            assert!(long.parse::<GracePeriod>().unwrap_err().to_string().contains("between 0 and 86400"), "{long}");
        }
    }
}
