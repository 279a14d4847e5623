"""System calls per message of both servers, counted by strace in runs of their own, since tracing slows them down."""
import datetime
import json
import re
import signal
import subprocess
import time

import measure


def compare(scenarios, folder, records, binaries):
    """One traced run of each server and scenario; writes a record and prints its table."""
    record = {"kind": "syscalls", "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
              "host": measure.host(), "scenarios": []}
    for scenario in scenarios:
        rows = {kind: traced(kind, scenario, folder / kind, binaries) for kind in measure.KINDS}
        record["scenarios"].append({"name": scenario.name, "about": scenario.about, "rows": rows})
    records.mkdir(exist_ok=True)
    path = records / f"{record['date'][:10]}-syscalls.json"
    path.write_text(json.dumps(record, indent=1) + "\n")
    print(table(record))


def traced(kind, scenario, folder, binaries, seconds=2.0):
    server = measure.Server(kind, folder, scenario, binaries)
    try:
        counts = folder / "strace"
        tracer = subprocess.Popen(["strace", "-c", "-f", "-q", "-p", str(server.pid), "-o", str(counts)],
                                  stderr=subprocess.DEVNULL)
        wait_for_tracer(server.pid, tracer)
        report = server.load(scenario, seconds, 0.2)
        tracer.send_signal(signal.SIGINT)
        tracer.wait(30)
        calls = {name: int(count) for count, name in
                 re.findall(r"^\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?(\w+)$", counts.read_text(), re.M)}
    finally:
        server.stop()
    calls.pop("total", None)
    acked = report["acked"]
    return {"acked": acked, "per_message": round(sum(calls.values()) / acked, 5),
            "calls": dict(sorted(calls.items(), key=lambda item: -item[1])[:8])}


def wait_for_tracer(pid, tracer):
    for _ in range(200):
        status = open(f"/proc/{pid}/status").read()
        if not re.search(r"^TracerPid:\s+0$", status, re.M):
            return
        if tracer.poll() is not None:
            raise RuntimeError("strace cannot attach; it needs ptrace of other processes")
        time.sleep(0.02)
    raise RuntimeError("strace does not attach")


def table(record):
    """The record as Markdown."""
    out = ["| scenario | forebay calls/message | baseline calls/message | most of forebay's | most of the baseline's |",
           "|---|--:|--:|---|---|"]
    for each in record["scenarios"]:
        ours, theirs = (each["rows"][kind] for kind in measure.KINDS)
        most = [", ".join(f"{name} {count / row['acked']:.4f}" for name, count in list(row["calls"].items())[:3])
                for row in (ours, theirs)]
        out.append(f"| {each['about']} | {ours['per_message']:.4f} | {theirs['per_message']:.4f} | {most[0]} | {most[1]} |")
    return "\n".join(out)
