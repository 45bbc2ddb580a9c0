#!/usr/bin/env python3
"""The dashboards: their source, and what writes dashboards/*.json from it.

python3 deploy/grafana/dashboards.py          writes the files
python3 deploy/grafana/dashboards.py --check  says which are not as written, and fails

A query names metrics bare; the variables `job` and `namespace` are put in here. Grafana reads the files as they are.
"""

import json
import re
import sys
from pathlib import Path

FOLDER = Path(__file__).parent / "dashboards"
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
WIDTH = 24


def scoped(query):
    """The query with the dashboard's variables in each selector."""
    def selector(match):
        name, labels = match.group(1), (match.group(2) or "{}")[1:-1]
        # What rules make has lost the job.
        scope = [] if ":" in name or name == "ALERTS" else ['job=~"$job"']
        scope.append('namespace=~"$namespace"')
        return "%s{%s}" % (name, ", ".join(filter(None, [labels, *scope])))
    return re.sub(r"\b((?:hearth|process)[_:][a-z0-9_:]+|ALERTS|up)\b(\{[^}]*\})?", selector, query)


def target(number, query, legend, instant):
    found = {
        "refId": chr(ord("A") + number),
        "datasource": SOURCE,
        "expr": scoped(query),
        "legendFormat": legend,
        "editorMode": "code",
        "range": not instant,
        "instant": bool(instant),
    }
    if instant:
        found["format"] = "table" if instant == "table" else "time_series"
    return found


def panel(kind, title, says, unit, queries, width, height=8, **more):
    """`queries` are pairs of query and legend. `more` goes into the field's defaults, but for what options hold."""
    instant = {"stat": False, "timeseries": False, "table": "table", "bargauge": True}[kind]
    targets = [target(number, query, legend, instant) for number, (query, legend) in enumerate(queries)]
    defaults = {"unit": unit, "min": more.get("min", 0), "color": {"mode": "palette-classic"}}
    if defaults["min"] is None:
        del defaults["min"]
    if "max" in more:
        defaults["max"] = more["max"]
    if "decimals" in more:
        defaults["decimals"] = more["decimals"]
    steps = [{"color": "green", "value": None}]
    steps += [{"color": color, "value": value} for color, value in more.get("limits", [])]
    if more.get("falling"):
        # The low values are the bad ones.
        colors = [step["color"] for step in steps]
        for step, color in zip(steps, reversed(colors)):
            step["color"] = color
    defaults["thresholds"] = {"mode": "absolute", "steps": steps}
    overrides = []
    if kind == "stat":
        defaults["color"] = {"mode": "thresholds"}
        options = {
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "colorMode": "value", "graphMode": "area", "justifyMode": "auto", "orientation": "auto",
            "textMode": "auto", "wideLayout": True, "showPercentChange": False, "percentChangeColorMode": "standard",
        }
    elif kind == "timeseries":
        defaults["custom"] = {
            "drawStyle": "line", "lineInterpolation": "linear", "lineWidth": 1, "fillOpacity": more.get("fill", 10),
            "showPoints": "never", "spanNulls": False, "axisLabel": "", "axisPlacement": "auto",
            "stacking": {"mode": "normal" if more.get("stacked") else "none", "group": "A"},
            "thresholdsStyle": {"mode": "line" if "limits" in more else "off"},
        }
        options = {
            "legend": {"showLegend": True, "displayMode": "list", "placement": "bottom", "calcs": []},
            "tooltip": {"mode": "multi", "sort": "desc"},
        }
        if "right" in more:
            pattern, right_unit = more["right"]
            overrides.append({
                "matcher": {"id": "byRegexp", "options": pattern},
                "properties": [
                    {"id": "unit", "value": right_unit},
                    {"id": "custom.axisPlacement", "value": "right"},
                    {"id": "custom.fillOpacity", "value": 0},
                    {"id": "min"},
                ],
            })
    elif kind == "bargauge":
        defaults["color"] = {"mode": "thresholds"}
        options = {
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "orientation": "horizontal", "displayMode": "gradient", "valueMode": "color", "namePlacement": "auto",
            "showUnfilled": True, "sizing": "auto", "minVizWidth": 8, "minVizHeight": 16, "maxVizHeight": 300,
            "legend": {"showLegend": False, "displayMode": "list", "placement": "bottom", "calcs": []},
        }
    else:
        options = {"showHeader": True, "cellHeight": "sm"}
    found = {
        "type": kind, "title": title, "description": says, "datasource": SOURCE, "targets": targets,
        "gridPos": {"w": width, "h": height, "x": 0, "y": 0},
        "fieldConfig": {"defaults": defaults, "overrides": overrides}, "options": options,
    }
    if kind == "table":
        drop = {name: True for name in ["Time", "__name__", "job", "instance", *more.get("drop", [])]}
        found["transformations"] = [{"id": "organize", "options": {"excludeByName": drop}}]
    return found


