//! A folder with a good configuration and a good plan, to be spoiled one line at a time.

use std::net::TcpListener;

/// The secret of every key in the plan.
pub(crate) const SECRET: &str = "c2VjcmV0IG9mIHRoZSB0ZXN0cyAgICAgICAgICAgISE=";

const CONFIG: &str = "[node]\ndata = \"data\"\nlisten = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n\n[plan]\nfile = \"plan.toml\"\n";

const PLAN: &str = r#"[[accounts]]
name = "a"
[[environments]]
name = "a/e"
[[hubs]]
name = "a/e/default"
partitions = 2
segment_bytes = "2MiB"
[[channels]]
name = "a/e/readings"
[[channels]]
name = "a/e/orders"
[[endpoints]]
name = "a/e/pump"
[[endpoints.keys]]
id = 1
name = "ingress"
direction = "ingress"
secret = "SECRET"
[[endpoints.grants]]
channel = "readings"
allow = "send"
[[endpoints]]
name = "a/e/office"
[[endpoints.keys]]
id = 1
name = "egress"
direction = "egress"
secret = "SECRET"
[[endpoints.grants]]
channel = "readings"
allow = "receive"
"#;

/// The folder; gone when dropped.
pub(crate) struct Folder(tempfile::TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        let folder = Self(tempfile::tempdir().expect("a temporary folder can be made"));
        folder.write("forebay.toml", CONFIG);
        folder.write("plan.toml", &PLAN.replace("SECRET", SECRET));
        folder
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.0
            .path()
            .join(name)
            .to_str()
            .expect("temporary folders have plain names")
            .to_owned()
    }

    pub(crate) fn config(&self) -> String {
        self.path("forebay.toml")
    }

    pub(crate) fn plan(&self) -> String {
        self.path("plan.toml")
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.0.path().join(name), text).expect("the folder is writable");
    }

    /// Replace `from` by `to` in one of the files.
    pub(crate) fn spoil(&self, name: &str, from: &str, to: &str) {
        let text = std::fs::read_to_string(self.0.path().join(name)).expect("the file was written");
        assert!(text.contains(from), "{name} has `{from}`");
        self.write(name, &text.replacen(from, to, 1));
    }
}

/// An address where nobody listens.
pub(crate) fn closed_port() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    listener.local_addr().expect("it is bound").to_string()
}
