#!/usr/bin/env python3
"""The worked example of scheduler.md: solves example.json by a dynamic program of its own, prints the figures that the
text states, and draws example.svg. Needs nothing but Python; the same input gives the same bytes.

A function of one variable is the list of its corners (x, value), x ascending, straight between them.
"""

import json
from pathlib import Path

HERE = Path(__file__).parent
NEAR = 1e-9


# The dynamic program.


def slopes(corners):
    """The pieces as (slope, length)."""
    pairs = zip(corners, corners[1:])
    return [((b[1] - a[1]) / (b[0] - a[0]), b[0] - a[0]) for a, b in pairs]


def value_at(corners, x):
    for a, b in zip(corners, corners[1:]):
        if a[0] - NEAR <= x <= b[0] + NEAR:
            return a[1] + (b[1] - a[1]) * (x - a[0]) / (b[0] - a[0])
    return None


def slot_cost(problem, t):
    """g_t: what the slot costs for each change x of the SoC."""
    battery = problem["battery"]
    dt = problem["slot_minutes"] / 60
    eta_c, eta_d = battery["charge_efficiency"], battery["discharge_efficiency"]
    net = (problem["load_kw"][t] - problem["pv_kw"][t]) * dt
    low, high = -battery["discharge_kw"] * dt / eta_d, battery["charge_kw"] * dt * eta_c

    def cost(x):
        balance = net + (x / eta_c if x > 0 else x * eta_d)
        grid = problem["buy_price"][t] * max(balance, 0) - problem["sell_price"][t] * max(-balance, 0)
        return grid + battery["wear_cost_per_kwh"] * abs(x)

    # It bends at rest, and where the meter stands still.
    still = -net * eta_c if net < 0 else -net / eta_d
    bends = {low, high} | {x for x in (0.0, still) if low < x < high}
    return [(x, cost(x)) for x in sorted(bends)]


def convolve(f, g):
    """The least f(u) + g(y) over u + y = s, for every s: the pieces of both in the order of their slopes."""
    x, value = f[0][0] + g[0][0], f[0][1] + g[0][1]
    corners = [(x, value)]
    for slope, length in sorted(slopes(f) + slopes(g)):
        x, value = x + length, value + slope * length
        corners.append((x, value))
    return corners


def cut(corners, low, high):
    low, high = max(low, corners[0][0]), min(high, corners[-1][0])
    inner = [corner for corner in corners if low + NEAR < corner[0] < high - NEAR]
    return [(low, value_at(corners, low)), *inner, (high, value_at(corners, high))]


def mirrored(corners):
    return [(-x, value) for x, value in reversed(corners)]


def values(problem):
    """V_t for every t, V_T last."""
    battery = problem["battery"]
    low, high = battery["min_soc_kwh"], battery["max_soc_kwh"]
    ends = (max(low, battery["end_soc_min_kwh"]), high)
    found = [[(soc, -battery["end_value_per_kwh"] * soc) for soc in ends]]
    for t in reversed(range(len(problem["load_kw"]))):
        merged = convolve(mirrored(slot_cost(problem, t)), found[0])
        found.insert(0, cut(merged, low, high))
    return found


def cost_of(problem):
    return value_at(values(problem)[0], problem["battery"]["soc_kwh"])


def soc_path(problem):
    """SoC at the start, and at the end of each slot. A best move ends at a corner of one of the two functions."""
    later = values(problem)[1:]
    path = [problem["battery"]["soc_kwh"]]
    for t, following in enumerate(later):
        move_cost, soc = slot_cost(problem, t), path[-1]

        def total(x):
            return value_at(move_cost, x) + value_at(following, soc + x)

        moves = [x for x, _ in move_cost] + [place - soc for place, _ in following]
        possible = [
            x
            for x in moves
            if value_at(move_cost, x) is not None and value_at(following, soc + x) is not None
        ]
        path.append(soc + min(possible, key=lambda x: (round(total(x), 9), abs(x))))
    return path


def with_load(problem, first, profile_kw):
    changed = dict(problem, load_kw=list(problem["load_kw"]))
    for t, power in enumerate(profile_kw, first):
        changed["load_kw"][t] += power
    return changed


def shadow_price(problem, t):
    """What one more kWh of load costs: here the same for one less, so that there is no choice."""
    small_kw = 1e-3
    energy = small_kw * problem["slot_minutes"] / 60
    more = (cost_of(with_load(problem, t, [small_kw])) - cost_of(problem)) / energy
    less = (cost_of(problem) - cost_of(with_load(problem, t, [-small_kw]))) / energy
    assert abs(more - less) < 1e-6, f"slot {t} has a range of shadow prices"
    return more


