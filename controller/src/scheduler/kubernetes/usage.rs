//! What processes use, by the figures of the cluster's metrics API.

use std::collections::BTreeMap;

use http::Request;
use serde::Deserialize;
use uuid::Uuid;

use super::{
    Shared,
    client::{bounded, explain, status},
    labels::{self, APP, ONE_OFF},
    objects::CONTAINER,
};
use crate::{
    domain::instance::InstanceName,
    scheduler::{SchedulerError, Usage},
};

const ABSENT: &str = "the cluster has no metrics API (metrics.k8s.io) that tells what processes use; \
    metrics-server provides it: https://github.com/kubernetes-sigs/metrics-server";

#[derive(Deserialize)]
struct List {
    items: Vec<Figures>,
}

/// A `PodMetrics`, which is no kind of the core's.
#[derive(Deserialize)]
struct Figures {
    metadata: Name,
    containers: Vec<Measured>,
}

#[derive(Deserialize)]
struct Name {
    name: String,
    namespace: String,
}

#[derive(Deserialize)]
struct Measured {
    name: String,
    usage: Quantities,
}

#[derive(Deserialize)]
struct Quantities {
    cpu: String,
    memory: String,
}

/// What the app's instances use, each by its last measure; one that was never measured is missing.
pub(super) async fn of_app(shared: &Shared, app: Uuid) -> Result<BTreeMap<InstanceName, Usage>, SchedulerError> {
    let pods = shared.pods.of_app(app).await?;
    let bearers: BTreeMap<(String, String), InstanceName> = pods
        .iter()
        .filter(|pod| !labels::is_one_off(pod))
        .filter_map(|pod| {
            let metadata = &pod.metadata;
            Some(((metadata.namespace.clone()?, metadata.name.clone()?), labels::instance(pod)?))
        })
        .collect();
    let namespaces: std::collections::BTreeSet<&str> =
        bearers.keys().map(|(namespace, _)| namespace.as_str()).collect();
    let mut usage = BTreeMap::new();
    for namespace in namespaces {
        let of_app = format!("{APP}%3D{app},%21{ONE_OFF}");
        let path = format!("/apis/metrics.k8s.io/v1beta1/namespaces/{namespace}/pods?labelSelector={of_app}");
        let request =
            Request::get(path).body(Vec::new()).map_err(|error| SchedulerError::Refused(error.to_string()))?;
        let list: List = match bounded(shared.client.request(request)).await {
            Ok(list) => list,
            // 503: it is known, and what provides it is not there.
            Err(error) if status(&error).is_some_and(|status| matches!(status.code, 404 | 503)) => {
                return Err(SchedulerError::Unavailable(ABSENT.to_owned()));
            }
            Err(error) => return Err(explain(error)),
        };
        for figures in list.items {
            let Name { name, namespace } = figures.metadata;
            let Some(instance) = bearers.get(&(namespace, name)) else { continue };
            let Some(measured) = figures.containers.iter().find(|one| one.name == CONTAINER) else { continue };
            if let (Some(cpu), Some(memory)) = (thousandths(&measured.usage.cpu), thousandths(&measured.usage.memory)) {
                let entry = Usage { cpu_millis: whole(cpu), memory: whole(memory / 1000) };
                usage.insert(instance.clone(), entry);
            }
        }
    }
    Ok(usage)
}

fn whole(number: u128) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

/// A quantity in Kubernetes' spelling, in thousandths: `250m`, `1234567n`, `12Mi`, `1.5`, `3e6`. Rounded up, as there.
pub(super) fn thousandths(text: &str) -> Option<u128> {
    let unit = text.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(unit)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits: u128 = format!("{whole}{fraction}").parse().ok()?;
    let (factor, divisor): (u128, u128) = match unit {
        "n" => (1, 1_000_000),
        "u" => (1, 1000),
        "m" => (1, 1),
        "" => (1000, 1),
        "k" => (1_000_000, 1),
        "M" => (1_000_000_000, 1),
        "G" => (1_000_000_000_000, 1),
        "T" => (1_000_000_000_000_000, 1),
        "P" => (1_000_000_000_000_000_000, 1),
        "E" => (1_000_000_000_000_000_000_000, 1),
        "Ki" => (1000 << 10, 1),
        "Mi" => (1000 << 20, 1),
        "Gi" => (1000 << 30, 1),
        "Ti" => (1000 << 40, 1),
        "Pi" => (1000 << 50, 1),
        "Ei" => (1000 << 60, 1),
        _ => {
            let exponent: u32 = unit.strip_prefix(['e', 'E'])?.parse().ok()?;
            (1000_u128.checked_mul(10_u128.checked_pow(exponent)?)?, 1)
        }
    };
    let places = u32::try_from(fraction.len()).ok()?;
    Some(digits.checked_mul(factor)?.div_ceil(divisor.checked_mul(10_u128.checked_pow(places)?)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_as_kubernetes_spells_them() {
        for (text, expected) in [
            ("250m", Some(250)),
            ("1", Some(1000)),
            ("1234567n", Some(2)),
            ("1500u", Some(2)),
            ("0", Some(0)),
            ("1.5", Some(1500)),
            ("12Ki", Some(12_288_000)),
            ("1.5Mi", Some(1_572_864_000)),
            ("2G", Some(2_000_000_000_000)),
            ("3e3", Some(3_000_000)),
            ("1Pi", Some(1_125_899_906_842_624_000)),
            ("2E", Some(2_000_000_000_000_000_000_000)),
            ("", None),
            ("x", None),
            ("1x", None),
            ("99999999999999999999999999999999999999999", None),
        ] {
            assert_eq!(thousandths(text), expected, "{text}");
        }
    }
}