def stat(title, says, unit, query, width=4, **more):
    return panel("stat", title, says, unit, [(query, title)], width, 4, **more)


def lines(title, says, unit, *queries, width=12, **more):
    return panel("timeseries", title, says, unit, queries, width, **more)


def rate(metric, by="", selector=""):
    return f"sum{f' by ({by}) ' if by else ''}(rate({metric}{selector}[$__rate_interval]))"


def quantiles(title, says, metric, by="", unit="s", **more):
    """Median, 99th percentile and mean of a histogram."""
    labels = f", {by}" if by else ""
    named = " {{%s}}" % by if by else ""
    over = f"sum by (le{labels}) (rate({metric}_bucket[$__rate_interval]))"
    sums = [rate(f"{metric}_{part}", by) for part in ("sum", "count")]
    return lines(
        title, says, unit,
        (f"histogram_quantile(0.5, {over})", f"median{named}"),
        (f"histogram_quantile(0.99, {over})", f"99 %{named}"),
        (f"{sums[0]} / {sums[1]}", f"mean{named}"),
        fill=0, **more)


def text(title, content, width=24, height=5):
    return {
        "type": "text", "title": title, "description": "", "gridPos": {"w": width, "h": height, "x": 0, "y": 0},
        "options": {"mode": "markdown", "content": content},
        "fieldConfig": {"defaults": {}, "overrides": []},
    }


def row(title):
    return {"type": "row", "title": title, "collapsed": False, "gridPos": {"w": WIDTH, "h": 1, "x": 0, "y": 0},
            "panels": []}


def firing(width=24, height=6):
    return panel(
        "table", "Alerts", "What is pending or firing now. Each has a page in docs/runbooks.", "none",
        [('ALERTS{alertname=~"Hearth.*"}', "")], width, height, drop=["Value"])


