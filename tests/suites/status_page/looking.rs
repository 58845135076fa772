//! The page in a real browser.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use testbed::{Subject, scenarios};

use crate::browser::Browser;
use crate::page::{AT, connect, serve};

scenarios![Subject:
    it_shows_what_is_the_matter_with_services,
    it_is_used_by_keyboard,
    it_says_that_the_process_does_not_answer,
];

/// Where pictures of the page are to be left, if anywhere: `POINTSMAN_PICTURES=/tmp cargo test -p testbed --test
/// status_page`.
const PICTURES: &str = "POINTSMAN_PICTURES";

/// The text of the row of a Service of namespace `test`.
fn row(name: &str) -> String {
    format!(
        "[...document.querySelectorAll('.service')].find((row) => row.querySelector('b').textContent === '{name}')"
    )
}

fn open(s: &Subject) -> Result<Browser> {
    let mut browser = Browser::start(&s.bed.node)?;
    browser.show(1200, 900, "light")?;
    browser.open(&format!("http://{AT}/status-page"))?;
    browser.await_that("document.querySelectorAll('.service').length === 5")?;
    Ok(browser)
}

/// It has neither complained nor asked anybody else for anything.
fn is_well_behaved(browser: &Browser) -> Result<()> {
    let (complaints, requests) = (browser.complaints(), browser.requests());
    ensure!(complaints.is_empty(), "{complaints:#?}");
    let own = [format!("http://{AT}/status-page"), "data:image/svg+xml".to_owned()];
    ensure!(requests.iter().all(|request| own.iter().any(|own| request.starts_with(own))), "{requests:?}");
    ensure!(requests.len() > 2, "{requests:?}");
    Ok(())
}

fn keep(picture: &[u8], name: &str) -> Result<()> {
    ensure!(picture.starts_with(b"\x89PNG") && picture.len() > 10_000, "{name} is no picture");
    match std::env::var_os(PICTURES) {
        Some(folder) => Ok(std::fs::write(PathBuf::from(folder).join(name), picture)?),
        None => Ok(()),
    }
}

fn it_shows_what_is_the_matter_with_services(s: &mut Subject) -> Result<()> {
    serve(s)?;
    let held = connect(s, 24)?;
    let mut browser = open(s)?;
    for (name, words) in [
        ("down", &["Broken", "its only endpoint is not used: not ready"][..]),
        ("lonely", &["Broken", "no endpoints"]),
        ("shaky", &["Impaired", "1 of 2", "not ready"]),
        ("web", &["Served", "2 of 2", "24", "172.30.0.10", "http 80/TCP (node port 30080)"]),
        ("ghost", &["Not proxied", "headless"]),
    ] {
        browser.await_that(&format!("{}.innerText.includes('{}')", row(name), words[0]))?;
        let text = browser.evaluate(&format!("{}.innerText", row(name)))?;
        let text = text.as_str().context("no text")?;
        ensure!(words.iter().all(|word| text.contains(word)), "{name}: {words:?} is not in {text:?}");
    }
    let names =
        browser.evaluate("[...document.querySelectorAll('.service b')].map((b) => b.textContent).join()")?;
    ensure!(names == "down,lonely,shaky,web,ghost", "problems do not come first: {names}");
    for name in ["web", "shaky"] {
        browser.evaluate(&format!("{}.querySelector('button').click()", row(name)))?;
    }
    browser.await_that("document.querySelectorAll('.share').length === 4")?;
    browser.await_that("document.body.innerText.includes('3 problems')")?;
    let text = browser.text()?;
    for words in ["Healthy", "nftables", "Compared with the kernel", "this node", "Not used: not ready"] {
        ensure!(text.contains(words), "no {words:?} in\n{text}");
    }
    browser.show(1200, 1180, "light")?;
    keep(&browser.picture()?, "status-page.png")?;
    browser.show(1200, 1180, "dark")?;
    keep(&browser.picture()?, "status-page-dark.png")?;
    browser.show(390, 1600, "light")?;
    let width = browser.evaluate("document.documentElement.scrollWidth")?;
    ensure!(width.as_u64() <= Some(390), "at phone width, the page is {width} wide");
    keep(&browser.picture()?, "status-page-phone.png")?;
    drop(held);
    is_well_behaved(&browser)
}

fn it_is_used_by_keyboard(s: &mut Subject) -> Result<()> {
    serve(s)?;
    let mut browser = open(s)?;
    browser.press("/")?;
    for character in ["s", "h", "a", "k"] {
        browser.press(character)?;
    }
    browser.await_that("document.querySelectorAll('.service').length === 1")?;
    ensure!(browser.evaluate("filter.value")? == "shak");
    // Past the box for problems and the four buttons in the head, to the row.
    for _ in 0..6 {
        browser.press("Tab")?;
    }
    browser.press("Enter")?;
    browser.await_that("document.querySelectorAll('.inside .share').length === 2")?;
    let expanded = browser.evaluate("document.activeElement.getAttribute('aria-expanded')")?;
    ensure!(expanded == "true", "the focus is elsewhere: {expanded}");
    browser.press("/")?;
    browser.press("Escape")?;
    browser.await_that("document.querySelectorAll('.service').length === 5")?;
    is_well_behaved(&browser)
}

fn it_says_that_the_process_does_not_answer(s: &mut Subject) -> Result<()> {
    serve(s)?;
    let mut browser = open(s)?;
    is_well_behaved(&browser)?;
    s.proxy()?.terminate()?;
    browser.await_that("health.textContent === 'No answer'")?;
    ensure!(browser.evaluate("document.querySelectorAll('.service').length")? == 5, "what was known is gone");
    s.restart()?;
    browser.await_that("health.textContent === 'Healthy'")
}
