//! [`Browser`]: headless Chromium, driven over its `DevTools` protocol.

use std::fs;
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::{Value, json};
use tempfile::TempDir;
use tungstenite::stream::MaybeTlsStream;
use tungstenite::{Message, WebSocket};

use crate::server::wait_for;

const PROGRAM: &str = "chromium";
const FLAGS: [&str; 12] = [
    "--headless",
    "--hide-scrollbars",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-port=0",
    "about:blank",
];
/// So long a browser may take to end when it is told to.
const FAREWELL: Duration = Duration::from_secs(5);

/// A browser with one tab and an empty profile, ended with the test.
pub(super) struct Browser {
    tab: WebSocket<MaybeTlsStream<TcpStream>>,
    sent: u64,
    _process: Process,
    _profile: TempDir,
}

impl Browser {
    /// `None` where there is no Chromium, unless CI is set.
    pub(super) fn start() -> Option<Self> {
        let profile = tempfile::tempdir().unwrap();
        let started = Command::new(PROGRAM)
            .args(FLAGS)
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let process = match started {
            Ok(child) => Process(child),
            Err(error) => {
                crate::server::not_installed(&format!("{PROGRAM}: {error}"));
                return None;
            }
        };
        let port = wait_for("the browser's port", || {
            let text = fs::read_to_string(profile.path().join("DevToolsActivePort")).ok()?;
            text.split_once('\n').map(|(port, _)| port.to_owned())
        });
        let address = wait_for("the first tab", || tab_address(&port));
        let (tab, _) = tungstenite::connect(address).unwrap();
        Some(Browser {
            tab,
            sent: 0,
            _process: process,
            _profile: profile,
        })
    }

    /// Sends a command and waits for its result.
    pub(super) fn call(&mut self, method: &str, parameters: &Value) -> Value {
        self.sent += 1;
        let command = json!({ "id": self.sent, "method": method, "params": parameters });
        self.tab.send(Message::text(command.to_string())).unwrap();
        loop {
            let message = self.tab.read().unwrap();
            let Ok(text) = message.to_text() else {
                continue;
            };
            let mut reply: Value = serde_json::from_str(text).unwrap_or_default();
            if reply["id"] == self.sent {
                return reply["result"].take();
            }
        }
    }

    /// The value of an expression in the page; null while the page is being replaced.
    pub(super) fn evaluate(&mut self, expression: &str) -> Value {
        let parameters = json!({ "expression": expression, "returnByValue": true });
        self.call("Runtime.evaluate", &parameters)["result"]["value"].take()
    }

    pub(super) fn go(&mut self, url: &str) {
        self.call("Page.navigate", &json!({ "url": url }));
    }

    /// Waits until the page shows this text.
    #[track_caller]
    pub(super) fn sees(&mut self, text: &str) {
        let expression = format!(
            "document.readyState == 'complete' && document.body.innerText.includes({})",
            json!(text)
        );
        wait_for(text, || (self.evaluate(&expression) == true).then_some(()));
    }

    /// Presses the link or button with this inscription, as soon as it is there and can be pressed.
    #[track_caller]
    pub(super) fn press(&mut self, inscription: &str) {
        let expression = format!(
            "(() => {{ const all = [...document.querySelectorAll('a, button')];
                const found = all.find(one => one.innerText.trim() == {} && !one.disabled);
                found?.click(); return !!found; }})()",
            json!(inscription)
        );
        wait_for(inscription, || {
            (self.evaluate(&expression) == true).then_some(())
        });
    }

    #[track_caller]
    pub(super) fn fill(&mut self, field: &str, text: &str) {
        let expression = format!(
            "(() => {{ const field = document.getElementsByName({})[0];
                if (field) field.value = {}; return !!field; }})()",
            json!(field),
            json!(text)
        );
        wait_for(field, || (self.evaluate(&expression) == true).then_some(()));
    }

    /// Presses a button within a frame.
    #[track_caller]
    pub(super) fn press_within(&mut self, frame: &str, label: &str) {
        let expression = format!(
            "(() => {{ const frame = document.querySelector('iframe[title={frame}]')?.contentDocument;
                if (frame?.readyState != 'complete') return false;
                const found = frame.querySelector('button[aria-label={}]');
                found?.click(); return !!found; }})()",
            json!(label)
        );
        wait_for(label, || (self.evaluate(&expression) == true).then_some(()));
    }

    /// Waits until the expression is this.
    #[track_caller]
    pub(super) fn becomes(&mut self, expression: &str, expected: &Value) {
        let mut last = Value::Null;
        wait_for(expression, || {
            let now = self.evaluate(expression);
            if now != last {
                println!("{now}");
                last = now;
            }
            (last == *expected).then_some(())
        });
    }

    /// Gives the window this size, as a phone has it or a screen.
    pub(super) fn resize(&mut self, width: u32, height: u32) {
        let size = json!({
            "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500
        });
        self.call("Emulation.setDeviceMetricsOverride", &size);
    }

    /// Asks pages for `light` or `dark`, and for nothing that moves.
    pub(super) fn prefer(&mut self, scheme: &str) {
        let features = json!([
            { "name": "prefers-color-scheme", "value": scheme },
            { "name": "prefers-reduced-motion", "value": "reduce" },
        ]);
        self.call(
            "Emulation.setEmulatedMedia",
            &json!({ "features": features }),
        );
    }

    /// What the window shows, as a PNG.
    pub(super) fn screenshot(&mut self) -> Vec<u8> {
        let shown = self.call("Page.captureScreenshot", &json!({ "format": "png" }));
        BASE64_STANDARD
            .decode(shown["data"].as_str().unwrap())
            .unwrap()
    }

    /// Lets the pages' own scripts run no more.
    pub(super) fn forbid_scripts(&mut self) {
        self.call(
            "Emulation.setScriptExecutionDisabled",
            &json!({ "value": true }),
        );
    }

    pub(super) fn back(&mut self) {
        self.evaluate("history.back()");
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // If it does not get through, the process is killed.
        let _ = self
            .tab
            .send(Message::text(r#"{"id":0,"method":"Browser.close"}"#));
    }
}

fn tab_address(port: &str) -> Option<String> {
    let mut list = ureq::get(format!("http://127.0.0.1:{port}/json/list"))
        .call()
        .ok()?;
    let tabs: Vec<Value> = serde_json::from_str(&list.body_mut().read_to_string().ok()?).ok()?;
    let tab = tabs.iter().find(|tab| tab["type"] == "page")?;
    tab["webSocketDebuggerUrl"].as_str().map(str::to_owned)
}

/// A process that is gone when this is.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let start = Instant::now();
        while start.elapsed() < FAREWELL && !std::thread::panicking() {
            if !matches!(self.0.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        // It may have ended meanwhile.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