FLEET = [
    row("Now"),
    stat("Homes", "Homes in memory, and silent ones that have left it.", "none", "sum(hearth_known_households)"),
    stat("Stale homes", "Share of homes whose newest reading is older than engine.stale_minutes. The objective is 1 %.",
         "percentunit", "max(hearth:stale_households:ratio)", limits=[("orange", 0.01), ("red", 0.05)], decimals=2),
    stat("Homes without a plan", "Share of homes in memory that have metadata and no schedule that covers now. The objective is 1 %.",
         "percentunit", "max(hearth:unplanned_households:ratio)", limits=[("orange", 0.01), ("red", 0.05)], decimals=2),
    stat("Load", "Load of the homes in the sums, by their newest readings.", "watt", 'sum(hearth_fleet_power_watts{flow="load"})'),
    stat("PV", "PV production of the homes in the sums.", "watt", 'sum(hearth_fleet_power_watts{flow="pv"})'),
    stat("State of charge", "Energy in all batteries of the homes in the sums, as a share of their capacity.", "percentunit",
         'sum(hearth_fleet_battery_watt_hours{of="stored"}) / sum(hearth_fleet_battery_watt_hours{of="capacity"})', max=1),
    row("Energy"),
    lines("Power", "Sums over homes with metadata, a price for now and fresh readings. Import and export are sums over homes, not the net of the fleet.",
          "watt", ("sum by (flow) (hearth_fleet_power_watts)", "{{flow}}"), fill=0),
    lines("State of charge", "Energy in the batteries, and as a share of their capacity (right).", "watth",
          ('sum(hearth_fleet_battery_watt_hours{of="stored"})', "stored"),
          ('sum(hearth_fleet_battery_watt_hours{of="stored"}) / sum(hearth_fleet_battery_watt_hours{of="capacity"})', "share"),
          right=("share", "percentunit")),
    lines("Price against import", "Import should be high when prices are low. The price of load is what a kWh of load would cost if all of it were bought; the price paid is that of the import. Currency per kWh (right).",
          "watt",
          ('sum(hearth_fleet_power_watts{flow="import"})', "import"),
          ('1000 * sum(hearth_fleet_money_per_hour{of="load"}) / sum(hearth_fleet_power_watts{flow="load"})', "price of load"),
          ('1000 * sum(hearth_fleet_money_per_hour{of="import"}) / (sum(hearth_fleet_power_watts{flow="import"}) > 0)', "price paid"),
          right=("price.*", "none"), min=None),
    lines("Plan against actual", "Power of the batteries for which a plan holds, positive while charging. A program follows load and sun, so short differences are meant; a lasting one is not.",
          "watt", ("sum by (of) (hearth_fleet_steered_battery_watts)", "{{of}}"), fill=0, min=None),
    lines("Money", "At the present prices, currency per hour: what the import costs, what the export earns, and what the load would cost if all of it were bought.",
          "none", ("sum by (of) (hearth_fleet_money_per_hour)", "{{of}}"), fill=0, min=None),
    lines("Homes in the sums", "Homes with metadata, a price for now and fresh readings, beside all that are known.", "none",
          ("sum(hearth_fleet_households)", "in the sums"), ("sum(hearth_known_households)", "known")),
    row("Freshness"),
    lines("Homes beyond the objective", "The objective is that at most 1 % of the homes are stale, and 1 % without a plan, on average over 30 days.",
          "percentunit", ("hearth:stale_households:ratio", "stale"), ("hearth:unplanned_households:ratio", "without a plan"),
          limits=[("red", 0.01)]),
    lines("Burn rate", "How many times as fast as the objective allows the budget is used, over an hour. 14.4 pages at once, 1 uses up the budget in 30 days.",
          "none", ("hearth:stale_households:ratio_avg1h / 0.01", "stale"),
          ("hearth:unplanned_households:ratio_avg1h / 0.01", "without a plan"), limits=[("orange", 6), ("red", 14.4)]),
    stat("Budget left: freshness", "Of 30 days. Below 0 the objective is missed.", "percentunit",
         "1 - avg_over_time(hearth:stale_households:ratio[30d]) / 0.01", width=6, min=None, limits=[("orange", 0), ("red", 0.25)], falling=True),
    stat("Budget left: plans", "Of 30 days. Below 0 the objective is missed.", "percentunit",
         "1 - avg_over_time(hearth:unplanned_households:ratio[30d]) / 0.01", width=6, min=None, limits=[("orange", 0), ("red", 0.25)], falling=True),
    text("Which homes", "`GET /api/fleet` lists the ten homes heard of longest ago (`stalest`) and the ten longest without a plan "
         "(`longest_without_plan`); the console shows one home. No metric holds a home's id.", width=12, height=4),
    row("Alerts"),
    firing(width=12),
    lines("What homes raise", "Records of the topic alerts, by kind: for who runs the homes, not for who runs Hearth.", "cps",
          (rate("hearth_alerts_total", "kind"), "{{kind}}"), height=6),
]

