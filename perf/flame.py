"""Flame graphs and shares per stage from `perf record`, inlined functions told apart by the binary's line tables."""
import collections
import html
import re
import subprocess

STAGES = {"assemble": "accept", "parse": "parse", "verify": "verify", "handshake": "verify", "route": "route",
          "append": "append", "commit": "commit", "fanout": "fanout", "queue": "fanout", "deliver": "deliver",
          "consume": "deliver", "turn": "other", "peers": "other", "session": "other", "welcome": "other",
          "io": "other", "timers": "other", "connection": "other", "limits": "other", "log": "other"}
FRAME = re.compile(r"^\s+([0-9a-f]+) (.*) \((.*)\)$")


class Sample:
    """One stack: its thread's name and its frames from the outermost in, each a (function, file) pair."""

    def __init__(self, thread, frames):
        self.thread, self.frames = thread, frames

    def stage(self):
        """The stage, by the innermost file of the shard; what is outside of turns by who works there."""
        if self.thread.startswith("flush") or self.thread == "sync":
            return "sync threads"
        for _, file in reversed(self.frames):
            if found := re.search(r"shard/src/(\w+)", file):
                return STAGES.get(found[1], "other")
        names = " ".join(name for name, _ in self.frames)
        for word, stage in (("ring::", "ring"), ("io_uring_enter", "ring"), ("partition::", "prepare"), ("glommio", "executor"),
                            ("tokio", "tokio"), ("node::", "node")):
            if word in names:
                return stage
        return "elsewhere"


def read(data, binary, maps):
    """The samples of a `perf record` file. `maps` is the process's memory map while it ran."""
    base = next(int(line.split("-")[0], 16) for line in maps.splitlines() if line.endswith(binary))
    script = subprocess.run(["perf", "script", "-i", data, "--no-inline", "-F", "comm,ip,sym,dso"],
                            capture_output=True, text=True, check=True).stdout
    stacks, thread, frames = [], None, []
    for line in script.splitlines() + [""]:
        if not line.strip():
            if thread is not None:
                stacks.append((thread, frames))
            thread, frames = None, []
        elif found := FRAME.match(line):
            frames.append((int(found[1], 16), found[2], found[3]))
        else:
            thread = line.strip()
    # A caller's address is the one behind its call.
    own = {ip - base - (place > 0) for _, frames in stacks for place, (ip, _, dso) in enumerate(frames) if dso == binary}
    lines = resolve(binary, sorted(own))
    return [Sample(thread, list(reversed([name for place, frame in enumerate(frames)
                                          for name in named(place, frame, base, binary, lines)])))
            for thread, frames in stacks]


def named(place, frame, base, binary, lines):
    ip, symbol, dso = frame
    if dso != binary:
        return [(symbol + ("_[k]" if "kernel" in dso else ""), dso)]
    return lines.get(ip - base - (place > 0)) or [(symbol, dso)]


def resolve(binary, addresses):
    """For each address its functions, innermost first, inlined ones included."""
    text = "\n".join(f"{address:x}" for address in addresses)
    out = subprocess.run(["addr2line", "-a", "-f", "-i", "-C", "-e", binary], input=text, capture_output=True, text=True,
                         check=True).stdout.splitlines()
    lines, at = {}, 0
    while at < len(out):
        address, at = int(out[at], 16), at + 1
        found = lines.setdefault(address, [])
        while at < len(out) and not out[at].startswith("0x"):
            found.append((re.sub(r"::h[0-9a-f]{16}$", "", out[at]), out[at + 1]))
            at += 2
    return {address: found for address, found in lines.items() if found[0][0] != "??"}


def shares(samples):
    """Share of all samples by stage."""
    counts = collections.Counter(sample.stage() for sample in samples)
    return {stage: count / max(len(samples), 1) for stage, count in counts.most_common()}


def svg(samples, title, width=1400, least=0.001):
    """A flame graph: width is the share of samples, callers below."""
    tree = {}
    for sample in samples:
        level = tree
        for name in [sample.thread, *(name for name, _ in sample.frames)]:
            node = level.setdefault(name, [0, {}])
            node[0] += 1
            level = node[1]
    boxes, total = [], max(len(samples), 1)

    def lay(level, left, depth):
        for name, (count, below) in sorted(level.items()):
            share = count / total
            if share >= least:
                boxes.append((left, depth, share, name))
                lay(below, left, depth + 1)
            left += share

    lay(tree, 0.0, 0)
    height = 30 + 16 * (1 + max((box[1] for box in boxes), default=0))
    out = [f"<svg xmlns='http://www.w3.org/2000/svg' width='{width}' height='{height}' font-family='monospace' font-size='10'>",
           f"<rect width='{width}' height='{height}' fill='white'/><text x='6' y='14'>{html.escape(title)}</text>"]
    for left, depth, share, name in boxes:
        x, y, wide = left * width, height - 18 - 16 * depth, share * width
        colour = "#e0a458" if name.endswith("_[k]") else f"hsl({sum(map(ord, name)) % 60 + 170},45%,65%)"
        label = html.escape(name[: int(wide / 6.2)]) if wide > 30 else ""
        out.append(f"<g><title>{html.escape(name)} {share:.1%}</title><rect x='{x:.1f}' y='{y}' width='{wide:.1f}' "
                   f"height='15' fill='{colour}' stroke='white' stroke-width='.5'/><text x='{x + 2:.1f}' y='{y + 11}'>{label}</text></g>")
    return "\n".join([*out, "</svg>", ""])
