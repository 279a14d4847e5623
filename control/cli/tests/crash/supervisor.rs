//! Starts the real binary, kills it with SIGKILL, starts it again on the same folder and port.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Log lines are shown when `FOREBAY_CRASH_LOG` is set.
fn log() -> Stdio {
    match std::env::var_os("FOREBAY_CRASH_LOG") {
        Some(_) => Stdio::inherit(),
        None => Stdio::null(),
    }
}

/// The process under test.
pub(crate) struct Supervisor {
    config: std::path::PathBuf,
    address: Option<String>,
    child: Option<Child>,
}

impl Supervisor {
    /// Write the configuration into `folder`; nothing runs yet.
    pub(crate) fn new(folder: &Path, plan: &str) -> Self {
        let config = folder.join("forebay.toml");
        std::fs::write(folder.join("plan.toml"), plan).expect("the folder is writable");
        let supervisor = Self {
            config,
            address: None,
            child: None,
        };
        supervisor.configure("127.0.0.1:0");
        supervisor
    }

    fn configure(&self, listen: &str) {
        let folder = self.config.parent().expect("the file is in a folder");
        let text = format!(
            "[node]\ndata = {:?}\nlisten = {listen:?}\nadmin = \"127.0.0.1:0\"\n\n[plan]\nfile = {:?}\n",
            folder.join("data"),
            folder.join("plan.toml"),
        );
        std::fs::write(&self.config, text).expect("the folder is writable");
    }

    /// Start the process and return at once, before it is ready.
    pub(crate) fn spawn(&mut self) {
        let child = Command::new(env!("CARGO_BIN_EXE_forebay"))
            .args(["run", "--config"])
            .arg(&self.config)
            .stdout(Stdio::piped())
            .stderr(log())
            .spawn()
            .expect("the binary was built for this test");
        self.child = Some(child);
    }

    /// Wait until it listens; the port chosen first is kept from then on.
    pub(crate) fn ready(&mut self) -> String {
        let child = self.child.as_mut().expect("it was spawned");
        let out = child.stdout.take().expect("stdout is piped");
        let line = BufReader::new(out)
            .lines()
            .map_while(Result::ok)
            .find(|line| line.contains("listening on "))
            .expect("the node says where it listens before it ends");
        let at = line.find("listening on ").expect("just found") + "listening on ".len();
        let address = line[at..]
            .split_whitespace()
            .next()
            .expect("an address follows")
            .to_owned();
        if self.address.is_none() {
            self.configure(&address);
            self.address = Some(address.clone());
        }
        address
    }

    /// SIGKILL, as the kernel's out-of-memory killer would.
    pub(crate) fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().expect("the child is ours");
        child.wait().expect("the child is ours");
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