PIPELINE = [
    row("Now"),
    stat("Readings received", "Taken in by gateways and bridges.", "cps", rate("hearth_readings_total", selector='{outcome="received"}')),
    stat("Readings accepted", "New ones that reached their home.", "cps", rate("hearth_readings_total", selector='{outcome="accepted"}')),
    stat("Lag", "Age of the oldest record that an engine has not finished.", "s", "max(hearth_consumer_lag_seconds)", limits=[("orange", 30), ("red", 120)]),
    stat("Reading to store", "99 % of the readings of the last minutes were rows within this time.", "s",
         "histogram_quantile(0.99, sum by (le) (rate(hearth_reading_to_store_seconds_bucket[$__rate_interval])))", limits=[("orange", 5), ("red", 30)]),
    stat("Reading to command", "95 % of the readings that led to a command did so within this time.", "s",
         "histogram_quantile(0.95, sum by (le) (rate(hearth_reading_to_command_seconds_bucket[$__rate_interval])))", limits=[("orange", 20), ("red", 60)]),
    stat("Dead letters", "Payloads and records refused in the last hour.", "none", "sum(increase(hearth_dead_letters_total[1h]))", limits=[("orange", 1), ("red", 1000)]),
    row("Way in"),
    lines("Readings received", "By kind.", "cps", (rate("hearth_readings_total", "kind", '{outcome="received"}'), "{{kind}}"), stacked=True),
    lines("Readings by outcome", "What became of them. `late` are aggregated again, `implausible` and `refused` are dead letters.", "cps",
          (rate("hearth_readings_total", "outcome", '{outcome!="received"}'), "{{outcome}}"), fill=0),
    lines("Dead letters", "By reason. The topic dead-letters holds the bytes.", "cps", (rate("hearth_dead_letters_total", "reason"), "{{reason}}"), fill=0),
    quantiles("PUBLISH to PUBACK", "How long devices wait until their readings are durable.", "hearth_publish_to_ack_seconds", "way"),
    row("Engine"),
    lines("Lag", "Age of the oldest record that an engine has not finished, by engine.", "s",
          ("max by (instance) (hearth_consumer_lag_seconds)", "{{instance}}"), limits=[("red", 120)]),
    lines("Records not yet read", "By topic, as far as engines own their partitions.", "none", ("sum by (topic) (hearth_consumer_lag_records)", "{{topic}}")),
    quantiles("Reading to store", "From a reading's arrival in the log to its row.", "hearth_reading_to_store_seconds"),
    quantiles("Reading to command", "From the reading that closed a slot to the command that came of it.", "hearth_reading_to_command_seconds"),
    row("Way out"),
    lines("Slots", "Slots whose aggregate was written, corrections included.", "cps", (rate("hearth_slots_total"), "slots")),
    lines("Commands", "What became of them.", "cps", (rate("hearth_commands_total", "outcome"), "{{outcome}}"), fill=0),
]

OPTIMIZER = [
    row("Now"),
    stat("Plans", "Schedules solved.", "cps", rate("hearth_schedules_total", selector='{status!="superseded"}')),
    stat("Queue", "Requests taken and not answered.", "none", "sum(hearth_requests_queued)"),
    stat("Solve", "99 % of the solves took at most this.", "s",
         "histogram_quantile(0.99, sum by (le) (rate(hearth_solve_seconds_bucket[$__rate_interval])))", limits=[("orange", 0.1), ("red", 1)]),
    stat("Not as asked", "Share of plans that are relaxed or infeasible.", "percentunit",
         'sum(rate(hearth_schedules_total{status=~"relaxed|infeasible"}[$__rate_interval])) / sum(rate(hearth_schedules_total{status!="superseded"}[$__rate_interval]))',
         limits=[("orange", 0.05), ("red", 0.1)], decimals=1),
    stat("Gap", "Mean proven gap of a schedule, as a share of its cost.", "percentunit",
         "sum(rate(hearth_schedule_gap_sum[$__rate_interval])) / sum(rate(hearth_schedule_gap_count[$__rate_interval]))", decimals=4),
    stat("Solver CPU", "Cores at work in the solver.", "none", rate("hearth_solve_cpu_seconds_total"), decimals=2),
    row("Plans"),
    lines("Plans by status", "`superseded` were answered unsolved, since a later request of the same home came with them.", "cps",
          (rate("hearth_schedules_total", "status"), "{{status}}"), stacked=True),
    lines("Plans by method", "How they were found; docs/explanation/scheduler.md says what the methods are.", "cps",
          (rate("hearth_schedules_total", "method"), "{{method}}"), stacked=True),
    quantiles("Solve", "Time of one solve, by method.", "hearth_solve_seconds", "method"),
    quantiles("Gap", "Proven gap of a schedule as a share of its cost, by method; 0 where it is optimal.", "hearth_schedule_gap", "method", unit="percentunit"),
    row("Load"),
    lines("Queue", "Requests taken and not answered, by instance.", "none", ("sum by (instance) (hearth_requests_queued)", "{{instance}}"), stacked=True),
    lines("Solver CPU", "Cores at work in the solver, by instance.", "none", (rate("hearth_solve_cpu_seconds_total", "instance"), "{{instance}}"), stacked=True),
    quantiles("Reading to command", "From the reading that closed a slot to the command that came of it: queue, solve and log together.", "hearth_reading_to_command_seconds"),
    lines("Homes without a plan", "Homes with metadata and no schedule that covers now.", "none", ("sum(hearth_unplanned_households)", "homes")),
]

