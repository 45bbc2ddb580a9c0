"""Writes decisions.json, a day of a home, or draws what Hearth decides for it.

    python3 decisions.py problem > decisions.json
    hearth solve decisions.json | python3 decisions.py draw > decisions.svg

Needs nothing but Python; the same input gives the same bytes.
"""

import json
import math
import pathlib
import sys

HERE = pathlib.Path(__file__).parent
WIDTH, LEFT, RIGHT = 900, 60, 20
COLOURS = {
    "self_consumption": "#d9efd9",
    "charge": "#cfe0fb",
    "hold": "#f3ecd0",
    "sell": "#f6d5d5",
    "idle": "#eeeeee",
    "setpoint": "#e5d8f2",
}


def bump(hour, centre, width, height):
    return height * math.exp(-(((hour - centre) / width) ** 2))


def problem():
    hours = [(index + 0.5) / 4 for index in range(96)]
    load = [
        0.3 + bump(h, 7.5, 0.8, 1.2) + bump(h, 12.5, 0.7, 0.8) + bump(h, 19, 1.5, 2.2)
        for h in hours
    ]
    sun = [max(0.0, math.sin((h - 7) / 10 * math.pi)) if 7 < h < 17 else 0.0 for h in hours]
    rounded = lambda values, factor: [round(value * factor, 3) for value in values]
    courses = [(0.25, 1.0, 0.4), (0.35, 1.0, 1.5), (0.15, 0.9, 2.4), (0.25, 1.5, 1.3)]
    battery = {
        "capacity_kwh": 10, "soc_kwh": 3, "min_soc_kwh": 1, "max_soc_kwh": 10,
        "charge_kw": 5, "discharge_kw": 5,
        "charge_efficiency": 0.95, "discharge_efficiency": 0.95,
        "end_soc_min_kwh": 1, "end_value_per_kwh": 0.17, "wear_cost_per_kwh": 0,
    }
    return {
        "household_id": 1,
        "start": "2026-02-10T00:00:00Z",
        "slot_minutes": 15,
        "load_kw": rounded(load, 1.0),
        "pv_kw": rounded(sun, 1.5),
        "buy_price": [0.18 if h < 6 else 0.45 if 17 <= h < 21 else 0.30 for h in hours],
        "sell_price": [0.08] * 96,
        "battery": battery,
        "scenarios": [
            {"weight": weight, "load_kw": rounded(load, more), "pv_kw": rounded(sun, peak)}
            for weight, more, peak in courses
        ],
        "caution_per_kwh": 0.017,
    }


class Panel:
    """A part of the picture with hours to the right and a quantity upwards."""

    def __init__(self, top, height, most, title):
        self.top, self.height, self.most = top, height, most
        self.lines = [
            f'<text x="{LEFT}" y="{top - 8}" font-weight="bold">{title}</text>',
            f'<rect x="{LEFT}" y="{top}" width="{WIDTH - LEFT - RIGHT}" height="{height}" '
            'fill="none" stroke="#999"/>',
        ]

    def x(self, slot):
        return LEFT + slot / 96 * (WIDTH - LEFT - RIGHT)

    def y(self, value):
        return self.top + self.height * (1 - value / self.most)

    def tick(self, value):
        self.lines.append(
            f'<text x="{LEFT - 6}" y="{self.y(value) + 4:.1f}" text-anchor="end">{value:g}</text>'
        )

    def steps(self, values, colour, width=2, dash=""):
        points = []
        for slot, value in enumerate(values):
            if value is None:
                points.append(None)
                continue
            points += [(self.x(slot), self.y(value)), (self.x(slot + 1), self.y(value))]
        self.polyline(points, colour, width, dash)

    def course(self, values, colour, width=2):
        points = [(self.x(slot), self.y(value)) for slot, value in enumerate(values)]
        self.polyline(points, colour, width, "")

    def polyline(self, points, colour, width, dash):
        parts, part = [], []
        for point in [*points, None]:
            if point is None:
                if part:
                    parts.append(part)
                part = []
            else:
                part.append(f"{point[0]:.1f},{point[1]:.1f}")
        dashes = f' stroke-dasharray="{dash}"' if dash else ""
        self.lines += [
            f'<polyline points="{" ".join(part)}" fill="none" stroke="{colour}" '
            f'stroke-width="{width}"{dashes}/>'
            for part in parts
        ]


