//! The report as one page that needs nothing else: tables, and charts of the bills, the shares of the gap, and a week of
//! each home.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use jiff::Timestamp;

use crate::chart::{Chart, Style};
use crate::figures::{Costs, HomeFigures, Report};
use crate::week::{Week, WeekSlot};

const CONTENDERS: [Style; 6] = [
    solid("no battery", "#9aa0a6"),
    solid("rule", "#c58b2a"),
    solid("set-points", "#b4485a"),
    solid("Hearth", "#1f6f5c"),
    solid("perfect, by slot", "#3c6fb0"),
    solid("bound", "#7a86a8"),
];
const LOAD: Style = solid("load, kW", "#c2553d");
const PV: Style = solid("PV, kW", "#d9a514");
const BATTERY: Style = solid("battery, kW (charging above 0)", "#1f6f5c");
const CONTENT: Style = solid("content, kWh", "#1f6f5c");
const BUYS_TO: Style = dashed("buys up to", "#3c6fb0");
const STORES_TO: Style = dashed("stores PV up to", "#d9a514");
const COVERS_TO: Style = dashed("covers the load down to", "#c2553d");
const SELLS_TO: Style = dashed("sells down to", "#7d5ba6");
const PRICE: Style = solid("price of import, per kWh", "#454d5d");
const BAND: Style = solid("forecast, 10 to 90 %", "#3c6fb0");
const MEDIAN: Style = dashed("forecast, median", "#3c6fb0");
const CAME: Style = solid("what came, kW", "#c2553d");

const fn solid(name: &'static str, colour: &'static str) -> Style {
    Style {
        name,
        colour,
        is_dashed: false,
    }
}

const fn dashed(name: &'static str, colour: &'static str) -> Style {
    Style {
        is_dashed: true,
        ..solid(name, colour)
    }
}