STORE = [
    row("Now"),
    stat("Writes", "Writes of rows, many rows each.", "cps", rate("hearth_store_write_seconds_count"), width=6),
    stat("Write", "99 % of the writes took at most this.", "s",
         "histogram_quantile(0.99, sum by (le) (rate(hearth_store_write_seconds_bucket[$__rate_interval])))", width=6, limits=[("orange", 0.3), ("red", 1)]),
    stat("Repeated", "Writes that had to be repeated.", "cps", rate("hearth_store_retries_total"), width=6, limits=[("orange", 0.1), ("red", 1)]),
    stat("Refused", "Rows that no store could hold, in the last hour.", "none", "sum(increase(hearth_rows_refused_total[1h]))", width=6, limits=[("red", 1)]),
    row("Writes"),
    quantiles("Write", "One write of rows. Engines slow down by themselves while it is long.", "hearth_store_write_seconds"),
    lines("Writes", "By instance.", "cps", (rate("hearth_store_write_seconds_count", "instance"), "{{instance}}"), stacked=True),
    lines("Repeated", "Writes that had to be repeated, by instance.", "cps", (rate("hearth_store_retries_total", "instance"), "{{instance}}"), limits=[("red", 1)]),
    lines("Refused", "Rows that no store could hold, by what they are of. A dead letter stands for each.", "cps", (rate("hearth_rows_refused_total", "source"), "{{source}}"), fill=0),
    quantiles("Reading to store", "From a reading's arrival in the log to its row.", "hearth_reading_to_store_seconds"),
    row("State"),
    lines("Snapshots", "Snapshots of homes handed to the store.", "cps", (rate("hearth_snapshots_total"), "snapshots")),
    lines("Homes not saved", "Homes that changed since their newest snapshot.", "none", ("sum by (instance) (hearth_unsaved_households)", "{{instance}}")),
    quantiles("Restore", "Time to bring a home's state back from the store.", "hearth_restore_seconds"),
]

