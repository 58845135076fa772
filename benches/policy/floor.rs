//! The floor: as many elements as the program has, put into one set by one transaction and nothing else.

use std::time::{Duration, Instant};

use anyhow::Result;
use kernel::nft::{Batch, Bytes, DataType, Element, Family, MapTo, Nftables as Connection, Set, Table};
use policy::Program;

/// How many elements a program asks for: members of sets, and who is isolated.
pub(crate) fn elements(program: &Program) -> usize {
    program.sets.values().map(std::collections::BTreeMap::len).sum::<usize>()
        + program.subjects.len()
        + program.pods.len()
}

/// Says how long so many take.
pub(crate) fn load(elements: usize) -> Result<Duration> {
    let elements = (0..u32::try_from(elements)?)
        .map(|number| Element { key: Bytes::from_slice(&number.to_be_bytes()), ..Element::default() });
    let elements: Vec<Element> = elements.collect();
    let mut connection = Connection::open()?;
    let started = Instant::now();
    let mut batch = Batch::new(Table { family: Family::Ip, name: "floor".to_owned() });
    batch.add_table("");
    batch.add_set(&Set {
        name: "all".to_owned(),
        key: vec![DataType::Ipv4Addr],
        data: MapTo::Nothing,
        interval: false,
        dynamic: false,
        size: None,
        comment: String::new(),
    });
    batch.add_elements("all", &elements);
    connection.commit(batch)?;
    Ok(started.elapsed())
}