const HEAD: &str = r#"<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Hearth: backtest</title><style>
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:64rem;padding:0 1rem;color:#22262e;background:#fff}
h1{font-size:1.6rem}h2{font-size:1.2rem;margin-top:2.5rem}h3{font-size:1rem}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;width:100%}
th,td{text-align:right;padding:.2rem .5rem;border-bottom:1px solid #e3e6ea}th:first-child,td:first-child{text-align:left}
figure{margin:.5rem 0 1.2rem}svg{width:100%;height:auto;display:block}figcaption{font-size:.85rem;color:#555c68}
.g{stroke:#e3e6ea}.t{font-size:11px;fill:#555c68}.k{margin-right:1.2rem;white-space:nowrap}
.k i{display:inline-block;width:1.4rem;margin-right:.4rem;vertical-align:middle}.bad{color:#b4485a;font-weight:600}
.wide{overflow-x:auto}
@media(prefers-color-scheme:dark){body{background:#16181d;color:#e4e6ea}th,td,.g{border-color:#343943;stroke:#343943}.t,figcaption{fill:#a9b0bb;color:#a9b0bb}}
</style>"#;

/// Returns the page. `about` says in HTML where the records come from.
#[must_use]
pub fn html(report: &Report, weeks: &BTreeMap<String, Week>, about: &str) -> String {
    let mut page = String::from(HEAD);
    page.push_str("<h1>Backtest</h1>");
    page.push_str(&summary(report));
    page.push_str("<h2>Bills side by side</h2>");
    page.push_str(&table(report));
    page.push_str(&bills(report));
    page.push_str("<h2>Share of the gap from the rule to perfect foresight</h2>");
    page.push_str(&shares(report));
    page.push_str("<h2>Forecasts</h2>");
    page.push_str(&forecasts(report));
    for (name, home) in &report.homes {
        let _ = write!(page, "<h2>{}</h2>", escaped(name));
        if let Some(week) = weeks.get(name).filter(|week| !week.slots.is_empty()) {
            page.push_str(&week_charts(week));
        }
        page.push_str(&months(home));
    }
    let _ = write!(page, "<h2>About the data</h2>{about}</html>");
    page
}

/// Returns the figures as a table for a terminal.
#[must_use]
pub fn text(report: &Report) -> String {
    let mut text = format!("{:<28}", "");
    for style in ["none", "rule", "setpoint", "hearth", "perfect", "bound"] {
        let _ = write!(text, "{style:>10}");
    }
    let _ = writeln!(text, "{:>10}{:>10}", "of gap", "setpoint");
    for (name, home) in &report.homes {
        let _ = write!(text, "{name:<28}");
        for cost in costs_of(home) {
            let _ = write!(text, "{cost:>10.2}");
        }
        let shares = [home.share_of_gap, home.share_of_gap_setpoint].map(percent);
        let _ = writeln!(text, "{:>10}{:>10}", shares[0], shares[1]);
    }
    let mean = percent(report.fleet.share_of_gap_mean);
    let _ = writeln!(text, "mean share of the gap {mean}");
    text
}

/// Replaces what HTML reads as its own.
#[must_use]
pub fn escaped(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    text.replace('>', "&gt;").replace('"', "&quot;")
}

fn percent(share: Option<f64>) -> String {
    share.map_or_else(|| "–".to_owned(), |share| format!("{:.1} %", 100.0 * share))
}

fn summary(report: &Report) -> String {
    let fleet = &report.fleet;
    let Costs { none, hearth, .. } = fleet.costs;
    format!(
        "<p>{} homes. Without a battery they pay {none:.2}, with Hearth {hearth:.2}. Hearth closes {} of the gap from a \
         plain self-consumption rule to perfect foresight (mean of the homes: {}), and saves {} of what perfect foresight \
         saves. Autarky {}.</p><p>Every contender is billed on the same recorded steps. What is left in the battery is \
         valued the same for all. Hearth and set-points know nothing but the past; <i>perfect</i> knows each slot's means, \
         <i>bound</i> each recorded step.</p>",
        fleet.homes,
        percent(fleet.share_of_gap),
        percent(fleet.share_of_gap_mean),
        percent(fleet.share_of_saving),
        percent(Some(fleet.autarky)),
    )
}

fn costs_of(home: &HomeFigures) -> [f64; 6] {
    let Costs {
        none,
        rule,
        setpoint,
        hearth,
        perfect,
    } = home.costs;
    [none, rule, setpoint, hearth, perfect, home.cost_bound]
}

fn table(report: &Report) -> String {
    let mut rows = String::from("<div class=\"wide\"><table><tr><th>home</th>");
    for style in CONTENDERS {
        let _ = write!(rows, "<th>{}</th>", style.name);
    }
    rows.push_str(
        "<th>of the gap</th><th>set-points</th><th>of the saving</th><th>loss by slots</th><th>autarky</th><th>wear, kWh</th>\
         <th>days</th></tr>",
    );
    for (name, home) in &report.homes {
        let _ = write!(rows, "<tr><td>{}</td>", escaped(name));
        for cost in costs_of(home) {
            let _ = write!(rows, "<td>{cost:.2}</td>");
        }
        let _ = write!(
            rows,
            "<td>{}</td><td>{}</td><td>{}</td><td>{:.2}</td><td>{}</td><td>{:.0}</td><td>{:.0}</td></tr>",
            percent(home.share_of_gap),
            percent(home.share_of_gap_setpoint),
            percent(home.share_of_saving),
            home.costs.perfect - home.cost_bound,
            percent(Some(home.autarky)),
            home.wear_kwh,
            home.days,
        );
    }
    rows + "</table></div>"
}

fn place(index: usize) -> f64 {
    f64::from(u32::try_from(index).unwrap_or(u32::MAX))
}

fn bills(report: &Report) -> String {
    let all = report.homes.values().flat_map(costs_of);
    let (least, most) = all.fold((0.0_f64, 0.0_f64), |(least, most), cost| {
        (least.min(cost), most.max(cost))
    });
    let homes_count = place(report.homes.len());
    let mut chart = Chart::new(
        "Bills by home and contender",
        260.0,
        homes_count,
        (least, most),
    );
    for (index, (name, home)) in report.homes.iter().enumerate() {
        let from = place(index) + 0.08;
        for (bar, (cost, style)) in costs_of(home).into_iter().zip(CONTENDERS).enumerate() {
            let left = from + 0.14 * place(bar);
            chart.bar((left, left + 0.12), cost, style);
        }
        chart.label(place(index) + 0.5, &escaped(name), "middle");
    }
    chart.finish(&CONTENDERS)
}

fn shares(report: &Report) -> String {
    let styles = [CONTENDERS[3], CONTENDERS[2]];
    let homes_count = place(report.homes.len());
    let mut chart = Chart::new("Share of the gap by home", 200.0, homes_count, (-1.0, 1.0));
    for (index, (name, home)) in report.homes.iter().enumerate() {
        let shares = [home.share_of_gap, home.share_of_gap_setpoint];
        for (bar, (share, style)) in shares.into_iter().zip(styles).enumerate() {
            if let Some(share) = share {
                let left = place(index) + 0.2 + 0.32 * place(bar);
                chart.bar((left, left + 0.28), share.clamp(-1.0, 1.0), style);
            }
        }
        chart.label(place(index) + 0.5, &escaped(name), "middle");
    }
    chart.finish(&styles)
}

fn forecasts(report: &Report) -> String {
    let mut rows = String::from(
        "<div class=\"wide\"><table><tr><th>home</th><th>load nRMSE</th><th>pinball 10</th><th>50</th><th>90</th><th>within 10–90</th>\
         <th>PV nRMSE</th><th>pinball 10</th><th>50</th><th>90</th><th>within</th><th>model</th></tr>",
    );
    for (name, home) in &report.homes {
        let _ = write!(rows, "<tr><td>{}</td>", escaped(name));
        for errors in [home.load_errors, home.pv_errors] {
            let [low, median, high] = errors.pinball;
            let _ = write!(
                rows,
                "<td>{:.3}</td><td>{low:.3}</td><td>{median:.3}</td><td>{high:.3}</td><td>{}</td>",
                errors.nrmse,
                percent(Some(errors.coverage)),
            );
        }
        let _ = write!(rows, "<td>{}</td></tr>", home.model);
    }
    rows + "</table></div><p>Forecasts of a day, made every six hours; losses over the mean power.</p>"
}

fn months(home: &HomeFigures) -> String {
    let mut rows = String::from("<div class=\"wide\"><table><tr><th>month</th>");
    for style in &CONTENDERS[..5] {
        let _ = write!(rows, "<th>{}</th>", style.name);
    }
    rows.push_str("<th>Hearth less rule</th></tr>");
    for (month, costs) in &home.months {
        let Costs {
            none,
            rule,
            setpoint,
            hearth,
            perfect,
        } = *costs;
        let class = if hearth > rule + 0.005 {
            " class=\"bad\""
        } else {
            ""
        };
        let _ = write!(
            rows,
            "<tr><td>{month}</td><td>{none:.2}</td><td>{rule:.2}</td><td>{setpoint:.2}</td><td>{hearth:.2}</td>\
             <td>{perfect:.2}</td><td{class}>{:+.2}</td></tr>",
            hearth - rule,
        );
    }
    rows + "</table></div>"
}

fn week_charts(week: &Week) -> String {
    let slots = &week.slots;
    let count = place(slots.len());
    let values = |value: fn(&WeekSlot) -> f64| slots.iter().map(move |slot| Some(value(slot)));
    let most = |value: fn(&WeekSlot) -> f64| slots.iter().map(value).fold(0.1, f64::max);
    let least = |value: fn(&WeekSlot) -> f64| slots.iter().map(value).fold(0.0, f64::min);
    let power_kw = most(|slot| slot.load_kw)
        .max(most(|slot| slot.pv_kw))
        .max(most(|slot| slot.battery_kw));
    let mut power = Chart::new(
        "Load, PV and battery",
        170.0,
        count,
        (least(|slot| slot.battery_kw), power_kw),
    );
    let mut content = Chart::new("Content and thresholds", 170.0, count, (0.0, week.most_kwh));
    let mut price = Chart::new(
        "Price",
        90.0,
        count,
        (least(|slot| slot.buy), most(|slot| slot.buy)),
    );
    let load_kw = most(|slot| slot.load_band_kw[2]).max(most(|slot| slot.load_kw));
    let mut load = Chart::new("Load, forecast and measured", 150.0, count, (0.0, load_kw));
    let pv_kw = most(|slot| slot.pv_band_kw[2]).max(most(|slot| slot.pv_kw));
    let mut pv = Chart::new("PV, forecast and measured", 150.0, count, (0.0, pv_kw));
    for chart in [&mut power, &mut content, &mut price, &mut load, &mut pv] {
        days(chart, slots);
    }
    power.line(values(|slot| slot.load_kw), LOAD);
    power.line(values(|slot| slot.pv_kw), PV);
    power.line(values(|slot| slot.battery_kw), BATTERY);
    content.line(slots.iter().map(|slot| slot.thresholds.grid), BUYS_TO);
    content.line(slots.iter().map(|slot| slot.thresholds.pv), STORES_TO);
    content.line(slots.iter().map(|slot| slot.thresholds.home), COVERS_TO);
    content.line(slots.iter().map(|slot| slot.thresholds.sold), SELLS_TO);
    content.line(values(|slot| slot.content_kwh), CONTENT);
    price.line(values(|slot| slot.buy), PRICE);
    let band = |of: fn(&WeekSlot) -> [f64; 3]| -> Vec<(f64, f64)> {
        let bands = slots.iter().map(of);
        bands.map(|[low, _, high]| (low, high)).collect()
    };
    load.band(&band(|slot| slot.load_band_kw), BAND);
    load.line(values(|slot| slot.load_band_kw[1]), MEDIAN);
    load.line(values(|slot| slot.load_kw), CAME);
    pv.band(&band(|slot| slot.pv_band_kw), BAND);
    pv.line(values(|slot| slot.pv_band_kw[1]), MEDIAN);
    pv.line(values(|slot| slot.pv_kw), CAME);
    let thresholds = [CONTENT, BUYS_TO, STORES_TO, COVERS_TO, SELLS_TO];
    [
        "<h3>A week</h3>".to_owned(),
        power.finish(&[LOAD, PV, BATTERY]),
        content.finish(&thresholds),
        price.finish(&[PRICE]),
        "<h3>Load: forecast of the midnight before, and what came</h3>".to_owned(),
        load.finish(&[BAND, MEDIAN, CAME]),
        "<h3>PV: forecast of the midnight before, and what came</h3>".to_owned(),
        pv.finish(&[BAND, MEDIAN, CAME]),
    ]
    .concat()
}

/// Marks the days, UTC.
fn days(chart: &mut Chart, slots: &[WeekSlot]) {
    const DAY_MS: i64 = 86_400_000;
    for (index, slot) in slots.iter().enumerate() {
        if slot.start_ms.rem_euclid(DAY_MS) != 0 {
            continue;
        }
        chart.mark(place(index));
        if let Ok(time) = Timestamp::from_millisecond(slot.start_ms) {
            let day = time.strftime("%a %-d %b %Y").to_string();
            chart.label(place(index), &day, "start");
        }
    }
}