def legend(y, entries):
    lines, x = [], LEFT
    for colour, text, dash in entries:
        dashes = f' stroke-dasharray="{dash}"' if dash else ""
        lines.append(
            f'<line x1="{x}" y1="{y - 4}" x2="{x + 24}" y2="{y - 4}" stroke="{colour}" '
            f'stroke-width="3"{dashes}/><text x="{x + 30}" y="{y}">{text}</text>'
        )
        x += 48 + 7 * len(text)
    return lines


def draw(asked, answer):
    slots = answer["slots"]
    battery = asked["battery"]
    policies = [slot["policy"]["battery"] for slot in slots]
    of = lambda name: [policy[name] for policy in policies]
    prices = Panel(40, 90, 0.5, "Price of import, per kWh")
    powers = Panel(180, 150, 4.0, "Load and PV, kW: what is expected, and how it may turn out")
    contents = Panel(400, 240, battery["capacity_kwh"], "Content of the battery, kWh, and thresholds")
    prices.steps(asked["buy_price"], "#333")
    for scenario in asked["scenarios"]:
        powers.course(scenario["load_kw"], "#e7b3b3", 1)
        powers.course(scenario["pv_kw"], "#ecd9a0", 1)
    powers.course(asked["load_kw"], "#b03030")
    powers.course(asked["pv_kw"], "#c89a10")
    for slot, policy in enumerate(policies):
        x, width = contents.x(slot), contents.x(slot + 1) - contents.x(slot)
        contents.lines.insert(
            1,
            f'<rect x="{x:.1f}" y="{contents.top}" width="{width + 0.2:.1f}" '
            f'height="{contents.height}" fill="{COLOURS[policy["mode"]]}"/>',
        )
    contents.steps(of("charge_from_pv_to_kwh"), "#c89a10", 2, "7 4")
    contents.steps(of("discharge_to_home_to_kwh"), "#b03030", 2, "2 3")
    contents.steps(of("charge_from_grid_to_kwh"), "#2050b0", 2, "7 4")
    contents.course([battery["soc_kwh"], *[slot["soc_kwh"] for slot in slots]][:97], "#111", 2.5)
    for panel, ticks in ((prices, (0, 0.18, 0.3, 0.45)), (powers, (0, 2, 4)), (contents, (0, 1, 5, 10))):
        for value in ticks:
            panel.tick(value)
        for hour in range(0, 25, 3):
            panel.lines.append(
                f'<text x="{panel.x(4 * hour):.1f}" y="{panel.top + panel.height + 14}" '
                f'text-anchor="middle">{hour}</text>'
            )
    lines = [*prices.lines, *powers.lines, *contents.lines]
    lines += legend(
        680,
        [
            ("#111", "planned content", ""),
            ("#2050b0", "buy up to", "7 4"),
            ("#c89a10", "store PV up to", "7 4"),
            ("#b03030", "cover load down to", "2 3"),
        ],
    )
    x = LEFT
    for mode in dict.fromkeys(policy["mode"] for policy in policies):
        lines.append(
            f'<rect x="{x}" y="692" width="24" height="12" fill="{COLOURS[mode]}" stroke="#999"/>'
            f'<text x="{x + 30}" y="703">{mode}</text>'
        )
        x += 48 + 7 * len(mode)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} 720" width="{WIDTH}" '
        'height="720" role="img" font-family="sans-serif" font-size="12">'
        '<title>A winter day: prices, load and PV with scenarios, content and thresholds</title>'
        '<rect width="100%" height="100%" fill="white"/>'
    )
    return "\n".join([head, *lines, "</svg>"])


if __name__ == "__main__":
    if sys.argv[1:] == ["problem"]:
        json.dump(problem(), sys.stdout)
        print()
    elif sys.argv[1:] == ["draw"]:
        print(draw(json.loads((HERE / "decisions.json").read_text()), json.load(sys.stdin)))
    else:
        sys.exit(__doc__)
