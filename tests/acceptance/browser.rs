//! A real Chromium, driven through WebDriver: what a person sees on a page, presses and types.
//!
//! Looks at facts until they are there; a page that draws itself anew all the time is never waited for by the clock.

use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use fantoccini::elements::Element;
use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Map, Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::support::{PATIENCE, Process, eventually, free_port, pause, post};

/// What Chromium may take to end; it is killed with its driver anyway.
const FAREWELL: Duration = Duration::from_secs(5);

/// Colours as the reader's system would ask for them.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Scheme {
    Light,
    Dark,
}

pub(crate) struct Browser {
    runtime: Runtime,
    client: Client,
    session: String,
    address: SocketAddr,
    _driver: Process,
    _profile: TempDir,
}

impl Browser {
    pub(crate) fn open(folder: &Path) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let mut command = Command::new("chromedriver");
        command.arg(format!("--port={}", address.port()));
        let driver = Process::spawn(command, folder.join("chromedriver.log"));
        eventually("chromedriver listens", || TcpStream::connect(address).ok());
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let profile = tempfile::tempdir().expect("a temporary folder");
        let client = runtime
            .block_on(
                ClientBuilder::new(HttpConnector::new())
                    .capabilities(capabilities(profile.path()))
                    .connect(&format!("http://{address}")),
            )
            .expect("chromium starts");
        let session = runtime
            .block_on(client.session_id())
            .expect("the driver answers")
            .expect("a session");
        let browser = Self {
            runtime,
            client,
            session,
            address,
            _driver: driver,
            _profile: profile,
        };
        browser.size(1280, 900);
        browser
    }

    pub(crate) fn visit(&self, address: SocketAddr) {
        self.runtime
            .block_on(self.client.goto(&format!("http://{address}/")))
            .expect("the page loads");
    }

    pub(crate) fn size(&self, width: u32, height: u32) {
        self.chromium(
            "Emulation.setDeviceMetricsOverride",
            &json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false }),
        );
    }

    pub(crate) fn colours(&self, scheme: Scheme) {
        let word = match scheme {
            Scheme::Light => "light",
            Scheme::Dark => "dark",
        };
        let features = json!([{ "name": "prefers-color-scheme", "value": word }]);
        self.chromium(
            "Emulation.setEmulatedMedia",
            &json!({ "features": features }),
        );
    }

    /// What a script returns.
    pub(crate) fn run(&self, script: &str) -> Value {
        self.runtime
            .block_on(self.client.execute(script, Vec::new()))
            .unwrap_or_else(|why| panic!("{script}: {why}"))
    }

    /// The text that a reader sees in the first such element; empty where there is none.
    pub(crate) fn text(&self, css: &str) -> String {
        let found = self.run(&format!(
            "return document.querySelector({css:?})?.innerText ?? ''"
        ));
        found.as_str().expect("a text").to_owned()
    }

    /// The texts of all of them.
    pub(crate) fn texts(&self, css: &str) -> Vec<String> {
        let found = self.run(&format!(
            "return [...document.querySelectorAll({css:?})].map((one) => one.innerText)"
        ));
        let texts = found.as_array().expect("a list").iter();
        texts
            .map(|text| text.as_str().expect("a text").to_owned())
            .collect()
    }

    /// The text once it has this part; what stands there instead is what a reader of a failure wants to know.
    pub(crate) fn await_text(&self, css: &str, part: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let text = self.text(css);
            if text.contains(part) {
                return text;
            }
            assert!(
                Instant::now() < deadline,
                "{css} does not say {part:?} but {text:?}; complaints: {:?}",
                self.complaints()
            );
            pause();
        }
    }

    /// Presses what is found, as soon as it can be pressed.
    pub(crate) fn press(&self, css: &str) {
        eventually(&format!("{css} can be pressed"), || {
            let element = self.find(css)?;
            self.runtime.block_on(element.click()).ok()
        });
    }

    pub(crate) fn type_into(&self, css: &str, text: &str) {
        let element = eventually(css, || self.find(css));
        self.runtime
            .block_on(element.send_keys(text))
            .expect("it takes text");
    }

    fn find(&self, css: &str) -> Option<Element> {
        self.runtime
            .block_on(self.client.find(Locator::Css(css)))
            .ok()
    }

    /// The whole page as a picture, below `target/screenshots`.
    pub(crate) fn keep_picture(&self, name: &str, width: u32) {
        self.size(width, 900);
        let height = self.run("return document.documentElement.scrollHeight");
        let height = height.as_u64().expect("a height").min(12_000);
        self.size(width, u32::try_from(height).expect("a few thousand"));
        let picture = self
            .runtime
            .block_on(self.client.screenshot())
            .expect("a picture");
        let folder = pictures();
        std::fs::create_dir_all(&folder).expect("target/");
        std::fs::write(folder.join(format!("{name}.png")), picture).expect("written");
        self.size(width, 900);
    }

    /// How far the page is wider than the screen.
    pub(crate) fn too_wide_by(&self) -> i64 {
        self.run("return document.documentElement.scrollWidth - innerWidth")
            .as_i64()
            .expect("pixels")
    }

    /// Errors that the browser noted since the last call: of scripts, of the policy, of what could not be loaded.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let notes = self.driver("se/log", &json!({ "type": "browser" }));
        let notes = notes.as_array().expect("a list").iter();
        notes
            .filter(|note| note["level"] == "SEVERE")
            .map(|note| note["message"].as_str().unwrap_or_default().to_owned())
            .collect()
    }

    fn chromium(&self, command: &str, parameters: &Value) {
        self.driver(
            "goog/cdp/execute",
            &json!({ "cmd": command, "params": parameters }),
        );
    }

    // What the driver offers beside the standard.
    fn driver(&self, command: &str, body: &Value) -> Value {
        let path = format!("/session/{}/{command}", self.session);
        let answer = post(self.address, &path, &body.to_string());
        assert_eq!(answer.status, 200, "{command}: {}", answer.text());
        answer.json()["value"].clone()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let client = self.client.clone();
        let closed = self
            .runtime
            .block_on(async { tokio::time::timeout(FAREWELL, client.close()).await });
        if !std::thread::panicking() {
            closed.expect("in time").expect("chromium ends");
        }
    }
}

fn capabilities(profile: &Path) -> Map<String, Value> {
    // In a container there is neither a sandbox for root nor much shared memory.
    let arguments = [
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        &format!("--user-data-dir={}", profile.display()),
    ];
    let wanted = json!({
        "goog:chromeOptions": { "args": arguments },
        "goog:loggingPrefs": { "browser": "ALL" },
        "timeouts": { "script": PATIENCE.as_millis() as u64, "pageLoad": PATIENCE.as_millis() as u64 },
    });
    match wanted {
        Value::Object(map) => map,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            Map::new()
        }
    }
}

fn pictures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/screenshots")
}