# The picture.

STYLE = """
text { font: 12px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; fill: #24292f; }
.title { font-weight: 600; font-size: 13px; }
.small { font-size: 11px; }
.muted { fill: #57606a; }
.card { fill: #ffffff; stroke: #d0d7de; }
.halo { stroke: #ffffff; stroke-width: 4; paint-order: stroke; }
.grid { stroke: #e4e7eb; }
.axis { stroke: #8c959f; }
.line { fill: none; stroke-width: 2.2; stroke-linejoin: round; }
.box { fill: #0969da; fill-opacity: 0.08; }
.blue { stroke: #0969da; } .blue-fill { fill: #0969da; }
.green { stroke: #1a7f37; } .green-fill { fill: #1a7f37; }
.orange { stroke: #b35900; } .orange-fill { fill: #b35900; }
.purple { stroke: #8250df; } .purple-fill { fill: #8250df; }
.red { stroke: #c4222d; } .red-fill { fill: #c4222d; }
.ring { fill: none; stroke-width: 2; }
.faint { fill-opacity: 0.18; }
.cut { fill-opacity: 0.07; stroke-dasharray: 3 3; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; }
  .muted { fill: #9aa4af; }
  .card { fill: #0d1117; stroke: #30363d; }
  .halo { stroke: #0d1117; }
  .grid { stroke: #21262d; }
  .axis { stroke: #6e7681; }
  .box { fill: #58a6ff; fill-opacity: 0.12; }
  .blue { stroke: #58a6ff; } .blue-fill { fill: #58a6ff; }
  .green { stroke: #56d364; } .green-fill { fill: #56d364; }
  .orange { stroke: #f0a04b; } .orange-fill { fill: #f0a04b; }
  .purple { stroke: #bc8cff; } .purple-fill { fill: #bc8cff; }
  .red { stroke: #ff7b72; } .red-fill { fill: #ff7b72; }
}
"""


def number(value):
    """With one decimal at most, and a real minus."""
    text = f"{value:.1f}".rstrip("0").rstrip(".")
    return "0" if text in ("-0", "0") else text.replace("-", "\u2212")


class Panel:
    """A rectangle of the picture with axes. Positions are pixels, places are in the axes' units."""

    def __init__(self, title, left_px, top_px, width_px, height_px, x_range, y_range):
        self.left, self.top, self.width, self.height = left_px, top_px, width_px, height_px
        self.x_range, self.y_range = x_range, y_range
        self.out = []
        self.text(left_px - 44, top_px - 14, title, "title")

    def x(self, place):
        low, high = self.x_range
        return self.left + self.width * (place - low) / (high - low)

    def y(self, value):
        low, high = self.y_range
        return self.top + self.height * (high - value) / (high - low)

    def text(self, x_px, y_px, text, style="", anchor="start"):
        self.out.append(
            f'<text x="{x_px:.1f}" y="{y_px:.1f}" class="{style}" text-anchor="{anchor}">{text}</text>'
        )

    def segment(self, x1, y1, x2, y2, style):
        ends = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
        self.out.append(f'<line {ends} class="{style}"/>')

    def axes(self, x_ticks, x_label, y_ticks=(), x_names=None):
        bottom = self.top + self.height
        for value in y_ticks:
            self.segment(self.left, self.y(value), self.left + self.width, self.y(value), "grid")
            self.text(self.left - 7, self.y(value) + 4, number(value), "small muted", "end")
        self.segment(self.left, bottom, self.left + self.width, bottom, "axis")
        for tick, name in zip(x_ticks, x_names or map(number, x_ticks)):
            self.segment(self.x(tick), bottom, self.x(tick), bottom + 4, "axis")
            self.text(self.x(tick), bottom + 17, name, "small muted", "middle")
        self.text(self.left + self.width, bottom + 32, x_label, "small muted", "end")

    def line(self, corners, style):
        points = " ".join(f"{self.x(x):.1f},{self.y(value):.1f}" for x, value in corners)
        self.out.append(f'<polyline points="{points}" class="{style}"/>')

    def steps(self, series, style):
        corners = []
        for t, value in enumerate(series):
            corners += [(t, value), (t + 1, value)]
        self.line(corners, f"line {style}")

    def bar(self, low, high, y_px, height_px, style):
        place = f'x="{self.x(low):.1f}" y="{y_px:.1f}"'
        size = f'width="{self.x(high) - self.x(low):.1f}" height="{height_px}"'
        self.out.append(f'<rect {place} {size} class="{style}"/>')

    def dot(self, x, value, style, radius=3.2):
        place = f'cx="{self.x(x):.1f}" cy="{self.y(value):.1f}" r="{radius}"'
        self.out.append(f'<circle {place} class="{style}"/>')

    def diamond(self, x, value, style):
        at = f"{self.x(x):.1f} {self.y(value):.1f}"
        self.out.append(f'<path d="M{at} m0 -6 l6 6 l-6 6 l-6 -6 z" class="{style}"/>')

    def label(self, x, value, text, style="", anchor="start", dx=0, dy=0):
        self.text(self.x(x) + dx, self.y(value) + dy, text, style, anchor)


