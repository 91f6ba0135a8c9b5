//! [`Browser`]: headless Chromium, driven over its `DevTools` protocol.

use std::fs;
use std::net::TcpStream;
use std::path::Path;
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
/// Where a browser says on which port it can be driven, in its profile.
const PORT: &str = "DevToolsActivePort";
/// So long a browser may take to end when it is told to.
const FAREWELL: Duration = Duration::from_secs(5);

/// A browser with one tab and an empty profile, ended with the test.
pub(super) struct Browser {
    tab: WebSocket<MaybeTlsStream<TcpStream>>,
    sent: u64,
    process: Process,
    profile: TempDir,
}

impl Browser {
    /// `None` where there is no Chromium, unless CI is set.
    pub(super) fn start() -> Option<Self> {
        let profile = tempfile::tempdir().unwrap();
        let (process, tab) = launch(profile.path())?;
        Some(Browser {
            tab,
            sent: 0,
            process,
            profile,
        })
    }

    /// Closes the browser, and opens it again with what it has kept in its profile.
    pub(super) fn restart(&mut self) {
        self.close();
        wait_for("the browser's end", || self.process.0.try_wait().unwrap());
        // It may have gone with the browser.
        let _ = fs::remove_file(self.profile.path().join(PORT));
        (self.process, self.tab) = launch(self.profile.path()).unwrap();
    }

    fn close(&mut self) {
        // If it does not get through, the process is killed.
        let close = Message::text(r#"{"id":0,"method":"Browser.close"}"#);
        let _ = self.tab.send(close);
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

    /// What a promise of the page comes to. The page may do what it may when its user has clicked.
    #[track_caller]
    pub(super) fn wait_for_promise(&mut self, expression: &str) -> Value {
        let parameters = json!({
            "expression": expression, "returnByValue": true, "awaitPromise": true, "userGesture": true
        });
        let mut answer = self.call("Runtime.evaluate", &parameters);
        assert!(answer["exceptionDetails"].is_null(), "{answer}");
        answer["result"]["value"].take()
    }

    /// Chooses files in the page's field for them.
    pub(super) fn choose_files(&mut self, files: &[&Path]) {
        let field = json!({ "expression": "document.querySelector('input[type=file]')" });
        let field = self.call("Runtime.evaluate", &field)["result"]["objectId"].take();
        let files = json!({ "objectId": field, "files": files });
        self.call("DOM.setFileInputFiles", &files);
    }

    /// The value of a cookie that the browser would send to this page.
    pub(super) fn cookie(&mut self, url: &str, name: &str) -> Option<String> {
        let known = self.call("Network.getCookies", &json!({ "urls": [url] }));
        let mut known = known["cookies"].as_array().into_iter().flatten();
        let cookie = known.find(|cookie| cookie["name"] == name)?;
        cookie["value"].as_str().map(str::to_owned)
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

    /// Presses it, and waits until the page shows this text.
    #[track_caller]
    pub(super) fn press_for(&mut self, inscription: &str, text: &str) {
        self.press(inscription);
        self.sees(text);
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
        let features = json!({ "features": [
            { "name": "prefers-color-scheme", "value": scheme },
            { "name": "prefers-reduced-motion", "value": "reduce" },
        ] });
        self.call("Emulation.setEmulatedMedia", &features);
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
        let disabled = json!({ "value": true });
        self.call("Emulation.setScriptExecutionDisabled", &disabled);
    }

    pub(super) fn back(&mut self) {
        self.evaluate("history.back()");
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        self.close();
    }
}

/// Starts Chromium with this profile; `None` where there is none, unless CI is set.
fn launch(profile: &Path) -> Option<(Process, WebSocket<MaybeTlsStream<TcpStream>>)> {
    let started = Command::new(PROGRAM)
        .args(FLAGS)
        .arg(format!("--user-data-dir={}", profile.display()))
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
        let text = fs::read_to_string(profile.join(PORT)).ok()?;
        text.split_once('\n').map(|(port, _)| port.to_owned())
    });
    let address = wait_for("the first tab", || tab_address(&port));
    let (tab, _) = tungstenite::connect(address).unwrap();
    Some((process, tab))
}

fn tab_address(port: &str) -> Option<String> {
    let list = ureq::get(format!("http://127.0.0.1:{port}/json/list")).call();
    let mut list = list.ok()?;
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
