"""A node in a memory cgroup with a share of a processor, for scripts/overload and scripts/fairness: what it is given, and what it took."""
import json
import os
import pathlib
import subprocess
import threading
import time

import measure

MEMORY, CPU = pathlib.Path("/sys/fs/cgroup/memory"), pathlib.Path("/sys/fs/cgroup/cpu")
UNIFIED = pathlib.Path("/sys/fs/cgroup")
PERIOD_US = 10_000
BINARIES = pathlib.Path(os.environ.get("FOREBAY_BINARIES", measure.RELEASE))


class Cage:
    """A cgroup of its own, of either version; `None` for a limit leaves it out. Where none can be made, `why` says so."""

    def __init__(self, name, memory_bytes=None, cpu_share=None):
        self.folders, self.why, self.memory_bytes = [], None, memory_bytes
        try:
            if (UNIFIED / "cgroup.controllers").exists():
                self._make(UNIFIED / name, {"memory.max": memory_bytes, "memory.swap.max": memory_bytes and 0,
                                            "cpu.max": cpu_share and f"{int(cpu_share * PERIOD_US)} {PERIOD_US}"})
            else:
                self._make(MEMORY / name, {"memory.limit_in_bytes": memory_bytes})
                self._make(CPU / name, {"cpu.cfs_period_us": cpu_share and PERIOD_US,
                                        "cpu.cfs_quota_us": cpu_share and int(cpu_share * PERIOD_US),
                                        # Its share is its own, whoever else is at work on this machine.
                                        "cpu.shares": cpu_share and 262_144})
        except OSError as error:
            self.why = f"no cgroup can be made: {error}"

    def _make(self, folder, settings):
        folder.mkdir(exist_ok=True)
        self.folders.append(folder)
        for file, value in settings.items():
            if value is not None:
                (folder / file).write_text(str(value))

    def enter(self):
        """Called in the child, before it becomes the node."""
        # A cgroup takes no process of real-time priority, which the generator may have.
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        for folder in self.folders:
            (folder / "cgroup.procs").write_text(str(os.getpid()))

    def memory_max_bytes(self):
        """The most that was charged, page cache included."""
        for folder in self.folders:
            for file in ("memory.max_usage_in_bytes", "memory.peak"):
                if (folder / file).exists():
                    return int((folder / file).read_text())
        return 0

    def killed(self):
        """Processes killed for want of memory."""
        for folder in self.folders:
            for file in ("memory.oom_control", "memory.events"):
                if (folder / file).exists():
                    words = (folder / file).read_text().split()
                    return int(words[words.index("oom_kill") + 1]) if "oom_kill" in words else 0
        return 0

    def remove(self):
        for folder in self.folders:
            folder.rmdir()


class Node(measure.Server):
    """A node in a cage, with the settings and the plan that the caller wrote into `folder`; its memory is looked at all the time."""

    def __init__(self, folder, cage, binaries=BINARIES):
        self.kind, self.folder, self.binaries, self.cage = "forebay", folder, binaries, cage
        self.plan, self.data = folder / "plan.toml", folder / "data"
        self.log = open(folder / "log", "w+")
        self.process = subprocess.Popen([str(binaries / "forebay"), "run", "--config", str(folder / "forebay.toml")],
                                        stdout=self.log, stderr=subprocess.STDOUT, preexec_fn=cage.enter)
        self.pid = self.process.pid
        self.address = self._wait(r"listening on ([0-9.]+:\d+)")
        self.anonymous_max_bytes, self._over = 0, threading.Event()
        self._watch = threading.Thread(target=self._look, daemon=True)
        self._watch.start()

    def anonymous_bytes(self):
        """Memory that is the process's own: files that it has mapped are the page cache's."""
        status = pathlib.Path(f"/proc/{self.pid}/status").read_text()
        return sum(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith(("RssAnon", "RssShmem")))

    def _look(self):
        while not self._over.wait(0.02):
            try:
                self.anonymous_max_bytes = max(self.anonymous_max_bytes, self.anonymous_bytes())
            except OSError:
                return

    def run_load(self, seconds, *options, warm_up=1.0):
        """The generator's report; a run that is void or faulty has one as well."""
        command = [str(self.binaries / "forebay"), "load", "--plan", str(self.plan), "--addr", self.address,
                   "--duration", f"{int((seconds + warm_up) * 1000)}ms", "--warm-up", f"{int(warm_up * 1000)}ms",
                   "--server-pid", str(self.pid), "--lateness", "1000000", "--json", *options]
        done = subprocess.run(command, capture_output=True, text=True)
        if not done.stdout:
            raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr[-2000:]}")
        return json.loads(done.stdout)

    def stop(self, remove=True):
        self._over.set()
        self._watch.join()
        super().stop(remove)


def settle(seconds=1.0):
    """Between two runs: sessions linger, syncs end."""
    time.sleep(seconds)