GATEWAY = [
    row("Now"),
    stat("Devices", "Connected to gateways.", "none", "sum(hearth_gateway_connections)"),
    stat("Publishes", "Acknowledged.", "cps", rate("hearth_publish_to_ack_seconds_count")),
    stat("PUBLISH to PUBACK", "99 % waited at most this long.", "s",
         "histogram_quantile(0.99, sum by (le) (rate(hearth_publish_to_ack_seconds_bucket[$__rate_interval])))", limits=[("orange", 1), ("red", 5)]),
    stat("Spool", "Readings on disk, waiting for the log.", "bytes", "sum(hearth_spool_bytes)", limits=[("orange", 1), ("red", 1e8)]),
    stat("Refused", "Clients and requests refused.", "cps", rate("hearth_gateway_refused_total"), limits=[("orange", 0.1), ("red", 1)]),
    stat("Certificate", "The first certificate that ends.", "s", "min(hearth_certificate_expiry_timestamp_seconds - time())", min=None,
         limits=[("orange", 2 * 86400), ("red", 14 * 86400)], falling=True),
    row("Way in"),
    lines("Devices", "Connected, by gateway.", "none", ("sum by (instance) (hearth_gateway_connections)", "{{instance}}"), stacked=True),
    lines("Publishes", "Acknowledged, by way.", "cps", (rate("hearth_publish_to_ack_seconds_count", "way"), "{{way}}"), stacked=True),
    quantiles("PUBLISH to PUBACK", "How long devices wait until their readings are durable.", "hearth_publish_to_ack_seconds", "way"),
    lines("Refused", "What gateways did not take, by reason; docs/reference/metrics.md names them.", "cps", (rate("hearth_gateway_refused_total", "reason"), "{{reason}}"), fill=0),
    lines("Spool", "Readings on disk while the log is away, by instance.", "bytes", ("sum by (instance) (hearth_spool_bytes)", "{{instance}}"), stacked=True),
    lines("Spool damaged", "Places in spool files that could not be read.", "none", ("sum by (instance) (hearth_spool_damaged_total)", "{{instance}}")),
    row("Way out"),
    lines("Commands", "What became of them. `expired` and `superseded` were never answered.", "cps", (rate("hearth_commands_total", "outcome"), "{{outcome}}"), fill=0),
    lines("Answered", "Share of the commands sent that devices applied or rejected.", "percentunit",
          (f"""{rate("hearth_commands_total", selector='{outcome="applied"}')} / {rate("hearth_commands_total", selector='{outcome="sent"}')}""", "applied"),
          (f"""{rate("hearth_commands_total", selector='{outcome="rejected"}')} / {rate("hearth_commands_total", selector='{outcome="sent"}')}""", "rejected"), fill=0),
    row("Limits"),
    lines("Certificates", "Time until they end, by who presents them.", "s", ("min by (of) (hearth_certificate_expiry_timestamp_seconds - time())", "{{of}}"), min=None),
    lines("Files and sockets", "Open, as a share of the limit of the process.", "percentunit",
          ("max by (instance) (process_open_fds / process_max_fds)", "{{instance}}"), limits=[("red", 0.85)]),
]

ENGINE = [
    row("Now"),
    stat("Homes in memory", "Household actors.", "none", "sum(hearth_live_households)"),
    stat("Partitions", "Owned by engines.", "none", "sum(hearth_owned_partitions)"),
    stat("Lag", "Age of the oldest record that an engine has not finished.", "s", "max(hearth_consumer_lag_seconds)", limits=[("orange", 30), ("red", 120)]),
    stat("Not saved", "Homes that changed since their newest snapshot.", "none", "sum(hearth_unsaved_households)"),
    stat("Failing homes", "Homes that panic on each tick of the clock.", "none", "sum(hearth_quarantined_households)", limits=[("red", 1)]),
    stat("Panics", "Of homes, in the last hour.", "none", "sum(increase(hearth_household_failures_total[1h]))", limits=[("red", 1)]),
    row("Homes"),
    lines("Homes in memory", "By engine.", "none", ("sum by (instance) (hearth_live_households)", "{{instance}}"), stacked=True),
    lines("Asleep", "Silent homes that have left memory; their next reading brings them back.", "none", ("sum(hearth_known_households) - sum(hearth_live_households)", "asleep")),
    lines("Panics", "Of homes, by what they were told.", "cps", (rate("hearth_household_failures_total", "event"), "{{event}}"), fill=0),
    lines("Refused", "Records that the log refused for good, by topic. A dead letter stands for each.", "cps", (rate("hearth_records_refused_total", "topic"), "{{topic}}"), fill=0),
    row("Rebalance"),
    lines("Partitions", "Owned, by engine.", "none", ("sum by (instance) (hearth_owned_partitions)", "{{instance}}"), stacked=True),
    lines("Partitions that moved", "Came to an engine or left it, in five minutes.", "none", ("sum by (event) (increase(hearth_partition_moves_total[5m]))", "{{event}}"), fill=0),
    lines("Lag", "By engine.", "s", ("max by (instance) (hearth_consumer_lag_seconds)", "{{instance}}"), limits=[("red", 120)]),
    lines("Clock", "Jumps of the machine's clock.", "none", ("sum by (instance, direction) (increase(hearth_clock_jumps_total[5m]))", "{{instance}} {{direction}}")),
    row("Restore and save"),
    lines("Restores", "Homes brought back from the store.", "cps", (rate("hearth_restore_seconds_count"), "homes")),
    quantiles("Restore", "Time to bring a home's state back.", "hearth_restore_seconds"),
    lines("Saves", "Snapshots of homes handed to the store.", "cps", (rate("hearth_snapshots_total", "instance"), "{{instance}}"), stacked=True),
    lines("Not saved", "Homes that changed since their newest snapshot, by engine.", "none", ("sum by (instance) (hearth_unsaved_households)", "{{instance}}"), stacked=True),
]

