"""Start a server on one core, load it from another, read its books back: one run of one scenario is one row."""
import dataclasses
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
RELEASE = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release"
SERVER_CORE, LOAD_CORE = 0, 1
KINDS = ("forebay", "baseline")
ENVIRONMENT = "acme/prod"
# Both servers write over their oldest file before the warm-up of a fast run ends: the state of one that has run for a while.
SIZES = 'segment_bytes = "16MiB"\nretention_bytes = "64MiB"\n'


# What both servers say when they listen.
ADDRESS = {"tcp": r"listening on ([0-9.]+:\d+)", "quic": r"listening with QUIC on ([0-9.]+:\d+)"}


@dataclasses.dataclass(frozen=True)
class Scenario:
    """`window` is frames unanswered per connection, `batch` messages per frame; the load is closed: no latency is claimed."""
    name: str
    connections: int
    batch: int
    window: int
    quick: bool = False
    ack: str = "durable"
    transport: str = "tcp"
    # Shards of the node, threads of the baseline.
    shards: int = 1
    # A processor each for server and generator; else both have all of them, as they have with several shards.
    pinned: bool = True

    @property
    def about(self):
        return f"{self.connections} connections, {self.batch} messages a frame, {self.window} frames unanswered on each"


SCENARIOS = [
    Scenario("1x1", 1, 1, 1024),
    Scenario("64x1", 64, 1, 64, quick=True),
    Scenario("1000x1", 1000, 1, 64, quick=True),
    Scenario("1x16", 1, 16, 256),
    Scenario("64x16", 64, 16, 16, quick=True),
    Scenario("1000x16", 1000, 16, 16),
    Scenario("1x256", 1, 256, 64),
    Scenario("64x256", 64, 256, 4, quick=True),
    Scenario("1000x256", 1000, 256, 4),
    Scenario("lockstep-16", 16, 1, 1, quick=True),
    Scenario("ready-64", 64, 1, 1),
    Scenario("pipelined-16x1", 16, 1, 1024, quick=True),
    Scenario("pipelined-16x1000", 16, 1000, 4, quick=True),
]


def cores(scenario):
    """Cores of server and generator, as `taskset` takes them; the same one on a machine that has only one."""
    allowed = sorted(os.sched_getaffinity(0))
    if scenario.shards > 1 or not scenario.pinned:
        every = ",".join(map(str, allowed))
        return every, every
    return (SERVER_CORE, LOAD_CORE) if {SERVER_CORE, LOAD_CORE} <= set(allowed) else (allowed[0], allowed[-1])


def write_plan(path, senders, ack, partitions=1):
    """A plan of that many senders and nobody who listens."""
    import base64
    import secrets
    out = [f'[[accounts]]\nname = "acme"\n[[environments]]\nname = "{ENVIRONMENT}"\n'
           f'[[hubs]]\nname = "{ENVIRONMENT}/default"\npartitions = {partitions}\nack = "{ack}"\n{SIZES}'
           f'[[channels]]\nname = "{ENVIRONMENT}/readings"\n']
    for number in range(senders):
        key = base64.b64encode(secrets.token_bytes(32)).decode()
        out.append(f'[[endpoints]]\nname = "{ENVIRONMENT}/pump-{number}"\n'
                   f'[[endpoints.keys]]\nid = 1\nname = "primary"\ndirection = "ingress"\nsecret = "{key}"\n'
                   f'[[endpoints.grants]]\nchannel = "readings"\nallow = "send"\n')
    path.write_text("".join(out))
    path.chmod(0o600)


