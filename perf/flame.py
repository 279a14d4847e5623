"""Flame graphs and shares per stage from `perf record`: every stage is a function of its own module, so names tell."""
import collections
import html
import re
import subprocess

STAGES = {"assemble": "accept", "parse": "parse", "verify": "verify", "handshake": "verify", "route": "route",
          "append": "append", "commit": "commit", "fanout": "fanout", "queue": "fanout", "deliver": "deliver",
          "consume": "deliver", "turn": "other", "peers": "other", "session": "other", "welcome": "other",
          "io": "other", "timers": "other", "connection": "other", "limits": "other", "log": "other"}
WORKERS = [("fdatasync", "sync threads"), ("node::flush", "sync threads"), ("pwrite", "prepare"), ("node::prepare", "prepare"),
           ("io_recv", "receive"), ("io_send", "send"), ("ring::", "ring"), ("io_uring_enter", "ring"), ("partition::", "prepare"),
           ("baseline::session", "session"), ("baseline::server::Server::acknowledge", "acknowledge"),
           ("tcp_recvmsg", "receive"), ("tcp_sendmsg", "acknowledge"), ("epoll", "epoll"), ("tokio", "tokio"),
           ("glommio", "executor"), ("node::", "node")]
FRAME = re.compile(r"^\s+[0-9a-f]+ (.*) \((.*)\)$")


class Sample:
    """One stack: its thread's name and its functions from the outermost in."""

    def __init__(self, thread, functions):
        self.thread, self.functions = thread, functions

    def stage(self):
        """The stage, by the innermost module of the shard; what is outside of turns by who works there."""
        if self.thread.startswith("flush") or self.thread == "sync":
            return "sync threads"
        for name in reversed(self.functions):
            if found := re.search(r"\bshard::(\w+)::", name):
                return STAGES.get(found[1], "other")
        names = " ".join(self.functions)
        for word, stage in WORKERS:
            if word in names:
                return stage
        return "elsewhere"


def read(data):
    """The samples of a `perf record` file."""
    script = subprocess.run(["perf", "script", "-i", data, "--no-inline", "-F", "comm,ip,sym,dso"],
                            capture_output=True, text=True, check=True).stdout
    samples, thread, functions = [], None, []
    for line in script.splitlines() + [""]:
        if not line.strip():
            if thread is not None:
                samples.append(Sample(thread, functions[::-1]))
            thread, functions = None, []
        elif found := FRAME.match(line):
            functions.append(found[1] + ("_[k]" if "kernel" in found[2] else ""))
        else:
            thread = line.strip()
    return samples


def shares(samples):
    """Share of all samples by stage."""
    counts = collections.Counter(sample.stage() for sample in samples)
    return {stage: count / max(len(samples), 1) for stage, count in counts.most_common()}


def svg(samples, title, width=1400, least=0.001):
    """A flame graph: width is the share of samples, callers below."""
    tree = {}
    for sample in samples:
        level = tree
        for name in [sample.thread, *sample.functions]:
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
