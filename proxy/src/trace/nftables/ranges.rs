//! Which element of a set of ranges a key is in.

use kernel::nft::{DataType, Element};

use super::table::Shape;

/// The element that a key is in.
pub(super) fn find<'a>(elements: &'a [Element], shape: &Shape, key: &[u8]) -> Option<&'a Element> {
    let several_fields = shape.key.as_ref().filter(|fields| fields.len() > 1);
    match several_fields {
        Some(fields) => elements.iter().find(|element| holds_each(element, fields, key)),
        None => {
            // Ranges stand there as where they begin and where what is no longer in them begins.
            let before = elements.iter().filter(|element| element.key.as_slice() <= key);
            let last = before.max_by_key(|element| (&element.key, !element.interval_end))?;
            (!last.interval_end).then_some(last)
        }
    }
}

/// Whether each field of a key is in the range of that field.
fn holds_each(element: &Element, fields: &[DataType], key: &[u8]) -> bool {
    let last = element.key_end.as_ref().unwrap_or(&element.key);
    let mut at = 0;
    fields.iter().all(|field| {
        let range = at..at + field.width();
        at += field.padded();
        match (element.key.get(range.clone()), key.get(range.clone()), last.get(range)) {
            (Some(first), Some(found), Some(last)) => first <= found && found <= last,
            _ => false,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn element(key: &[u8], key_end: Option<&[u8]>, interval_end: bool) -> Element {
        let key_end = key_end.map(Into::into);
        Element { key: key.into(), key_end, interval_end, ..Element::default() }
    }

    fn shape(key: &[DataType]) -> Shape {
        Shape { key: Some(key.to_vec()), is_interval: true, ..Shape::default() }
    }

    #[test]
    fn a_range_of_one_field_ends_before_its_end() {
        let ports = shape(&[DataType::InetService]);
        // 80-89 and 90-99, which touch, and 200 to the end.
        let elements = [
            element(&[0, 100], None, true),
            element(&[0, 90], None, false),
            element(&[0, 90], None, true),
            element(&[0, 80], None, false),
            element(&[0, 200], None, false),
        ];
        let found = |port: u16| find(&elements, &ports, &port.to_be_bytes()).map(|found| found.key[1]);
        assert_eq!([79, 80, 89, 90, 99].map(found), [None, Some(80), Some(80), Some(90), Some(90)]);
        assert_eq!([100, 199, 200, 65_535].map(found), [None, None, Some(200), Some(200)]);
    }

    #[test]
    fn each_field_of_a_concatenation_is_in_its_range() {
        let shape = shape(&[DataType::InetService, DataType::Ipv4Addr]);
        let elements = [element(&[0, 80, 0, 0, 10, 0, 0, 0], Some(&[0, 80, 0, 0, 10, 0, 0, 255]), false)];
        let found = |key: &[u8]| find(&elements, &shape, key).is_some();
        assert!(found(&[0, 80, 0, 0, 10, 0, 0, 7]) && found(&[0, 80, 0, 0, 10, 0, 0, 255]));
        assert!(!found(&[0, 80, 0, 0, 10, 0, 1, 0]) && !found(&[0, 81, 0, 0, 10, 0, 0, 7]));
        assert!(!found(&[0, 80, 0, 0, 10, 0, 0]), "a key that is too short is in no range");
    }
}
