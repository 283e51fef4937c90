//! What the operator allows each app: a `ResourceQuota` and a `LimitRange` in its namespace.

use std::{collections::BTreeMap, str::FromStr, time::Duration};

use k8s_openapi::{
    NamespaceResourceScope,
    api::core::v1::{LimitRange as LimitRangeObject, ResourceQuota},
};
use kube::{Api, Resource, ResourceExt as _, api::DeleteParams};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::{
    Shared,
    cache::Cache,
    client::{self, bounded, explain, if_present},
    labels::INSTALLATION,
    objects::Owner,
    usage::thousandths,
};
use crate::scheduler::SchedulerError;

/// The name of both objects.
const NAME: &str = "paas";
/// Longest name of a resource.
const LONGEST_NAME: usize = 253;
/// How long a cluster may take to count what there is under a new quota; until then it lets nothing in.
const COUNT_PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(100);

/// Amounts of resources, by their names.
type Amounts = BTreeMap<Name, Amount>;

/// What an app may use in all: the `hard` of a `ResourceQuota`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Quota(Amounts);

/// What a process may use, and what it gets that does not say: the `limits` of a `LimitRange`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LimitRange(Vec<Limit>);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Limit {
    #[serde(rename = "type")]
    kind: LimitKind,
    #[serde(default, skip_serializing_if = "Amounts::is_empty")]
    default: Amounts,
    #[serde(default, skip_serializing_if = "Amounts::is_empty")]
    default_request: Amounts,
    #[serde(default, skip_serializing_if = "Amounts::is_empty")]
    max: Amounts,
    #[serde(default, skip_serializing_if = "Amounts::is_empty")]
    min: Amounts,
    #[serde(default, skip_serializing_if = "Amounts::is_empty")]
    max_limit_request_ratio: Amounts,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum LimitKind {
    Container,
    Pod,
    PersistentVolumeClaim,
}

/// The name of a resource, such as `limits.memory`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
struct Name(String);

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

impl TryFrom<String> for Name {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '/' | '_');
        if text.is_empty() || text.len() > LONGEST_NAME || !text.chars().all(legal) {
            return Err(format!("{text:?} is no name of a resource, such as limits.memory"));
        }
        Ok(Self(text))
    }
}

/// An amount in Kubernetes' spelling: `500m`, `2`, `1Gi`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Spelling", into = "String")]
struct Amount(String);

#[derive(Deserialize)]
#[serde(untagged)]
enum Spelling {
    Number(u64),
    Text(String),
}

impl From<Amount> for String {
    fn from(amount: Amount) -> Self {
        amount.0
    }
}

impl TryFrom<Spelling> for Amount {
    type Error = String;

    fn try_from(spelling: Spelling) -> Result<Self, String> {
        let text = match spelling {
            Spelling::Number(number) => number.to_string(),
            Spelling::Text(text) => text,
        };
        match thousandths(&text) {
            Some(_) => Ok(Self(text)),
            None => Err(format!("{text:?} is no amount in Kubernetes' spelling, such as 500m, 2 or 1Gi")),
        }
    }
}

/// Why a text does not say what apps are allowed.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct BoundsError(String);

impl FromStr for Quota {
    type Err = BoundsError;

    fn from_str(text: &str) -> Result<Self, BoundsError> {
        let quota: Self = serde_json::from_str(text).map_err(|error| BoundsError(error.to_string()))?;
        if quota.0.is_empty() {
            return Err(BoundsError("it names no resource".to_owned()));
        }
        Ok(quota)
    }
}

impl FromStr for LimitRange {
    type Err = BoundsError;

    fn from_str(text: &str) -> Result<Self, BoundsError> {
        let range: Self = serde_json::from_str(text).map_err(|error| BoundsError(error.to_string()))?;
        if range.0.is_empty() {
            return Err(BoundsError("it names no limits".to_owned()));
        }
        Ok(range)
    }
}

/// The specification of the quota that there shall be.
fn quota(shared: &Shared) -> Option<Value> {
    shared.settings.quota.as_ref().map(|quota| json!({ "hard": quota }))
}

/// The specification of the limit range that there shall be.
fn limit_range(shared: &Shared) -> Option<Value> {
    shared.settings.limit_range.as_ref().map(|range| json!({ "limits": range }))
}

/// Whether an app's namespace has not what it shall have, or has what it shall not have.
pub(super) async fn is_amiss(shared: &Shared, app: Uuid) -> Result<bool, SchedulerError> {
    Ok(differs(&shared.quotas, app, quota(shared).as_ref()).await?
        || differs(&shared.limit_ranges, app, limit_range(shared).as_ref()).await?)
}

async fn differs<K: Kind>(cache: &Cache<K>, app: Uuid, wanted: Option<&Value>) -> Result<bool, SchedulerError> {
    let known = cache.of_app(app).await?;
    Ok(match (known.first(), wanted) {
        (Some(known), Some(wanted)) => !contains(&spec(&**known), wanted),
        (known, wanted) => known.is_some() || wanted.is_some(),
    })
}

/// A kind of object that bounds a namespace.
trait Kind:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + DeserializeOwned
    + Serialize
    + std::fmt::Debug
    + Send
    + Sync
    + 'static
{
}

impl Kind for ResourceQuota {}
impl Kind for LimitRangeObject {}