BY_ROLE = "sum by (role) (hearth_role_info * on (job, namespace, instance) group_left () %s)"
CAPACITY = [
    row("Now"),
    stat("Processes", "That answer.", "none", 'count(up == 1)'),
    stat("CPU", "Cores in use, all processes.", "none", rate("process_cpu_seconds_total"), decimals=2),
    stat("Memory", "Resident, all processes.", "bytes", "sum(process_resident_memory_bytes)"),
    stat("Readings per core", "Readings received for each core in use.", "cps",
         f"""{rate("hearth_readings_total", selector='{outcome="received"}')} / {rate("process_cpu_seconds_total")}"""),
    stat("Memory per home", "Resident memory of engines for each home in memory.", "bytes",
         'sum(process_resident_memory_bytes * on (job, namespace, instance) max by (job, namespace, instance) (hearth_role_info{role="engine"})) / sum(hearth_live_households)'),
    stat("Restarts", "Of processes, in the last day.", "none", "sum(changes(process_start_time_seconds[1d]))", limits=[("orange", 1), ("red", 10)]),
    row("By role"),
    lines("CPU", "Cores in use. A process with several roles counts for each.", "none",
          (BY_ROLE % "rate(process_cpu_seconds_total[$__rate_interval])", "{{role}}"), fill=0),
    lines("Memory", "Resident. A process with several roles counts for each.", "bytes",
          (BY_ROLE % "process_resident_memory_bytes", "{{role}}"), fill=0),
    row("By process"),
    lines("CPU", "Cores in use, by process.", "none", ("sum by (instance) (rate(process_cpu_seconds_total[$__rate_interval]))", "{{instance}}"), stacked=True),
    lines("Memory", "Resident, by process.", "bytes", ("sum by (instance) (process_resident_memory_bytes)", "{{instance}}"), stacked=True),
    lines("Memory in four days", "If it goes on as in the last six hours.", "bytes", ("sum by (instance) (predict_linear(process_resident_memory_bytes[6h], 4 * 86400))", "{{instance}}"), fill=0),
    lines("Files and sockets", "Open, by process.", "none", ("sum by (instance) (process_open_fds)", "{{instance}}"), fill=0),
    lines("Threads", "Of each process.", "none", ("sum by (instance) (process_threads)", "{{instance}}"), fill=0),
    lines("Uptime", "Time since the process started.", "s", ("max by (instance) (time() - process_start_time_seconds)", "{{instance}}"), fill=0),
    row("Growth"),
    lines("Homes", "Homes that are known.", "none", ("sum(hearth_known_households)", "homes")),
    lines("Readings", "Received, over an hour.", "cps", ('sum(rate(hearth_readings_total{outcome="received"}[1h]))', "readings")),
    panel("table", "Versions", "Processes by version and role.", "none",
          [("count by (version, role) (hearth_role_info * on (job, namespace, instance) group_left (version) hearth_build_info)", "")], 12, 6),
]