def call(command):
    """What a command prints; when it fails, what it said."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr[-2000:]}{done.stdout[-2000:]}")
    return done.stdout


class Server:
    """A server process on its core; `kind` is forebay or baseline."""

    def __init__(self, kind, folder, scenario, binaries=RELEASE):
        self.kind, self.folder, self.binaries = kind, folder, pathlib.Path(binaries)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self.plan, self.data = folder / "plan.toml", folder / "data"
        self.write_plan(scenario)
        pair = [str(folder / "certificates" / name) for name in ("cert.pem", "key.pem")]
        if scenario.transport == "quic":
            call([str(self.binaries / "forebay"), "cert", "dev", "--out", str(folder / "certificates")])
        command = self._command(scenario, pair)
        command[0] = str(self.binaries / command[0])
        self.log = open(folder / "log", "w+")
        self.process = subprocess.Popen(["taskset", "-c", str(cores(scenario)[0]), *command],
                                        stdout=self.log, stderr=subprocess.STDOUT)
        self.pid = self.process.pid
        self.address = self._wait(ADDRESS[scenario.transport])

    def write_plan(self, scenario):
        """Who may send, and how many partitions there are."""
        write_plan(self.plan, scenario.connections, scenario.ack, scenario.shards)

    def _command(self, scenario, pair):
        quic, shards = scenario.transport == "quic", scenario.shards
        if self.kind == "baseline":
            command = ["forebay-baseline", "serve", "--plan", str(self.plan), "--data", str(self.data)]
            command += ["--threads", str(shards)] if shards > 1 else []
            return command + (["--listen-quic", "127.0.0.1:0", "--certificate", pair[0], "--key", pair[1]] if quic else [])
        more = 'listen_quic = "127.0.0.1:0"\n' if quic else ""
        tls = f'[node.tls]\ncertificate = "{pair[0]}"\nkey = "{pair[1]}"\n' if quic else ""
        text = f'[node]\ndata = "data"\nlisten = "127.0.0.1:0"\nadmin = "127.0.0.1:0"\nshards = {shards}\n{more}{tls}[plan]\nfile = "plan.toml"\n'
        (self.folder / "forebay.toml").write_text(text)
        return ["forebay", "run", "--config", str(self.folder / "forebay.toml")]

    def _wait(self, pattern):
        for _ in range(600):
            if found := re.search(pattern, (self.folder / "log").read_text()):
                return found[1]
            if self.process.poll() is not None:
                break
            time.sleep(0.05)
        raise RuntimeError(f"{self.kind} does not listen: {(self.folder / 'log').read_text()[-2000:]}")

    def kernel(self):
        """What the kernel counts of the process: CPU nanoseconds, minor faults, context switches."""
        fields = pathlib.Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        switches = {"voluntary": 0, "nonvoluntary": 0}
        for task in pathlib.Path(f"/proc/{self.pid}/task").iterdir():
            for kind, count in re.findall(r"^(\w+)_ctxt_switches:\s+(\d+)", (task / "status").read_text(), re.M):
                switches[kind] += int(count)
        return {"cpu_ns": time.clock_gettime_ns((~self.pid << 3) | 2), "minor_faults": int(fields[7]), **switches}

    def metrics(self):
        """The node's metrics, by name and labels; nothing for the baseline."""
        if self.kind != "forebay":
            return {}
        import urllib.request
        admin = self._wait(r"admin on ([0-9.]+:\d+)")
        text = urllib.request.urlopen(f"http://{admin}/metrics", timeout=10).read().decode()
        return {name: float(value) for name, value in re.findall(r"^([^#\s]\S*) (\S+)$", text, re.M)}

    def load(self, scenario, seconds, warm_up):
        """The generator's report."""
        command = ["taskset", "-c", str(cores(scenario)[1]), str(self.binaries / "forebay"), "load",
                   "--plan", str(self.plan), "--addr", self.address, "--no-read-back", "--rate", "0",
                   "--duration", f"{int((seconds + warm_up) * 1000)}ms", "--warm-up", f"{int(warm_up * 1000)}ms",
                   "--batch", str(scenario.batch), "--window", str(scenario.window), "--size", "100",
                   "--server-pid", str(self.pid), "--json", "--transport", scenario.transport]
        if scenario.transport == "quic":
            command += ["--ca", str(self.folder / "certificates" / "ca.pem")]
        return json.loads(call(command))

    def count(self):
        """Messages that its log has taken; every record that it still holds is checked."""
        if self.kind == "baseline":
            command = [str(self.binaries / "forebay-baseline"), "count", "--data", str(self.data)]
            return int(call(command))
        logs = {}
        for command in ("verify", "ls"):
            for line in call([str(self.binaries / "forebay"), "log", command, "--json", str(self.data)]).splitlines():
                logs.setdefault(json.loads(line)["log"], {}).update(json.loads(line))
        for log in logs.values():
            if log["damage"] or log["messages"] != log["next"] - log["first"]:
                raise RuntimeError(f"the log is damaged: {log}")
        return sum(log["next"] for name, log in logs.items() if name.startswith("p-"))

    def stop(self, remove=True):
        """End it, as an operator would."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.log.close()
        if remove:
            shutil.rmtree(self.folder)


def run(kind, scenario, folder, seconds, warm_up, binaries=RELEASE):
    """One row: what a message cost, and proof that none was lost."""
    server = Server(kind, folder, scenario, binaries)
    try:
        before = server.kernel()
        report = server.load(scenario, seconds, warm_up)
        after = server.kernel()
        server.stop(remove=False)
        logged = server.count()
    finally:
        server.stop()
    if report["sent"] != report["acked"] + report["rejected"] or report["acked"] != logged:
        raise RuntimeError(f"{kind}, {scenario.name}: sent {report['sent']}, acked {report['acked']}, rejected "
                           f"{report['rejected']}, in the log {logged}")
    acked = report["acked"]
    grown = {name: after[name] - before[name] for name in after}
    return {
        "server_ns": round(report["steady_server_ns_per_message"], 1),
        "whole_run_ns": round(grown["cpu_ns"] / acked, 1),
        "generator_ns": round(report["generator_ns_per_message"], 1),
        "messages_per_s": round(report["achieved_per_s"]),
        "acked": acked,
        "rejected": report["rejected"],
        "logged": logged,
        "faults_per_message": round(grown["minor_faults"] / acked, 6),
        "switches_per_message": round(grown["voluntary"] / acked, 6),
        "preempted_per_message": round(grown["nonvoluntary"] / acked, 6),
        "load_average": float(pathlib.Path("/proc/loadavg").read_text().split()[0]),
    }


def host():
    """What one must know of the machine to read the figures."""
    cpu = re.search(r"model name\s*:\s*(.+)", pathlib.Path("/proc/cpuinfo").read_text())
    return {"kernel": os.uname().release, "cpu": cpu[1] if cpu else os.uname().machine, "cores": os.cpu_count(),
            "load_average": pathlib.Path("/proc/loadavg").read_text().split()[:3], "clock_probe_ns": clock_probe()}


def clock_probe():
    """Nanoseconds of processor time for SHA-256 of 1 KiB, best of many: it moves with the clock and nothing else."""
    import hashlib
    block, best = bytes(1 << 20), float("inf")
    for _ in range(64):
        began = time.thread_time_ns()
        hashlib.sha256(block).digest()
        best = min(best, time.thread_time_ns() - began)
    return round(best / 1024, 1)
