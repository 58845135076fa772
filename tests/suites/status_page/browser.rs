//! A real browser without a window, told what to do over the DevTools protocol
//! (<https://chromedevtools.github.io/devtools-protocol/>), which it speaks over a pair of pipes.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;
use testbed::Namespace;

const PROGRAM: &str = "chromium-headless-shell";
/// What it complains of, in its own folder.
const LOG: &str = "complaints";

/// It reads what it is told from descriptor 3 and answers on 4; each message ends with a NUL.
const START: &str = r#"exec "$@" 3<&0 4>&1 </dev/null >/dev/null"#;

const FLAGS: &[&str] = &[
    "--remote-debugging-pipe",
    // Here we are root of namespaces of our own, which is sandbox enough.
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--hide-scrollbars",
];

/// A browser with one page open.
pub(crate) struct Browser {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    session: Option<String>,
    calls: u64,
    /// What it told by itself.
    events: Vec<Value>,
    home: TempDir,
}

impl Browser {
    /// Starts one on a node.
    pub(crate) fn start(node: &Namespace) -> Result<Self> {
        let found =
            Command::new("sh").args(["-c", "command -v \"$0\"", PROGRAM]).stdout(Stdio::null()).status()?;
        ensure!(found.success(), "{PROGRAM} is not installed: run cargo xtask setup");
        let home = tempfile::tempdir().context("cannot make a folder for the browser")?;
        let mut command = Command::new("sh");
        command.args(["-c", START, "sh", PROGRAM]).args(FLAGS);
        command.arg(format!("--user-data-dir={}", home.path().display())).env("HOME", home.path());
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        // It complains at length of what there is not: a bus, a graphics card.
        command.stderr(File::create(home.path().join(LOG))?);
        let mut process = node.run(|| command.spawn())?.with_context(|| format!("cannot run {PROGRAM}"))?;
        let input = process.stdin.take().context("the browser has no stdin")?;
        let output = BufReader::new(process.stdout.take().context("the browser has no stdout")?);
        let mut browser = Self { process, input, output, session: None, calls: 0, events: Vec::new(), home };
        let target = browser.call("Target.createTarget", &json!({ "url": "about:blank" }))?;
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let session = browser.call("Target.attachToTarget", &attach)?;
        browser.session = session["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Log", "Network"] {
            browser.call(&format!("{domain}.enable"), &json!({}))?;
        }
        Ok(browser)
    }

    /// Has it do something, and waits until it has.
    pub(crate) fn call(&mut self, method: &str, params: &Value) -> Result<Value> {
        self.calls += 1;
        let mut message = json!({ "id": self.calls, "method": method, "params": params });
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        self.input.write_all(format!("{message}\0").as_bytes()).context("the browser has ended")?;
        loop {
            let mut answer = Vec::new();
            self.output.read_until(0, &mut answer)?;
            if answer.pop() != Some(0) {
                bail!("the browser ended at {method}: {}", fs::read_to_string(self.home.path().join(LOG))?);
            }
            let mut answer: Value = serde_json::from_slice(&answer)?;
            if answer["id"] != self.calls {
                self.events.push(answer);
                continue;
            }
            ensure!(answer["error"].is_null(), "{method}: {}", answer["error"]);
            return Ok(answer["result"].take());
        }
    }

    /// Opens an address.
    pub(crate) fn open(&mut self, address: &str) -> Result<()> {
        let opened = self.call("Page.navigate", &json!({ "url": address }))?;
        ensure!(opened["errorText"].is_null(), "{address}: {}", opened["errorText"]);
        Ok(())
    }

    /// The value of an expression of JavaScript, which may be a promise.
    pub(crate) fn evaluate(&mut self, expression: &str) -> Result<Value> {
        let params = json!({ "expression": expression, "awaitPromise": true, "returnByValue": true });
        let mut answer = self.call("Runtime.evaluate", &params)?;
        ensure!(answer["exceptionDetails"].is_null(), "{expression}: {:#}", answer["exceptionDetails"]);
        Ok(answer["result"]["value"].take())
    }

    /// Waits until an expression of JavaScript holds in the page; each change to the page may be what makes it so.
    pub(crate) fn await_that(&mut self, expression: &str) -> Result<()> {
        let promise = format!(
            "new Promise((resolve) => {{
               const look = () => ({expression}) && (watch.disconnect(), resolve(true));
               const watch = new MutationObserver(look);
               watch.observe(document, {{ subtree: true, childList: true, characterData: true, attributes: true }});
               look();
               setTimeout(() => resolve(false), 15000);
             }})"
        );
        if self.evaluate(&promise)? != true {
            bail!("{expression} does not come about in\n{}", self.text()?);
        }
        Ok(())
    }

    /// All text that is in the page to be seen.
    pub(crate) fn text(&mut self) -> Result<String> {
        Ok(self.evaluate("document.body.innerText")?.as_str().unwrap_or_default().to_owned())
    }

    /// Presses a key and lets it go.
    pub(crate) fn press(&mut self, key: &str) -> Result<()> {
        let (code, text) = match key {
            "Enter" => (13, "\r"),
            "Tab" => (9, ""),
            "Escape" => (27, ""),
            character => (0, character),
        };
        let mut event = json!({ "type": "keyDown", "key": key, "windowsVirtualKeyCode": code, "text": text });
        self.call("Input.dispatchKeyEvent", &event)?;
        event["type"] = json!("keyUp");
        self.call("Input.dispatchKeyEvent", &event).map(drop)
    }

    /// Shows the page in a window of this size, in light or dark colours, and without motion.
    pub(crate) fn show(&mut self, width: u32, height: u32, colours: &str) -> Result<()> {
        let window =
            json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500 });
        self.call("Emulation.setDeviceMetricsOverride", &window)?;
        let wishes = [("prefers-color-scheme", colours), ("prefers-reduced-motion", "reduce")];
        let features = wishes.map(|(name, value)| json!({ "name": name, "value": value }));
        self.call("Emulation.setEmulatedMedia", &json!({ "features": features })).map(drop)
    }

    /// A picture of the window, as PNG.
    pub(crate) fn picture(&mut self) -> Result<Vec<u8>> {
        let picture = self.call("Page.captureScreenshot", &json!({ "format": "png" }))?;
        Ok(STANDARD.decode(picture["data"].as_str().context("no picture")?)?)
    }

    /// All addresses that were asked for.
    pub(crate) fn requests(&self) -> Vec<String> {
        let asked = self.events.iter().filter(|event| event["method"] == "Network.requestWillBeSent");
        asked.map(|event| event["params"]["request"]["url"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// What the page did wrong: errors, what its policy forbids, what it logged.
    pub(crate) fn complaints(&self) -> Vec<&Value> {
        let wrong = ["Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded"];
        self.events.iter().filter(|event| wrong.iter().any(|method| event["method"] == *method)).collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
