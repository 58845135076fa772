//! How sets, elements and verdicts are written. Tables, chains and rules are short enough for `batch.rs`.

use super::types::{Data, DataType, Element, MapTo, Set, Verdict, type_number, width};
use super::uapi::{LIST_ELEM, data, element, set, userdata as kind};
use super::userdata;
use crate::netlink::Writer;

/// The definition of a set. `id` is unique in the batch.
pub(super) fn definition(w: &mut Writer, table: &str, definition: &Set, id: u32) {
    w.string(set::TABLE, table);
    w.string(set::NAME, &definition.name);
    w.be32(set::FLAGS, flags(definition));
    w.be32(set::KEY_TYPE, type_number(&definition.key));
    w.be32(set::KEY_LEN, length(width(&definition.key)));
    match &definition.data {
        MapTo::Nothing => {}
        MapTo::Verdict => w.be32(set::DATA_TYPE, data::TYPE_VERDICT),
        MapTo::Value(fields) => {
            w.be32(set::DATA_TYPE, type_number(fields));
            w.be32(set::DATA_LEN, length(width(fields)));
        }
    }
    w.be32(set::ID, id);
    let concat_ranges = is_concat_of_ranges(definition);
    if definition.size.is_some() || concat_ranges {
        w.nest(set::DESC, |w| {
            if let Some(size) = definition.size {
                w.be32(set::DESC_SIZE, size);
            }
            if concat_ranges {
                w.nest(set::DESC_CONCAT, |w| definition.key.iter().for_each(|field| field_length(w, *field)));
            }
        });
    }
    w.attribute(set::USERDATA, &set_userdata(definition));
}

/// The flags that make a set what its definition says.
pub(super) fn flags(definition: &Set) -> u32 {
    let bit = |wanted: bool, flag: u32| if wanted { flag } else { 0 };
    bit(definition.interval, set::F_INTERVAL)
        | bit(is_concat_of_ranges(definition), set::F_CONCAT)
        | bit(definition.data != MapTo::Nothing, set::F_MAP)
        | bit(definition.dynamic, set::F_EVAL | set::F_TIMEOUT)
}

fn is_concat_of_ranges(definition: &Set) -> bool {
    definition.interval && definition.key.len() > 1
}

fn field_length(w: &mut Writer, field: DataType) {
    w.nest(LIST_ELEM, |w| w.be32(set::FIELD_LEN, length(field.width())));
}

/// `nft` needs the byte orders to print elements, and shows the comment.
fn set_userdata(definition: &Set) -> Vec<u8> {
    let mut userdata = Vec::new();
    userdata::push(&mut userdata, kind::SET_KEYBYTEORDER, &byte_order(&definition.key));
    if let MapTo::Value(fields) = &definition.data {
        userdata::push(&mut userdata, kind::SET_DATABYTEORDER, &byte_order(fields));
    }
    userdata::push_text(&mut userdata, kind::SET_COMMENT, &definition.comment);
    userdata
}

fn byte_order(fields: &[DataType]) -> [u8; 4] {
    let order = if fields == [DataType::Mark] { kind::HOST_ENDIAN } else { kind::BIG_ENDIAN };
    order.to_ne_bytes()
}

/// One element of a list of elements.
pub(super) fn element(w: &mut Writer, item: &Element) {
    w.nest(LIST_ELEM, |w| {
        w.nest(element::KEY, |w| w.attribute(data::VALUE, &item.key));
        if let Some(end) = &item.key_end {
            w.nest(element::KEY_END, |w| w.attribute(data::VALUE, end));
        }
        if item.interval_end {
            w.be32(element::FLAGS, element::F_INTERVAL_END);
        }
        match &item.data {
            Data::None => {}
            Data::Value(value) => w.nest(element::DATA, |w| w.attribute(data::VALUE, value)),
            Data::Verdict(decision) => w.nest(element::DATA, |w| verdict(w, decision)),
        }
        if let Some(comment) = &item.comment {
            let mut userdata = Vec::with_capacity(comment.len() + 3);
            userdata::push_text(&mut userdata, kind::COMMENT, comment);
            w.attribute(element::USERDATA, &userdata);
        }
    });
}

/// A verdict as `struct nft_data`.
pub(super) fn verdict(w: &mut Writer, verdict: &Verdict) {
    w.nest(data::VERDICT, |w| {
        w.be32(data::VERDICT_CODE, verdict.code().cast_unsigned());
        if let Some(chain) = verdict.chain() {
            w.string(data::VERDICT_CHAIN, chain);
        }
    });
}

fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}
