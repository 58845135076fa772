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

/// A text as it can be a comment: cut where the kernel would refuse it; what would end it, or break the line or the
/// quotes it is listed in, becomes a question mark.
#[must_use]
pub fn listable(text: &str) -> String {
    let kept = &text[..text.floor_char_boundary(MAX_TEXT)];
    kept.chars().map(|c| if c.is_control() || c == '"' { '?' } else { c }).collect()
}

/// Appends a text, NUL-terminated as `nft` wants it.
pub(super) fn push_text(userdata: &mut Vec<u8>, kind: u8, text: &str) {
    let mut value = listable(text).into_bytes();
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
        fn texts_come_back_and_fit_the_kernel(comment in "(?s).{0,300}") {
            let mut userdata = Vec::new();
            push(&mut userdata, 0x70, &[1; 8]);
            push_text(&mut userdata, 0, &comment);
            prop_assert!(userdata.len() <= 256);
            let kept = text(&userdata, 0).unwrap();
            prop_assert!(kept == listable(&comment) && kept == listable(&kept));
            prop_assert!(kept.chars().count() == comment.chars().count() || comment.len() > MAX_TEXT);
            prop_assert!(!kept.contains(['\0', '\n', '"']));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64), kind: u8) {
            if let Some(value) = get(&bytes, kind) {
                prop_assert!(value.len() < bytes.len());
            }
        }
    }
}
