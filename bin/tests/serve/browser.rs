//! A real browser on the pages: headless Chromium, driven over its `DevTools` protocol.

use std::fs;
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use tungstenite::stream::MaybeTlsStream;
use tungstenite::{Message, WebSocket};

use crate::server::{Server, wait_for};

const PROGRAM: &str = "chromium";
const FLAGS: [&str; 11] = [
    "--headless",
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
struct Browser {
    tab: WebSocket<MaybeTlsStream<TcpStream>>,
    sent: u64,
    _process: Process,
    _profile: TempDir,
}

impl Browser {
    /// `None` where there is no Chromium and nobody insists on one.
    fn start() -> Option<Self> {
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
                assert!(std::env::var_os("CI").is_none(), "{PROGRAM}: {error}");
                eprintln!("skipped: {PROGRAM} not installed");
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
    fn call(&mut self, method: &str, parameters: &Value) -> Value {
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
    fn evaluate(&mut self, expression: &str) -> Value {
        let parameters = json!({ "expression": expression, "returnByValue": true });
        self.call("Runtime.evaluate", &parameters)["result"]["value"].take()
    }

    fn go(&mut self, url: &str) {
        self.call("Page.navigate", &json!({ "url": url }));
    }

    /// Waits until the page shows this text.
    #[track_caller]
    fn sees(&mut self, text: &str) {
        let expression = format!(
            "document.readyState == 'complete' && document.body.innerText.includes({})",
            json!(text)
        );
        wait_for(text, || (self.evaluate(&expression) == true).then_some(()));
    }

    /// Presses the link or button with this inscription, as soon as it is there and can be pressed.
    #[track_caller]
    fn press(&mut self, inscription: &str) {
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
    fn fill(&mut self, field: &str, text: &str) {
        let expression = format!(
            "(() => {{ const field = document.getElementsByName({})[0];
                if (field) field.value = {}; return !!field; }})()",
            json!(field),
            json!(text)
        );
        wait_for(field, || (self.evaluate(&expression) == true).then_some(()));
    }

    fn back(&mut self) {
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

fn begin(browser: &mut Browser, server: &Server, button: &str) {
    browser.go(&server.url("/karrigell.html"));
    browser.fill("myname", "Lovelace");
    browser.fill("firstname", "Ada");
    browser.press(button);
    browser.sees("Your name is Lovelace");
}

#[test]
fn a_browser_walks_karrigells_pages() {
    let Some(mut browser) = Browser::start() else {
        return;
    };
    let server = Server::start();
    for button in ["Send by POST", "Send by GET"] {
        begin(&mut browser, &server, button);
        browser.press("Follow");
        browser.sees("Your first name is Ada");
        browser.press("Close the session");
        browser.sees("The session is closed");
        assert!(server.session_files().is_empty());
        browser.back();
        browser.sees("firstname");
        browser.sees("Nobody has begun, or the session was closed");
        browser.go(&server.url("/cgi-bin/follow"));
        browser.sees("Nobody has begun, or the session was closed");
        browser.press("Begin again");
        browser.sees("Tell the first page your name");
    }
}

#[test]
fn the_burst_in_a_browser_counts_all_fifty_and_the_session_file_shows_it() {
    let Some(mut browser) = Browser::start() else {
        return;
    };
    let server = Server::start();
    browser.go(&server.url("/burst.html"));
    for range in ["2 to 51", "53 to 102"] {
        browser.press("Send 50 requests");
        browser.sees(&format!(
            "50 of 50 requests were counted: {range}, none twice, none missing."
        ));
        assert_eq!(
            browser.evaluate("document.querySelectorAll('#answers li').length"),
            50
        );
    }
    browser.go(&server.url("/inspect"));
    browser.sees("generation 102, current");
    let cookies = browser.call("Network.getCookies", &json!({}));
    let id = cookies["cookies"][0]["value"].as_str().unwrap().to_owned();
    let page = browser.evaluate("document.documentElement.outerHTML");
    assert!(!page.as_str().unwrap().contains(&id));

    let cookie = format!("sessionId={id}");
    let answer = server.raw(
        format!("GET /cgi-bin/counter HTTP/1.1\r\nHost: x\r\nCookie: {cookie}\r\nConnection: close\r\n\r\n").as_bytes(),
    );
    assert!(answer.contains("been here 103 time"), "{answer}");
    // The page follows by itself.
    browser.sees("generation 103, current");
}
