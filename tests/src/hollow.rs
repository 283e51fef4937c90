//! Machines of a cluster that only say that they run what they are given, as a kubelet would: they register, renew their
//! status, and tell of the pods that are bound to them that they are ready, each at an address of its own. So many pods
//! cost nothing, and a machine can be lost. They have no logs. Everything else is the real cluster's doing.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use futures_util::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{
    Api, Client, ResourceExt as _,
    api::{DeleteParams, Patch, PatchParams, PostParams},
    runtime::watcher::{self, Event},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    task::{JoinHandle, JoinSet},
};

use crate::eventually;

/// How often a machine says that it is there.
const HEARTBEAT: Duration = Duration::from_secs(2);
/// So many pods' states are told at a time.
const AT_A_TIME: usize = 16;
/// The next pod's address, of 127.201.0.0/16 and what follows.
static NEXT: AtomicU32 = AtomicU32::new(1);

/// A machine; dropping it is the loss of it: it says nothing more, and nobody is at the addresses of its pods.
#[derive(Debug)]
pub struct HollowNode {
    tasks: Vec<JoinHandle<()>>,
}

impl HollowNode {
    /// Registers one, or has it come back. `visited`: whether something answers at its pods' addresses.
    pub async fn start(client: Client, name: &str, visited: bool) -> anyhow::Result<Self> {
        let nodes: Api<Node> = Api::all(client.clone());
        if nodes.get_opt(name).await?.is_none() {
            nodes.create(&PostParams::default(), &serde_json::from_value(node(name))?).await?;
        }
        let beating = tokio::spawn(beat(nodes.clone(), name.to_owned()));
        let running = tokio::spawn(run(client, name.to_owned(), visited));
        let machine = Self { tasks: vec![beating, running] };
        eventually(&format!("the cluster gives pods to {name}"), Duration::from_secs(120), async || {
            let spec = nodes.get(name).await?.spec.unwrap_or_default();
            Ok(spec.taints.is_none_or(|taints| taints.is_empty()).then_some(()))
        })
        .await?;
        Ok(machine)
    }
}

impl Drop for HollowNode {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

fn node(name: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": { "kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64" },
        },
        "spec": {},
    })
}

/// What a machine says of itself.
fn well() -> Value {
    let now = now();
    let condition = |kind: &str, status: &str| json!({ "type": kind, "status": status, "reason": "Hollow", "lastHeartbeatTime": now, "lastTransitionTime": now });
    let room = json!({ "cpu": "1000", "memory": "4Ti", "pods": "10000", "ephemeral-storage": "4Ti" });
    let empty = [
        "bootID",
        "containerRuntimeVersion",
        "kernelVersion",
        "kubeProxyVersion",
        "kubeletVersion",
        "machineID",
        "osImage",
        "systemUUID",
    ];
    let mut info = json!({ "architecture": "amd64", "operatingSystem": "linux" });
    for name in empty {
        info[name] = "hollow".into();
    }
    json!({ "status": {
        "capacity": room,
        "allocatable": room,
        "nodeInfo": info,
        "conditions": [condition("Ready", "True"), condition("MemoryPressure", "False"), condition("DiskPressure", "False"), condition("PIDPressure", "False")],
    } })
}

fn now() -> String {
    chrono::Utc::now().format("%Y-%m-%dT%H:%M:%SZ").to_string()
}

async fn beat(nodes: Api<Node>, name: String) {
    loop {
        // One that is missed is made up for by the next.
        let _ = nodes.patch_status(&name, &PatchParams::default(), &Patch::Strategic(well())).await;
        tokio::time::sleep(HEARTBEAT).await;
    }
}

/// What is at the address of a pod.
struct Place {
    address: Ipv4Addr,
    _answering: JoinSet<()>,
}

async fn run(client: Client, name: String, visited: bool) {
    let bound = watcher::Config::default().fields(&format!("spec.nodeName={name}"));
    let watched = watcher::watcher(Api::<Pod>::all(client.clone()), bound);
    // A watch that is lost is begun again by itself.
    let pods = watched.filter_map(|event| async {
        match event {
            Ok(Event::Apply(pod) | Event::InitApply(pod)) => Some((pod, true)),
            Ok(Event::Delete(pod)) => Some((pod, false)),
            Ok(_) => None,
            Err(_) => {
                tokio::time::sleep(HEARTBEAT).await;
                None
            }
        }
    });
    let mut pods = std::pin::pin!(pods.ready_chunks(AT_A_TIME));
    let mut places: HashMap<String, Place> = HashMap::new();
    while let Some(chunk) = pods.next().await {
        let mut told = Vec::new();
        for (pod, there) in chunk {
            let uid = pod.uid().unwrap_or_default();
            if !there {
                places.remove(&uid);
            } else if pod.metadata.deletion_timestamp.is_some() {
                places.remove(&uid);
                told.push((pod, None));
            } else if !is_running(&pod) || !places.contains_key(&uid) {
                let place = match places.entry(uid) {
                    std::collections::hash_map::Entry::Occupied(place) => place.into_mut(),
                    std::collections::hash_map::Entry::Vacant(vacant) => {
                        vacant.insert(begin(&pod, &name, visited).await)
                    }
                };
                told.push((pod, Some(place.address)));
            }
        }
        let told = stream::iter(told).for_each_concurrent(AT_A_TIME, |(pod, address)| tell(&client, pod, address));
        told.await;
    }
}

fn is_running(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// Tells that a pod is ready at this address, or that it has ended.
async fn tell(client: &Client, pod: Pod, address: Option<Ipv4Addr>) {
    let api: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
    let name = pod.name_any();
    let Some(address) = address else {
        let at_once = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
        let _ = api.delete(&name, &at_once).await;
        return;
    };
    let now = now();
    let conditions: Vec<Value> = ["Initialized", "Ready", "ContainersReady", "PodScheduled"]
        .map(|kind| json!({ "type": kind, "status": "True", "lastTransitionTime": now }))
        .into();
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let containers: Vec<Value> = containers
        .map(|container| {
            let image = container.image.clone().unwrap_or_default();
            json!({
                "name": container.name, "ready": true, "started": true, "restartCount": 0, "image": image, "imageID": image,
                "state": { "running": { "startedAt": now } },
            })
        })
        .collect();
    let address = address.to_string();
    let status = json!({ "status": {
        "phase": "Running", "podIP": address, "podIPs": [{ "ip": address }], "hostIP": "127.0.0.1", "startTime": now,
        "conditions": conditions, "containerStatuses": containers,
    } });
    let _ = api.patch_status(&name, &PatchParams::default(), &Patch::Strategic(status)).await;
}

/// Gives a pod an address, where its machine's name is told to whoever comes.
async fn begin(pod: &Pod, node: &str, visited: bool) -> Place {
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    // Processes of several tests at once: each has a part of its own of 127.0.0.0/8.
    let process = std::process::id() % 50;
    let address = Ipv4Addr::from((127 << 24) + ((201 + process) << 16) + number);
    let mut answering = JoinSet::new();
    let port = pod.annotations().get("paas.port").and_then(|port| port.parse().ok());
    if let Some(port) = port.filter(|_| visited)
        && let Ok(listener) = TcpListener::bind(SocketAddr::from((address, port))).await
    {
        let text = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{node}", node.len());
        answering.spawn(async move {
            while let Ok((mut visitor, _)) = listener.accept().await {
                // Whoever hangs up is no trouble of ours.
                let _ = visitor.read(&mut [0; 1024]).await;
                let _ = visitor.write_all(text.as_bytes()).await;
            }
        });
    }
    Place { address, _answering: answering }
}
