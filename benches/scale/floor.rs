//! The floor: the elements that the mode programmed, sent to the kernel with nothing else. Nothing that uses the same
//! maps can be faster.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use benches::cluster::cluster_ip;
use benches::figures::{Figures, median};
use kernel::nft::{
    Batch, Bytes, Chain, Data, DataType, Element, MapTo, Nftables as Connection, Set, Table, Verdict,
};

const WHO: &str = "the same elements, raw";

/// Loads what is in the kernel once more, and changes it.
pub(crate) fn measure(figures: &mut Figures, samples: u32) -> Result<()> {
    let mut connection = Connection::open()?;
    let content = Content::read(&mut connection)?;
    let mut loads = Vec::new();
    for _ in 0..3 {
        modes::nftables::cleanup()?;
        let start = Instant::now();
        connection.commit(content.batch())?;
        loads.push(start.elapsed());
    }
    figures.add(WHO, "full load", median(&mut loads));
    let mut time = |batch: &dyn Fn() -> Batch| -> Result<Duration> {
        let start = Instant::now();
        connection.commit(batch())?;
        Ok(start.elapsed())
    };
    let replaced = content.sets.iter().find(|(set, _)| set.name == "endpoints").context("no endpoints")?;
    let replaced = replaced.1.iter().take(samples as usize).map(|element| time(&|| content.replace(element)));
    figures.add(WHO, "replace an endpoint, median", median(&mut replaced.collect::<Result<Vec<_>>>()?));
    let of_first = content.of_first();
    let added = (0..samples).map(|number| {
        let of_other = moved(&of_first, number);
        time(&|| content.add(&of_other))
    });
    figures.add(WHO, "add a service, median", median(&mut added.collect::<Result<Vec<_>>>()?));
    Ok(())
}

/// The sets that hold anything.
struct Content {
    table: Table,
    sets: Vec<(Set, Vec<Element>)>,
}

impl Content {
    fn read(connection: &mut Connection) -> Result<Self> {
        let tables = connection.tables()?;
        let table =
            tables.into_iter().find(|table| table.to_string() == "ip pointsman").context("no table")?;
        let mut sets = Vec::new();
        for set in connection.sets(&table)? {
            let elements = connection.elements(&table, &set.name)?;
            if let Some(first) = elements.first() {
                sets.push((shape(&set.name, first), elements));
            }
        }
        Ok(Self { table, sets })
    }

    /// All of it. Chains are there to be led to, and have no rules.
    fn batch(&self) -> Batch {
        let mut batch = Batch::new(self.table.clone());
        batch.add_table("");
        let chains: BTreeSet<&String> =
            self.sets.iter().flat_map(|(_, elements)| elements).filter_map(led_to).collect();
        chains.into_iter().for_each(|name| batch.add_chain(&Chain { name: name.clone(), hook: None }));
        for (set, elements) in &self.sets {
            batch.add_set(set);
            batch.add_elements(&set.name, elements);
        }
        batch
    }

    /// Another endpoint in the place of one.
    fn replace(&self, element: &Element) -> Batch {
        let mut other = element.clone();
        other.data = Data::Value(Bytes::from_slice(&[10, 255, 255, 1, 80, 80, 0, 0]));
        let mut batch = Batch::new(self.table.clone());
        batch.delete_elements("endpoints", [element]);
        batch.add_elements("endpoints", [&other]);
        batch
    }

    /// The elements of the first service, by set.
    fn of_first(&self) -> Vec<(String, Vec<Element>)> {
        let first = cluster_ip(0).octets();
        let of_set = |(set, elements): &(Set, Vec<Element>)| {
            let mut found = elements.clone();
            found.retain(|element| element.key.starts_with(&first));
            (set.name.clone(), found)
        };
        self.sets.iter().map(of_set).collect()
    }

    /// One more service.
    fn add(&self, elements: &[(String, Vec<Element>)]) -> Batch {
        let mut batch = Batch::new(self.table.clone());
        elements.iter().for_each(|(set, elements)| batch.add_elements(set, elements));
        batch
    }
}

/// The same elements under another ClusterIP.
fn moved(elements: &[(String, Vec<Element>)], number: u32) -> Vec<(String, Vec<Element>)> {
    let other = cluster_ip(900_000 + number).octets();
    let mut moved = elements.to_vec();
    for element in moved.iter_mut().flat_map(|(_, elements)| elements) {
        element.key[..4].copy_from_slice(&other);
    }
    moved
}

/// A set for elements like this one. To the kernel, fields are so many bytes.
fn shape(name: &str, element: &Element) -> Set {
    let words = |bytes: &Bytes| vec![DataType::Mark; bytes.len() / 4];
    Set {
        name: name.to_owned(),
        key: words(&element.key),
        data: match &element.data {
            Data::None => MapTo::Nothing,
            Data::Verdict(_) => MapTo::Verdict,
            Data::Value(value) => MapTo::Value(words(value)),
        },
        interval: false,
        dynamic: false,
        size: None,
        comment: String::new(),
    }
}

fn led_to(element: &Element) -> Option<&String> {
    match &element.data {
        Data::Verdict(Verdict::Goto(chain)) => Some(chain),
        _ => None,
    }
}