HOURS = ["12", "13", "14", "15", "16", "17", "18 h"]


def prices_panel(problem, prices):
    panel = Panel("Prices, ct/kWh", 64, 48, 360, 150, (0, 6), (0, 50))
    panel.axes(range(7), "", (0, 10, 20, 30, 40, 50), HOURS)
    panel.steps([100 * price for price in problem["buy_price"]], "blue")
    panel.steps([100 * price for price in problem["sell_price"]], "green")
    for t, price in enumerate(prices):
        panel.diamond(t + 0.5, 100 * price, "red-fill")
    panel.label(3.5, 30, "buy", "blue-fill", "middle", dy=-11)
    panel.label(3.5, 8, "sell", "green-fill", "middle", dy=-6)
    panel.label(2.7, 100 * prices[2], "shadow price", "red-fill halo", "middle", dy=22)
    return panel


def power_panel(problem):
    panel = Panel("Load and PV, kW", 64, 276, 360, 140, (0, 6), (0, 3))
    panel.axes(range(7), "", (0, 1, 2, 3), HOURS)
    panel.steps(problem["load_kw"], "purple")
    panel.steps(problem["pv_kw"], "orange")
    panel.label(4.5, problem["load_kw"][4], "load", "purple-fill", "middle", dy=-7)
    panel.label(0.5, problem["pv_kw"][0], "PV", "orange-fill", "middle", dy=-7)
    return panel


def soc_panel(problem, path):
    battery = problem["battery"]
    panel = Panel("SoC of the plan, and its change x in each slot, kWh", 64, 494, 360, 230, (0, 6), (0, 5.5))
    low, high = battery["min_soc_kwh"], battery["max_soc_kwh"]
    panel.bar(0, 6, panel.y(high), round(panel.y(low) - panel.y(high), 1), "box")
    panel.axes(range(7), "", (0, 1, 2, 3, 4, 5), HOURS)
    panel.label(0, high, f"max {number(high)}", "small muted", dx=4, dy=-5)
    panel.label(0, low, f"min {number(low)}", "small muted", dx=4, dy=14)
    panel.line(list(enumerate(path)), "line blue")
    for t, soc in enumerate(path):
        panel.dot(t, soc, "blue-fill")
    for t, (before, after) in enumerate(zip(path, path[1:])):
        change = after - before
        text = "0" if change == 0 else f"{change:+.2f}".replace("-", "\u2212")
        if change == 0:
            anchor, dx, dy = "middle", 0, 17
        else:
            anchor, dx, dy = ("start", 7, 14) if change > 0 else ("end", -7, 14)
        panel.label(t + 0.5, (before + after) / 2, text, "small blue-fill", anchor, dx, dy)
    return panel


def cost_panel(problem, path):
    corners = [(x, 100 * value) for x, value in slot_cost(problem, 0)]
    panel = Panel("Cost of slot 0 (12 to 13 h) by move x: g\u2080(x), ct", 520, 48, 356, 190, (-2.5, 2), (-30, 35))
    panel.axes((-2, -1, 0, 1, 2), "x: change of SoC, kWh", (-30, -20, -10, 0, 10, 20, 30))
    panel.line(corners, "line blue")
    for x, value in corners:
        panel.dot(x, value, "blue-fill")
    names = (("more is sold", 6, 18, "start"), ("PV is stored", -4, -10, "end"), ("energy is bought", -8, -6, "end"))
    pieces = zip(corners, corners[1:], slopes(corners), names)
    for (x1, v1), (x2, v2), (slope, _), (name, dx, dy, anchor) in pieces:
        text = f"{name}: {number(slope)} ct/kWh"
        panel.label((x1 + x2) / 2, (v1 + v2) / 2, text, "small blue-fill halo", anchor, dx, dy)
    move = path[1] - path[0]
    at = value_at(corners, move)
    panel.dot(move, at, "ring red", 7)
    panel.label(move, at, f"plan: x = {move:.1f}", "small red-fill halo", dx=11, dy=8)
    return panel


