"""Plots as SVG text, without any library: bars of nanoseconds on a logarithmic scale, with quartiles."""
import html
import math

COLOURS = {"forebay": "#1f6f8b", "baseline": "#c97b3a"}
FONT = "font-family='sans-serif' font-size='11'"


def text(x, y, words, anchor="start", more=""):
    return f"<text x='{x:.1f}' y='{y:.1f}' text-anchor='{anchor}' {FONT} {more}>{html.escape(str(words))}</text>"


def pairs(record):
    """Server CPU per message of both servers for each scenario of a record."""
    scenarios = record["scenarios"]
    label, width, row, top = 230, 900, 46, 64
    values = [value for each in scenarios for quartiles in each["quartiles"].values() for value in quartiles]
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    scale = (width - label - 90) / max(high - low, 1)

    def at(value):
        return label + (math.log10(value) - low) * scale

    height = top + row * len(scenarios) + 30
    out = [f"<svg xmlns='http://www.w3.org/2000/svg' width='{width}' height='{height}' viewBox='0 0 {width} {height}'>",
           f"<rect width='{width}' height='{height}' fill='white'/>",
           text(10, 20, f"Server CPU per message, {record['name']}, {record['date'][:10]}, commit {record['commit']}",
                more="font-weight='bold'"),
           text(10, 38, f"nanoseconds, logarithmic; median of {record['pairs']} interleaved pairs, whiskers are quartiles; "
                        f"{record['host']['cpu']}, Linux {record['host']['kernel']}")]
    for power in range(low, high + 1):
        x = at(10 ** power)
        out.append(f"<line x1='{x:.1f}' y1='{top - 6}' x2='{x:.1f}' y2='{height - 22}' stroke='#ddd'/>")
        out.append(text(x, height - 8, f"{10 ** power:,} ns", "middle"))
    for index, each in enumerate(scenarios):
        y = top + index * row
        name = f"{each['connections']} conn. x {each['batch']} a frame, {each['window']} open"
        out.append(text(10, y + 18, name))
        out.append(text(width - 80, y + 18, f"{each['ratio'][1]:.2f} times", more="font-weight='bold'"))
        for place, kind in enumerate(COLOURS):
            out += bar(each["quartiles"][kind], at, label, y + place * 17, COLOURS[kind], kind)
    return "\n".join([*out, "</svg>", ""])


def bar(quartiles, at, left, y, colour, name):
    lower, median, upper = quartiles
    return [f"<rect x='{left}' y='{y:.1f}' width='{at(median) - left:.1f}' height='14' fill='{colour}'/>",
            f"<line x1='{at(lower):.1f}' y1='{y + 7:.1f}' x2='{at(upper):.1f}' y2='{y + 7:.1f}' stroke='black'/>",
            text(left + 4, y + 11, f"{name} {median:,.0f}", more="fill='white'")]
