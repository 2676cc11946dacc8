//! A browser, spoken to in the protocol of WebDriver (w3.org/TR/webdriver2) over the HTTP client
//! that rstore has anyway: the clients that there are bring an asynchronous runtime with them.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::need::{self, Need};

/// What the tests here cannot do without.
pub const NEEDS: &[Need] = &[Need::Program("chromedriver"), Need::Program("chromium")];

/// How long anything may take that the browser is asked for.
const PATIENCE: Duration = Duration::from_secs(60);

/// A browser with a window, and a profile that goes with it.
pub struct Browser {
    driver: Child,
    agent: ureq::Agent,
    session: String,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// A browser whose window has this width and height.
    pub fn start(width: u32, height: u32) -> Browser {
        let profile = tempfile::Builder::new()
            .prefix("rstore-page-")
            .tempdir()
            .expect("a temporary directory");
        let mut driver = need::program("chromedriver")
            .arg("--port=0")
            // What it and the browser write, they write there.
            .env("TMPDIR", profile.path())
            .env("HOME", profile.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver");
        let port = port(&mut driver);
        let agent = ureq::Agent::config_builder()
            .timeout_global(Some(PATIENCE))
            .http_status_as_error(false)
            .proxy(None)
            .build()
            .new_agent();
        let mut browser = Browser {
            driver,
            agent,
            session: format!("http://127.0.0.1:{port}/session"),
            _profile: profile,
        };
        let profile = browser._profile.path().join("profile");
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "goog:loggingPrefs": { "browser": "ALL" },
            "goog:chromeOptions": { "args": [
                "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                "--no-first-run", "--disable-background-networking", "--disable-component-update",
                "--force-device-scale-factor=1",
                format!("--user-data-dir={}", profile.display()),
                format!("--window-size={width},{height}"),
            ] },
        } } });
        let session = browser.post("", &wanted);
        let id = session["sessionId"].as_str().expect("a session");
        browser.session.push_str(&format!("/{id}"));
        browser
    }

    /// Opens a file.
    pub fn open(&self, path: &Path) {
        let url = format!("file://{}", path.display());
        self.post("/url", &json!({ "url": url }));
    }

    /// What a script returns; `arguments[0]` in it is `argument`.
    pub fn run(&self, script: &str, argument: impl serde::Serialize) -> Value {
        self.post(
            "/execute/sync",
            &json!({ "script": script, "args": [argument] }),
        )
    }

    /// Waits until an expression is true.
    pub fn wait(&self, expression: &str) {
        let began = Instant::now();
        while self.run(&format!("return Boolean({expression})"), ()) != true {
            assert!(began.elapsed() < PATIENCE, "never: {expression}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Clicks on the first element that a CSS selector finds, as a mouse does: what covers it
    /// would be in the way.
    pub fn click(&self, selector: &str) {
        let element = self.element(selector);
        self.post(&format!("/element/{element}/click"), &json!({}));
    }

    /// Types into the first element that a CSS selector finds.
    pub fn type_into(&self, selector: &str, text: &str) {
        let element = self.element(selector);
        self.post(
            &format!("/element/{element}/value"),
            &json!({ "text": text }),
        );
    }

    fn element(&self, selector: &str) -> String {
        let found = self.post(
            "/element",
            &json!({ "using": "css selector", "value": selector }),
        );
        let id = found
            .as_object()
            .and_then(|element| element.values().next());
        id.and_then(Value::as_str)
            .unwrap_or_else(|| panic!("no {selector}: {found}"))
            .to_owned()
    }

    /// Sends a command of the developer tools' protocol.
    pub fn tools(&self, command: &str, parameters: Value) {
        self.post(
            "/goog/cdp/execute",
            &json!({ "cmd": command, "params": parameters }),
        );
    }

    /// Gives the window's inside a size, whatever a window's least is.
    pub fn resize(&self, width: u32, height: u32) {
        self.tools(
            "Emulation.setDeviceMetricsOverride",
            json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false }),
        );
    }

    /// Says that the system's colours are light or dark.
    pub fn scheme(&self, scheme: &str) {
        let feature = json!({ "name": "prefers-color-scheme", "value": scheme });
        self.tools(
            "Emulation.setEmulatedMedia",
            json!({ "features": [feature] }),
        );
    }

    /// What pages have said on the console since the last time.
    pub fn console(&self) -> Vec<String> {
        let entries = self.post("/se/log", &json!({ "type": "browser" }));
        let entries = entries.as_array().expect("a log");
        entries.iter().map(Value::to_string).collect()
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        let url = format!("{}{path}", self.session);
        let mut answer = self
            .agent
            .post(&url)
            .content_type("application/json")
            .send(body.to_string())
            .unwrap_or_else(|error| panic!("{url}: {error}"));
        let text = answer.body_mut().read_to_string().expect("an answer");
        let answer: Value = serde_json::from_str(&text).expect("JSON");
        let value = &answer["value"];
        assert!(value["error"].is_null(), "{path} {body}: {value}");
        value.clone()
    }
}

/// The port that the driver chose, as it says.
fn port(driver: &mut Child) -> u16 {
    let mut lines = BufReader::new(driver.stdout.take().expect("a pipe")).lines();
    let said = lines.find_map(|line| {
        let line = line.ok()?;
        let (_, port) = line.split_once("started successfully on port ")?;
        port.trim_end_matches('.').parse().ok()
    });
    // It must not stop at a full pipe.
    std::thread::spawn(move || lines.for_each(drop));
    said.expect("chromedriver says its port")
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The browser ends with its session, before the directory goes that it writes to.
        let _ = self.agent.delete(&self.session).call();
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

/// A program's output for what it is given on stdin; it must end well.
pub fn filtered(command: &mut Command, input: &str) -> String {
    use std::io::Write;
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("a program");
    let mut stdin = child.stdin.take().expect("a pipe");
    let input = input.to_owned();
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().expect("an end");
    writer.join().expect("a thread").expect("a reader");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
    assert_eq!(said, "", "{command:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
}