def merge_panel(problem, found):
    """How V_5 comes about."""
    moves, following, kept = mirrored(slot_cost(problem, 5)), found[6], found[5]
    merged = convolve(moves, following)
    title = "V\u2085: the pieces of g\u2085 and V\u2086 by slope, cut to the SoC box"
    panel = Panel(title, 520, 318, 356, 108, (-2, 7), (0, 1))
    low, high = problem["battery"]["min_soc_kwh"], problem["battery"]["max_soc_kwh"]
    panel.bar(low, high, panel.top, panel.height, "box")
    panel.label((low + high) / 2, 1, "SoC box", "small muted", "middle", dy=12)
    of_following = {round(slope, 9) for slope, _ in slopes(following)}

    def row(corners, y_px, style):
        for (start, _), (end, _), (slope, _) in zip(corners, corners[1:], slopes(corners)):
            color = "green" if round(slope, 9) in of_following else "purple"
            panel.bar(start, end, y_px, 20, f"{color}-fill {color} {style}")
            middle = panel.x((start + end) / 2)
            panel.text(middle, y_px + 14, number(100 * slope), f"small {color}-fill", "middle")

    top = panel.top + 18
    rows = (("g\u2085(\u2212x)", moves), ("V\u2086", following), ("V\u2085", kept))
    for k, (name, corners) in enumerate(rows):
        row(corners, top + 28 * k, "faint")
        panel.text(panel.left - 44, top + 28 * k + 14, name, "small")
    row(cut(merged, merged[0][0], low), top + 56, "cut")
    row(cut(merged, high, merged[-1][0]), top + 56, "cut")
    panel.axes(range(-2, 8), "kWh; numbers are slopes in ct/kWh")
    return panel


def value_panel(found, path):
    panel = Panel("Least cost from slot t on by SoC s: V\u209c(s), EUR", 520, 508, 356, 216, (0.5, 4.5), (-1, 2.2))
    panel.axes((0.5, 1, 2, 3, 4, 4.5), "s: SoC at the start of slot t, kWh; slopes in ct/kWh", (-1, 0, 1, 2))
    colors = {3: "orange", 5: "purple", 6: "green"}
    for t, color in colors.items():
        corners = found[t]
        panel.line(corners, f"line {color}")
        for s, value in corners:
            panel.dot(s, value, f"{color}-fill")
        for (s1, v1), (s2, v2), (slope, _) in zip(corners, corners[1:], slopes(corners)):
            middle = ((s1 + s2) / 2, (v1 + v2) / 2)
            panel.label(*middle, number(100 * slope), f"small {color}-fill", dx=4, dy=-6)
        panel.dot(path[t], value_at(corners, path[t]), "ring red", 7)
        name = f"V{chr(0x2080 + t)}"
        panel.label(corners[0][0], corners[0][1], name, f"{color}-fill", dx=12, dy=24)
    return panel


def picture(problem, found, path, prices):
    panels = [
        prices_panel(problem, prices),
        power_panel(problem),
        soc_panel(problem, path),
        cost_panel(problem, path),
        merge_panel(problem, found),
        value_panel(found, path),
    ]
    lines = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 900 770" width="900" height="770" role="img">',
        "<title>A home of six hours: prices, load and PV, the plan, and the functions behind it</title>",
        f"<style>{STYLE}</style>",
        '<rect x="0.5" y="0.5" width="899" height="769" rx="8" class="card"/>',
    ]
    for panel in panels:
        lines += panel.out
    return "\n".join([*lines, "</svg>", ""])


def main():
    problem = json.loads((HERE / "example.json").read_text())
    found, path = values(problem), soc_path(problem)
    slots = len(problem["load_kw"])
    prices = [shadow_price(problem, t) for t in range(slots)]
    cost = cost_of(problem)
    print(f"objective {cost:.6f}")
    print("slot  soc_kwh  shadow_price")
    for t in range(slots):
        print(f"{t:4}  {path[t + 1]:.6f}  {prices[t]:.6f}")
    print("an appliance of 1.5 kW for two slots\nstart  by the cut  in truth")
    for start in range(slots - 1):
        bound = cost + sum(1.5 * price for price in prices[start : start + 2])
        print(f"{start:5}  {bound:.6f}    {cost_of(with_load(problem, start, [1.5, 1.5])):.6f}")
    (HERE / "example.svg").write_text(picture(problem, found, path, prices))


if __name__ == "__main__":
    main()