DASHBOARDS = {
    "fleet": ("Hearth: fleet", "Energy, money and freshness of all homes.", FLEET),
    "pipeline": ("Hearth: pipeline", "The way of readings to store and command.", PIPELINE),
    "optimizer": ("Hearth: optimizer", "How plans are found.", OPTIMIZER),
    "store": ("Hearth: store", "Writes, snapshots and restores.", STORE),
    "gateway": ("Hearth: gateway and bridge", "Devices, acknowledgements, spool and commands.", GATEWAY),
    "engine": ("Hearth: engine", "Homes in memory, rebalance, restore and saves.", ENGINE),
    "capacity": ("Hearth: capacity", "CPU, memory and growth.", CAPACITY),
}


def laid_out(panels):
    """Numbers the panels and puts them side by side, a new line where one is full."""
    x = y = high = 0
    for number, found in enumerate(panels, 1):
        found["id"] = number
        place = found["gridPos"]
        if x + place["w"] > WIDTH:
            x, y, high = 0, y + high, 0
        place["x"], place["y"] = x, y
        x, high = x + place["w"], max(high, place["h"])
    return panels


def variable(name, label, query, **more):
    return {
        "name": name, "label": label, "type": "query", "datasource": SOURCE, "hide": 0, "refresh": 2, "sort": 1,
        "multi": True, "includeAll": True, "options": [], "regex": "", "skipUrlSync": False,
        "query": {"query": query, "refId": "StandardVariableQuery"},
        "current": {"text": ["All"], "value": ["$__all"], "selected": True}, **more,
    }


def dashboard(name, title, says, panels):
    source = {
        "name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "hide": 0,
        "multi": False, "includeAll": False, "options": [], "regex": "", "refresh": 1, "skipUrlSync": False,
        "current": {"text": "Prometheus", "value": "prometheus", "selected": True},
    }
    return {
        "uid": f"hearth-{name}", "title": title, "description": says, "tags": ["hearth"], "timezone": "browser",
        "schemaVersion": 41, "version": 1, "editable": True, "graphTooltip": 1, "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"}, "fiscalYearStartMonth": 0, "preload": False,
        "timepicker": {"refresh_intervals": ["10s", "30s", "1m", "5m", "15m", "1h"]},
        "templating": {"list": [
            source,
            # Targets may have no namespace. All jobs are those of Hearth alone: every process has `process_…`.
            variable("namespace", "Namespace", "label_values(hearth_build_info, namespace)", allValue=".*"),
            variable("job", "Job", 'label_values(hearth_build_info{namespace=~"$namespace"}, job)'),
        ]},
        "annotations": {"list": [{
            "name": "Alerts", "datasource": SOURCE, "enable": True, "hide": False, "iconColor": "red",
            "target": {
                "refId": "Anno", "interval": "60s",
                "expr": 'ALERTS{alertname=~"Hearth.*", alertstate="firing", namespace=~"$namespace"}',
            },
            "titleFormat": "{{alertname}}", "textFormat": "{{severity}} {{instance}}",
            "tagKeys": "severity", "useValueForTime": False,
        }]},
        "links": [{
            "type": "dashboards", "title": "Hearth", "tags": ["hearth"], "asDropdown": True, "includeVars": True,
            "keepTime": True, "targetBlank": False, "icon": "external link", "tooltip": "", "url": "",
        }],
        "panels": laid_out(panels),
    }


def main():
    wanted = {f"{name}.json": json.dumps(dashboard(name, *rest), indent=1) + "\n" for name, rest in DASHBOARDS.items()}
    found = {path.name: path.read_text() for path in FOLDER.glob("*.json")}
    if "--check" not in sys.argv[1:]:
        FOLDER.mkdir(exist_ok=True)
        for name, content in wanted.items():
            (FOLDER / name).write_text(content)
        for name in found.keys() - wanted.keys():
            (FOLDER / name).unlink()
        return
    wrong = sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))
    if wrong:
        sys.exit(f"not as deploy/grafana/dashboards.py writes them: {', '.join(wrong)}")


if __name__ == "__main__":
    main()