fn spec(object: &impl Serialize) -> Value {
    let object = serde_json::to_value(object).unwrap_or_default();
    object.get("spec").cloned().unwrap_or_default()
}

/// Makes sure that the app's namespace is bounded as the settings say.
pub(super) async fn ensure(shared: &Shared, owner: &Owner<'_>) -> Result<(), SchedulerError> {
    // What gives defaults before what demands them.
    bound(shared, owner, &shared.limit_ranges, limit_range(shared)).await?;
    if bound(shared, owner, &shared.quotas, quota(shared)).await? {
        counted(shared, owner).await?;
    }
    Ok(())
}

/// Makes one object what it shall be; whether it was applied.
async fn bound<K: Kind>(
    shared: &Shared,
    owner: &Owner<'_>,
    cache: &Cache<K>,
    wanted: Option<Value>,
) -> Result<bool, SchedulerError> {
    let app = owner.app.id;
    if !differs(cache, app, wanted.as_ref()).await? {
        return Ok(false);
    }
    let api: Api<K> = Api::namespaced(shared.client.clone(), owner.namespace);
    let Some(spec) = wanted else {
        for known in cache.of_app(app).await? {
            if_present(bounded(api.delete(&known.name_any(), &DeleteParams::default())).await)?;
            cache.forget(&known);
        }
        return Ok(false);
    };
    let found = bounded(api.get_opt(NAME)).await.map_err(explain)?;
    if found.is_some_and(|found| found.labels().get(INSTALLATION) != Some(&shared.installation)) {
        return Err(SchedulerError::Refused(format!(
            "there is a {} {NAME} in the namespace {} that the platform has not made; remove it, or give it another name",
            K::kind(&()),
            owner.namespace
        )));
    }
    let object = json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        "metadata": owner.metadata(NAME),
        "spec": spec,
    });
    cache.put(client::apply(&api, NAME, &object).await?);
    Ok(true)
}

/// Waits until the cluster has counted what there is under a quota.
async fn counted(shared: &Shared, owner: &Owner<'_>) -> Result<(), SchedulerError> {
    let api: Api<ResourceQuota> = Api::namespaced(shared.client.clone(), owner.namespace);
    let began = Instant::now();
    while began.elapsed() < COUNT_PATIENCE {
        let found = bounded(api.get_opt(NAME)).await.map_err(explain)?;
        let hard = |quota: &ResourceQuota| quota.spec.as_ref().and_then(|spec| spec.hard.clone());
        if found.is_none_or(|quota| quota.status.as_ref().is_some_and(|status| status.hard == hard(&quota))) {
            return Ok(());
        }
        sleep(PAUSE).await;
    }
    Ok(())
}

/// Whether everything of `part` is in `whole`. Lists are compared as a whole, and amounts by what they amount to.
pub(super) fn contains(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => {
            part.iter().all(|(key, part)| whole.get(key).is_some_and(|whole| contains(whole, part)))
        }
        (Value::Array(whole), Value::Array(part)) => {
            whole.len() == part.len() && whole.iter().zip(part).all(|(whole, part)| contains(whole, part))
        }
        (Value::String(whole), Value::String(part)) => {
            whole == part || thousandths(whole).is_some_and(|amount| thousandths(part) == Some(amount))
        }
        _ => whole == part,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotas_and_ranges_are_read_and_nonsense_is_told() {
        let quota: Quota = r#"{"pods": 10, "limits.memory": "2Gi", "count/secrets": "7"}"#.parse().unwrap();
        assert_eq!(json!(quota), json!({"pods": "10", "limits.memory": "2Gi", "count/secrets": "7"}));
        let text = r#"[{"type": "Container", "default": {"cpu": "500m"}, "defaultRequest": {"cpu": "0.1"}}]"#;
        let range: LimitRange = text.parse().unwrap();
        assert_eq!(json!(range), serde_json::from_str::<Value>(text).unwrap());
        for (text, words) in [
            ("{", "EOF"),
            ("{}", "names no resource"),
            ("[]", "invalid type"),
            (r#"{"pods": "many"}"#, "\"many\" is no amount"),
            (r#"{"pods": -1}"#, "did not match"),
            (r#"{"a b": 1}"#, "\"a b\" is no name of a resource"),
            (r#"{"": 1}"#, "no name of a resource"),
        ] {
            let error = text.parse::<Quota>().unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
        for (text, words) in [
            ("[]", "names no limits"),
            ("[{}]", "missing field `type`"),
            (r#"[{"type": "Machine"}]"#, "unknown variant `Machine`"),
            (r#"[{"type": "Pod", "maximum": {}}]"#, "unknown field `maximum`"),
            (r#"[{"type": "Pod", "max": {"cpu": "x"}}]"#, "\"x\" is no amount"),
        ] {
            let error = text.parse::<LimitRange>().unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
    }

    #[test]
    fn what_others_add_does_not_matter() {
        let whole = json!({"a": {"b": [{"c": "1", "d": 2}], "e": 3}});
        assert!(contains(&whole, &json!({"a": {"b": [{"c": "1000m"}]}})));
        for other in
            [json!({"a": {"b": []}}), json!({"a": {"e": 4}}), json!({"f": 1}), json!({"a": {"b": [{"c": "2"}]}})]
        {
            assert!(!contains(&whole, &other), "{other}");
        }
    }
}
