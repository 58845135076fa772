//! The user data that `nft` and we attach to objects: comments, byte orders and fingerprints.

/// The kernel keeps at most 256 bytes (`NFT_USERDATA_MAXLEN`).
const MAX_TEXT: usize = 200;

/// Appends an entry: type, length, value.
pub(super) fn push(userdata: &mut Vec<u8>, kind: u8, value: &[u8]) {
    if let Ok(length) = u8::try_from(value.len()) {
        userdata.extend_from_slice(&[kind, length]);
        userdata.extend_from_slice(value);
    }
}

/// Appends a text, NUL-terminated as `nft` wants it, cut where the kernel would refuse it.
pub(super) fn push_text(userdata: &mut Vec<u8>, kind: u8, text: &str) {
    let mut value = text.as_bytes()[..text.floor_char_boundary(MAX_TEXT)].to_vec();
    value.push(0);
    push(userdata, kind, &value);
}

/// The value of the first entry of a type.
pub(super) fn get(userdata: &[u8], kind: u8) -> Option<&[u8]> {
    let mut rest = userdata;
    loop {
        let (&found, &length) = (rest.first()?, rest.get(1)?);
        let value = rest.get(2..2 + usize::from(length))?;
        if found == kind {
            return Some(value);
        }
        rest = &rest[2 + usize::from(length)..];
    }
}

/// The text of an entry, without its NUL.
pub(super) fn text(userdata: &[u8], kind: u8) -> Option<String> {
    let value = get(userdata, kind)?;
    let text = value.strip_suffix(&[0]).unwrap_or(value);
    Some(String::from_utf8_lossy(text).into_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn texts_come_back_and_fit_the_kernel(comment in ".{0,300}") {
            let mut userdata = Vec::new();
            push(&mut userdata, 0x70, &[1; 8]);
            push_text(&mut userdata, 0, &comment);
            prop_assert!(userdata.len() <= 256);
            let kept = text(&userdata, 0).unwrap();
            prop_assert!(comment.starts_with(&kept) && (kept.len() == comment.len() || kept.len() > MAX_TEXT - 4));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64), kind: u8) {
            if let Some(value) = get(&bytes, kind) {
                prop_assert!(value.len() < bytes.len());
            }
        }
    }
}
