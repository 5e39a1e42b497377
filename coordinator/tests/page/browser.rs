//! A headless Chromium, driven by the DevTools protocol over a pair of pipes.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// A browser that ends with the test.
pub(crate) struct Browser {
    process: Child,
    commands: File,
    answers: Receiver<Value>,
    next: u64,
    _folder: tempfile::TempDir,
}

/// A page in it.
pub(crate) struct Page {
    browser: Browser,
    session: String,
}

impl Browser {
    /// Starts Chromium; `None` if there is none.
    pub(crate) fn start() -> Option<Self> {
        let known = Command::new("chromium").arg("--version").output();
        if !known.is_ok_and(|output| output.status.success()) {
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let [commands, answers] = ["commands", "answers"].map(|name| folder.path().join(name));
        let made = Command::new("mkfifo").args([&commands, &answers]).status();
        assert!(made.unwrap().success());
        // Descriptors 3 and 4 are where Chromium reads commands and writes answers.
        let process = Command::new("sh")
            .args(["-c", START])
            .args([&commands, &answers, &folder.path().join("profile")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let commands = File::options().write(true).open(commands).unwrap();
        let answers = BufReader::new(File::open(answers).unwrap());
        let (say, heard) = mpsc::channel();
        thread::spawn(move || {
            for message in answers.split(0).map_while(Result::ok) {
                let message = serde_json::from_slice(&message).unwrap();
                if say.send(message).is_err() {
                    return;
                }
            }
        });
        Some(Self {
            process,
            commands,
            answers: heard,
            next: 0,
            _folder: folder,
        })
    }

    /// Opens a page.
    pub(crate) fn open(mut self, url: &str) -> Page {
        let target = self.ask("Target.createTarget", &json!({ "url": url }), None);
        let target = json!({ "targetId": target["targetId"], "flatten": true });
        let attached = self.ask("Target.attachToTarget", &target, None);
        let session = attached["sessionId"].as_str().unwrap().to_owned();
        Page {
            browser: self,
            session,
        }
    }

    /// Gives a command and waits for its result.
    fn ask(&mut self, method: &str, params: &Value, session: Option<&str>) -> Value {
        self.next += 1;
        let mut command = json!({ "id": self.next, "method": method, "params": params });
        if let Some(session) = session {
            command["sessionId"] = session.into();
        }
        let mut bytes = serde_json::to_vec(&command).unwrap();
        bytes.push(0);
        self.commands.write_all(&bytes).unwrap();
        loop {
            let answer = self.answers.recv_timeout(TOO_LONG).expect("an answer");
            if answer["id"] == self.next {
                assert!(answer["error"].is_null(), "{method}: {}", answer["error"]);
                return answer["result"].clone();
            }
        }
    }
}

impl Page {
    /// The page's text as soon as it contains `expected`.
    pub(crate) fn text_with(&mut self, expected: &str) -> String {
        let evaluate = json!({
            "expression": "document.body ? document.body.innerText : ''", "returnByValue": true,
        });
        let session = self.session.clone();
        let started = Instant::now();
        loop {
            let found = self
                .browser
                .ask("Runtime.evaluate", &evaluate, Some(&session));
            let text = found["result"]["value"].as_str().unwrap_or_default();
            if text.contains(expected) {
                return text.to_owned();
            }
            assert!(started.elapsed() < TOO_LONG, "{expected}: not in\n{text}");
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

const START: &str = "exec chromium --headless --no-sandbox --disable-gpu --no-first-run \
                     --user-data-dir=\"$2\" --remote-debugging-pipe about:blank 3<\"$0\" 4>\"$1\"";
const TOO_LONG: Duration = Duration::from_secs(120);
