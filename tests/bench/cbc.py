"""Solves homes with PuLP and CBC: one JSON problem a line in the file named, one JSON answer a line on standard output.

A time is what a caller waits: building the program, writing it out, CBC in a process of its own, reading the solution.
A line `null` is a program of one column, which shows what all of that takes without a home in it.
Binaries stand only where doing both of two flows could pay, so that most homes without appliances have none.
"""

import json
import sys
import time

import pulp

# The relative gap that Hearth grants HiGHS. By default CBC also passes over what improves a plan by less than 1e-5.
GAP_RELATIVE = 1e-6
IMPROVEMENT_MIN = 1e-8
# What Hearth grants HiGHS for a search.
SECONDS_MAX = 10


class Program:
    """The mixed-integer program of one home."""

    def __init__(self, home):
        self.home = home
        weights = home["weights"]
        self.dt = home["slot_minutes"] / 60
        self.buy = [weights["cost"] * price + weights["autarky"] for price in home["buy_price"]]
        self.sell = [(weights["cost"] + weights["revenue"]) * price for price in home["sell_price"]]
        self.slots = range(len(self.buy))
        self.cost = []
        self.rows = []
        # What each slot takes beside the meter, and the most that may flow each way.
        self.demand = [[home["load_kw"][t]] for t in self.slots]
        self.demand_max = list(home["load_kw"])
        self.supply_max = list(home["pv_kw"])
        if home["battery"]:
            battery = home["battery"]
            self.store("battery", battery, self.slots, battery["min_soc_kwh"], battery["max_soc_kwh"])
        for ev in home["evs"]:
            low = min(ev["min_soc_kwh"], ev["soc_kwh"])
            plugged = range(ev["arrival_slot"], ev["departure_slot"])
            self.store(f"ev_{ev['id']}", ev, plugged, low, ev["capacity_kwh"])
        for appliance in home["appliances"]:
            self.appliance(appliance)
        for t in self.slots:
            self.meter(t)

    def store(self, name, store, slots, low, high):
        rise = store["charge_efficiency"] * self.dt
        fall = self.dt / store["discharge_efficiency"]
        wear = store["wear_cost_per_kwh"]
        before = store["soc_kwh"]
        for t in slots:
            charge = pulp.LpVariable(f"{name}_charge_{t}", 0, store["charge_kw"])
            soc = pulp.LpVariable(f"{name}_soc_{t}", low, high)
            change = rise * charge
            self.demand[t].append(charge)
            self.demand_max[t] += store["charge_kw"]
            self.cost.append(wear * rise * charge)
            if store["discharge_kw"] > 0:
                discharge = pulp.LpVariable(f"{name}_discharge_{t}", 0, store["discharge_kw"])
                change -= fall * discharge
                self.demand[t].append(-discharge)
                self.supply_max[t] += store["discharge_kw"]
                self.cost.append(wear * fall * discharge)
                if self.burning_pays(t, store):
                    charges = pulp.LpVariable(f"{name}_charges_{t}", cat="Binary")
                    self.rows.append(charge <= store["charge_kw"] * charges)
                    self.rows.append(discharge <= store["discharge_kw"] * (1 - charges))
            self.rows.append(soc == before + change)
            before = soc
        goal = store["goal_soc_kwh"] if "goal_soc_kwh" in store else store["end_soc_min_kwh"]
        self.rows.append(before >= goal)
        self.cost.append(-store["end_value_per_kwh"] * before)

    def burning_pays(self, t, store):
        """Whether charging and discharging at once could be worth its losses."""
        home = self.home
        if home["grid"]["export_limit_kw"] is not None and not home["pv_curtailable"]:
            return True
        loss = 1 / store["charge_efficiency"] - store["discharge_efficiency"]
        return min(self.buy[t], self.sell[t]) * loss + 2 * store["wear_cost_per_kwh"] < 0

    def appliance(self, appliance):
        profile = appliance["profile_kw"]
        latest = appliance["latest_end_slot"] - len(profile)
        starts = {
            start: pulp.LpVariable(f"{appliance['id']}_{start}", cat="Binary")
            for start in range(appliance["earliest_slot"], latest + 1)
        }
        self.rows.append(pulp.lpSum(starts.values()) == 1)
        for start, chosen in starts.items():
            for offset, power in enumerate(profile):
                self.demand[start + offset].append(power * chosen)
        for t in range(appliance["earliest_slot"], appliance["latest_end_slot"]):
            self.demand_max[t] += max(profile)

    def meter(self, t):
        home, grid = self.home, self.home["grid"]
        bought = pulp.LpVariable(f"import_{t}", 0, grid["import_limit_kw"])
        sold = pulp.LpVariable(f"export_{t}", 0, grid["export_limit_kw"])
        pv = home["pv_kw"][t]
        if home["pv_curtailable"] and pv > 0:
            pv = pulp.LpVariable(f"pv_{t}", 0, pv)
        self.rows.append(bought - sold + pv == pulp.lpSum(self.demand[t]))
        self.cost.append(self.dt * self.buy[t] * bought)
        self.cost.append(-self.dt * self.sell[t] * sold)
        if self.sell[t] > self.buy[t]:
            buys = pulp.LpVariable(f"buys_{t}", cat="Binary")
            fixed_pv = 0 if home["pv_curtailable"] else home["pv_kw"][t]
            bought_max = max(self.demand_max[t] - fixed_pv, 0)
            sold_max = max(self.supply_max[t] - home["load_kw"][t], 0)
            self.rows.append(bought <= bought_max * buys)
            self.rows.append(sold <= sold_max * (1 - buys))

    def program(self):
        program = pulp.LpProblem("home", pulp.LpMinimize)
        program += pulp.lpSum(self.cost)
        for row in self.rows:
            program += row
        return program


def one_column():
    program = pulp.LpProblem("nothing", pulp.LpMinimize)
    column = pulp.LpVariable("column", 0, 1)
    program += column
    program += column >= 0.5
    return program


def solve(home, solver):
    begun = time.perf_counter()
    program = Program(home).program() if home else one_column()
    program.solve(solver)
    objective = pulp.value(program.objective)
    return {
        "us": (time.perf_counter() - begun) * 1e6,
        "objective": objective,
        "is_proven": program.sol_status == pulp.LpSolutionOptimal,
    }


def main():
    solver = pulp.PULP_CBC_CMD(
        msg=False,
        threads=1,
        gapRel=GAP_RELATIVE,
        timeLimit=SECONDS_MAX,
        options=[f"increment {IMPROVEMENT_MIN}"],
    )
    with open(sys.argv[1], encoding="utf-8") as lines:
        homes = [json.loads(line) for line in lines]
    for home in homes:
        print(json.dumps(solve(home, solver)))


main()
