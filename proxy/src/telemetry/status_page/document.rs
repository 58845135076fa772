//! The page as it is sent: one document with its style and script inside, and a policy that allows nothing besides.

use std::sync::LazyLock;

use data_encoding::BASE64;
use sha2::{Digest, Sha256};

const FRAME: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = concat!(include_str!("page.js"), include_str!("rows.js"));

/// What is sent.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) html: String,
    /// `Content-Security-Policy`
    pub(super) policy: String,
}

/// Put together once.
pub(super) static DOCUMENT: LazyLock<Document> = LazyLock::new(|| Document {
    html: FRAME.replace("/* page.css */", STYLE).replace("/* page.js */", SCRIPT),
    policy: format!(
        "default-src 'none'; script-src '{}'; style-src '{}'; img-src data:; connect-src 'self'; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'",
        hash(SCRIPT),
        hash(STYLE)
    ),
});

fn hash(text: &str) -> String {
    format!("sha256-{}", BASE64.encode(&Sha256::digest(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is between two marks, each of which is there once.
    fn between<'a>(text: &'a str, begin: &str, end: &str) -> &'a str {
        assert_eq!((text.matches(begin).count(), text.matches(end).count()), (1, 1));
        text.split_once(begin).unwrap().1.split_once(end).unwrap().0
    }

    #[test]
    fn the_policy_allows_the_script_and_the_style_that_are_inside() {
        let Document { html, policy } = &*DOCUMENT;
        for (kind, begin, end) in [("script", "<script>", "</script>"), ("style", "<style>", "</style>")] {
            let allowed = format!("{kind}-src '{}'", hash(between(html, begin, end)));
            assert!(policy.contains(&allowed), "{policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
    }

    #[test]
    fn nothing_is_loaded_from_elsewhere() {
        let html = DOCUMENT.html.replace("http://www.w3.org/2000/svg", "");
        for foreign in ["http:", "https:", "src=", "@import", "url(", "innerHTML", "eval("] {
            assert!(!html.contains(foreign), "{foreign}");
        }
    }
}
