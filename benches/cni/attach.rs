//! ADD and DEL, one after the other, by each contender in turn.

use std::time::{Duration, Instant};

use anyhow::Result;
use benches::figures::{Figures, median, p99};
use serde_json::{Value, json};
use testbed::cni::{List, Pod, Runtime, node};

use crate::report::{ADD, ADD_P99, BRIDGE, DEL, DEL_P99, PAIR, RATE, RATIO, REFERENCE, ROUTED};

/// A network that some plugin makes.
struct Contender {
    name: &'static str,
    list: List,
    adds: Vec<Duration>,
    dels: Vec<Duration>,
}

impl Contender {
    fn new(name: &'static str, plugin: Value) -> Self {
        let list = List::new(name.split(' ').next().unwrap_or_default(), "1.0.0").then(plugin);
        Self { name, list, adds: Vec::new(), dels: Vec::new() }
    }

    /// Of ADD and DEL together.
    fn pairs(&self) -> Vec<Duration> {
        self.adds.iter().zip(&self.dels).map(|(add, del)| *add + *del).collect()
    }
}

/// The network of Debian's plugins.
pub(crate) fn reference() -> Value {
    json!({
        "type": "bridge", "bridge": "ref0", "isGateway": true,
        "ipam": {
            "type": "host-local", "ranges": [[{ "subnet": "10.97.0.0/16" }]], "routes": [{ "dst": "0.0.0.0/0" }],
        },
    })
}

/// A network of ours.
pub(crate) fn ours(mode: &str, subnet: &str) -> Value {
    json!({
        "type": "pointsman-cni", "mode": mode, "bridge": "our0", "gate": "off",
        "ipam": { "type": "pointsman-ipam", "ranges": [[{ "subnet": subnet }]] },
    })
}

pub(crate) fn measure(pods: usize) -> Result<Figures> {
    let node = node("node")?;
    let runtime = Runtime::on(&node)?;
    let mut contenders = [
        Contender::new(ROUTED, ours("routed", "10.95.0.0/16")),
        Contender::new(BRIDGE, ours("bridge", "10.96.0.0/16")),
        Contender::new(REFERENCE, reference()),
    ];
    let pod = Pod::new("pod")?;
    for round in 0..=pods {
        for contender in &mut contenders {
            let mut attachment = pod.attachment.clone();
            attachment.container = format!("pod-{round}");
            let start = Instant::now();
            runtime.add(&contender.list, &attachment)?;
            let added = Instant::now();
            runtime.del(&contender.list, &attachment)?;
            // The first one makes bridges and folders.
            if round > 0 {
                contender.adds.push(added - start);
                contender.dels.push(added.elapsed());
            }
        }
    }
    Ok(tell(&mut contenders))
}

fn tell(contenders: &mut [Contender]) -> Figures {
    let mut figures = Figures::default();
    let theirs = contenders.last().map(|last| median(&mut last.pairs())).unwrap_or_default();
    for contender in contenders {
        let (name, mut pairs) = (contender.name, contender.pairs());
        let all: Duration = pairs.iter().sum();
        figures.add(name, ADD, median(&mut contender.adds));
        figures.add(name, ADD_P99, p99(&mut contender.adds));
        figures.add(name, DEL, median(&mut contender.dels));
        figures.add(name, DEL_P99, p99(&mut contender.dels));
        let own = median(&mut pairs);
        figures.add(name, PAIR, own);
        let rate = pairs.len() as f64 / all.as_secs_f64();
        figures.add_times(name, RATE, rate);
        figures.add_ratio(name, RATIO, theirs, own);
    }
    figures
}
