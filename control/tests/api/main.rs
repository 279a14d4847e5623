//! The API over its socket, as a script would use it.

mod accounts;
mod bodies;
mod doors;
mod life;
mod mistakes;
mod nodes;
mod refused;
mod strangers;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use control::api::{Serving, serve};
use control::model::{Moment, Role, Token};
use control::plan;
use control::seal::MasterKey;
use control::service::{Apply, Caller, Service, Unpublished};
use control::store::Store;
use serde_json::Value;

pub(crate) const PLAN: &str = r#"
[[accounts]]
name = "a"
[[accounts]]
name = "b"
[[environments]]
name = "a/e"
[[environments]]
name = "b/e"
[[channels]]
name = "a/e/readings"
[[channels]]
name = "b/e/readings"
[[endpoints]]
name = "a/e/pump"
[[endpoints.keys]]
id = 1
name = "primary"
direction = "ingress"
secret = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
[[endpoints.grants]]
channel = "readings"
allow = "send"
"#;

/// A served control plane.
pub(crate) struct World {
    pub(crate) service: Arc<Service>,
    pub(crate) now: Arc<AtomicU64>,
    address: SocketAddr,
    serving: Option<Serving>,
    _folder: tempfile::TempDir,
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.end();
        }
    }
}

/// What was answered.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Value,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines();
        let mut fields = lines.filter_map(|line| line.split_once(": "));
        fields
            .find(|(field, _)| field.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    pub(crate) fn code(&self) -> &str {
        self.body["code"].as_str().unwrap_or("none")
    }
}

pub(crate) fn world() -> World {
    let folder = tempfile::tempdir().expect("a folder");
    let master = Arc::new(MasterKey::new(&[7; 32]));
    let store = Store::open(&folder.path().join("store"), master).expect("a store");
    let now = Arc::new(AtomicU64::new(1_000));
    let hand = Arc::clone(&now);
    let clock = Box::new(move || hand.load(Ordering::Relaxed));
    let service = Service::start(store, Box::new(Unpublished), clock).expect("started");
    let model = plan::read(PLAN, "plan").expect("a plan");
    let apply = Apply {
        model,
        prune: false,
        create: false,
    };
    service.apply(&Caller::local(), &apply).expect("applied");
    let service = Arc::new(service);
    let address: SocketAddr = "127.0.0.1:0".parse().expect("an address");
    let serving = serve(address, Arc::clone(&service)).expect("served");
    World {
        service,
        now,
        address: serving.address(),
        serving: Some(serving),
        _folder: folder,
    }
}

impl World {
    /// A token that is good until second 2,000.
    pub(crate) fn token(&self, name: &str, role: Role, account: Option<&str>) -> String {
        let token = Token {
            name: name.to_owned(),
            role,
            account: account.map(str::to_owned),
            hash: String::new(),
            expires: Some(Moment::from_seconds(2_000)),
        };
        let made = self.service.create_token(&Caller::local(), token);
        made.expect("made").0.to_string()
    }

    pub(crate) fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).expect("it listens")
    }

    /// Ask with these headers and this body.
    pub(crate) fn raw(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> Answer {
        let mut stream = self.connect();
        let count = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: here\r\nconnection: close\r\ncontent-length: {count}\r\n{headers}\r\n"
        );
        stream
            .write_all(&[head.as_bytes(), body].concat())
            .expect("sent");
        let mut text = Vec::new();
        stream.read_to_end(&mut text).expect("answered");
        // A backup is no text.
        let text = String::from_utf8_lossy(&text);
        let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());
        Answer {
            status: status.expect("a status"),
            head: head.to_owned(),
            body: serde_json::from_str(body).unwrap_or(Value::Null),
        }
    }

    /// Ask with a token and a JSON body.
    pub(crate) fn ask(&self, token: &str, method: &str, path: &str, body: Value) -> Answer {
        self.ask_with(token, method, path, "", body)
    }

    /// Ask, and be answered with this status.
    pub(crate) fn answered(
        &self,
        token: &str,
        method: &str,
        path: &str,
        body: Value,
        want: u16,
    ) -> Answer {
        let answer = self.ask(token, method, path, body);
        assert_eq!(answer.status, want, "{method} {path}: {}", answer.body);
        answer
    }

    /// Ask with more headers.
    pub(crate) fn ask_with(
        &self,
        token: &str,
        method: &str,
        path: &str,
        more: &str,
        body: Value,
    ) -> Answer {
        let headers =
            format!("authorization: Bearer {token}\r\ncontent-type: application/json\r\n{more}");
        let body = match body {
            Value::Null => Vec::new(),
            body => body.to_string().into_bytes(),
        };
        self.raw(method, path, &headers, &body)
    }
}

/// A path with its parameters filled in.
pub(crate) fn fill(path: &str) -> String {
    path.replace("{account}", "a")
        .replace("{environment}", "e")
        .replace(
            "{name}",
            if path.contains("channels") {
                "readings"
            } else {
                "pump"
            },
        )
        .replace("{key}", "primary")
        .replace("{allow}", "send")
        .replace("{channel}", "readings")
}
