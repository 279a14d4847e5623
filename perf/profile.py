"""Where a message's processor time goes: a flame graph and a table per stage. `scripts/profile` builds and calls this."""
import pathlib
import signal
import subprocess
import sys
import time

sys.dont_write_bytecode = True
import flame  # noqa: E402
import measure  # noqa: E402

HERTZ = 1999


def profile(kind, scenario, binaries, folder):
    """Run a scenario under `perf record`; print the table, write the flame graph and return its path."""
    server = measure.Server(kind, folder / kind, scenario, binaries)
    data = folder / f"{kind}-{scenario.name}.data"
    try:
        ticks = time_stamps_per_ns()
        recorder = subprocess.Popen(["perf", "record", "-q", "-e", "cpu-clock", "-F", str(HERTZ), "--call-graph", "fp", "-p",
                                     str(server.pid), "-o", str(data)], stderr=subprocess.DEVNULL)
        time.sleep(0.5)  # until it has attached; what comes before the load is idle
        before, kernel = server.metrics(), server.kernel()
        report = server.load(scenario, 4.0, 0.5)
        after, grown = server.metrics(), server.kernel()["cpu_ns"] - kernel["cpu_ns"]
        recorder.send_signal(signal.SIGINT)
        recorder.wait()
    finally:
        server.stop()
    samples = flame.read(str(data))
    print(f"{kind}, {scenario.about}: {grown / report['acked']:,.0f} ns of processor time per message, "
          f"{report['acked']:,} messages, {len(samples):,} samples")
    cycles = {name.split('"')[1]: (after[name] - before.get(name, 0)) / report["acked"]
              for name in after if name.startswith("forebay_stage_cycles_total")}
    print(table(flame.shares(samples), cycles, grown / report["acked"], ticks))
    path = folder / f"{kind}-{scenario.name}.svg"
    path.write_text(flame.svg(samples, f"{kind}, {scenario.about}"))
    data.unlink()
    return path


def table(shares, cycles, whole_ns, ticks):
    """Per stage: nanoseconds by samples, cycles and nanoseconds by the counter, and by how much the two disagree."""
    out = ["| stage | samples | ns by samples | cycles counted | ns counted | counted / samples |", "|---|--:|--:|--:|--:|--:|"]
    for stage in sorted(set(shares) | set(cycles), key=lambda stage: -shares.get(stage, 0)):
        share, counted = shares.get(stage, 0), cycles.get(stage)
        ns = share * whole_ns
        more = "| | | |" if counted is None else (f"| {counted:,.0f} | {counted / ticks:,.1f} "
                                                  f"| {counted / ticks / ns:.2f} |" if ns else f"| {counted:,.0f} | {counted / ticks:,.1f} | |")
        out.append(f"| {stage} | {share:.1%} | {ns:,.1f} {more}")
    return "\n".join(out)


def time_stamps_per_ns():
    """Ticks of the time stamp counter in a nanosecond: what the kernel says of the processor's nominal frequency."""
    for line in open("/proc/cpuinfo"):
        if line.startswith("cpu MHz"):
            return float(line.split(":")[1]) / 1000
    return 1.0


def main():
    kind, binaries, folder, *names = sys.argv[1:]
    known = {scenario.name: scenario for scenario in measure.SCENARIOS}
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        if name not in known:
            sys.exit(f"profile: no scenario {name}; there are {', '.join(known)}")
        print(f"flame graph: {profile(kind, known[name], pathlib.Path(binaries), folder)}\n", flush=True)


if __name__ == "__main__":
    main()
