//! `hearth backtest`: reads records, lives them through on all cores, and writes the report. All IO of this crate is here.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::Args;
use flate2::read::MultiGzDecoder;
use indicatif::{ProgressBar, ProgressStyle};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use model::units::DAY_MS;

use crate::figures::Report;
use crate::layouts::{self, CityLearnTexts, Layout, OwnHome};
use crate::page;
use crate::recorded::{PricesKnown, Recorded};
use crate::run::{Outcome, passes, run};
use crate::source::Source;
use crate::sunshine::Sunshine;
use crate::tariffs::{MarketPrices, TariffChoice};

/// Replays recorded homes at their own resolution and compares what they would have paid.
///
/// DATA are folders or files: one CSV or gzipped CSV a home, `ts,load_w,pv_w,buy_price,sell_price` in UTC, with `homes.toml`
/// beside it; or the open records of CityLearn, EMHASS, and minute loads with `pv_rooftop7kw_west_us_5min.csv.gz` beside them.
#[derive(Debug, Args)]
pub struct Options {
    /// Folders or files with records.
    #[arg(required = true)]
    data: Vec<PathBuf>,
    /// Folder for `report.json` and `report.html`.
    #[arg(long)]
    out: PathBuf,
    /// Prices: `own` for those of the record, `flat:BUY/SELL`, or `spot:FILE:MARKUP/SELL` with SMARD's day-ahead prices; per
    /// kWh.
    #[arg(long, default_value = "own")]
    tariff: TariffChoice,
    /// Only homes whose name begins with one of these.
    #[arg(long, value_delimiter = ',')]
    homes: Vec<String>,
    /// Days that count, the last ones; all but the first two weeks by default.
    #[arg(long)]
    days: Option<u32>,
    /// Leaves out what was recorded before this date, UTC.
    #[arg(long)]
    from: Option<Date>,
    /// Leaves out what was recorded from this date on, UTC.
    #[arg(long)]
    until: Option<Date>,
}

/// Days before those that count, where nothing else is said.
const PAST_DAYS: i64 = 14;
/// Largest text that is read, bytes.
const TEXT_BYTES_MAX: u64 = 1 << 30;

/// Runs the command.
///
/// # Errors
/// If a record cannot be read or the report cannot be written.
pub fn execute(options: &Options) -> Result<Report> {
    let mut sources = Vec::new();
    for path in &options.data {
        sources.extend(read(path)?);
    }
    let is_wanted = |name: &str| {
        let mut prefixes = options.homes.iter();
        options.homes.is_empty() || prefixes.any(|prefix| name.starts_with(prefix.as_str()))
    };
    sources.retain(|source| is_wanted(&source.name));
    ensure!(!sources.is_empty(), "no record of a home was found");
    let names: BTreeSet<&str> = sources.iter().map(|source| source.name.as_str()).collect();
    ensure!(
        names.len() == sources.len(),
        "two homes have the same name: {}",
        Vec::from_iter(names).join(", ")
    );
    let attributions: BTreeSet<&str> = sources.iter().map(|source| source.attribution).collect();
    let mut about = String::new();
    for attribution in attributions {
        about = about + "<p>" + &page::escaped(attribution) + "</p>";
    }
    let market = match &options.tariff {
        TariffChoice::Spot { file, .. } => {
            about.push_str("<p>Day-ahead prices: Bundesnetzagentur, SMARD.de, CC BY 4.0.</p>");
            let prices = MarketPrices::parse(&text_of(file)?);
            Some(prices.map_err(|wrong| anyhow!("{}: {wrong}", file.display()))?)
        }
        TariffChoice::Own | TariffChoice::Flat { .. } => None,
    };
    let homes: Vec<Recorded> = sources
        .into_iter()
        .map(|source| {
            let name = source.name.clone();
            recorded(source, options, market.as_ref()).with_context(|| format!("home {name}"))
        })
        .collect::<Result<_>>()?;
    let outcomes = side_by_side(&homes);
    let (mut figures, mut weeks) = (BTreeMap::new(), BTreeMap::new());
    for (home, outcome) in homes.iter().zip(outcomes) {
        figures.insert(home.name.clone(), outcome.figures);
        weeks.insert(home.name.clone(), outcome.week);
    }
    let report = Report::of(figures);
    std::fs::create_dir_all(&options.out)
        .with_context(|| format!("create {}", options.out.display()))?;
    let json = serde_json::to_string_pretty(&report).context("write the report")? + "\n";
    write(&options.out.join("report.json"), &json)?;
    write(
        &options.out.join("report.html"),
        &page::html(&report, &weeks, &about),
    )?;
    Ok(report)
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| format!("write {}", path.display()))
}

/// Lives the homes through on all cores, the longest first.
fn side_by_side(homes: &[Recorded]) -> Vec<Outcome> {
    let steps = homes
        .iter()
        .map(|home| home.steps_count() * passes())
        .sum::<usize>();
    let bar = ProgressBar::new(u64::try_from(steps).unwrap_or(u64::MAX));
    let style =
        ProgressStyle::with_template("{wide_bar} {percent} %  {elapsed} of about {duration}")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
    bar.set_style(style);
    let mut order: Vec<usize> = (0..homes.len()).collect();
    order.sort_by_key(|index| std::cmp::Reverse(homes[*index].steps_count()));
    let next = AtomicUsize::new(0);
    let outcomes: Vec<Mutex<Option<Outcome>>> = homes.iter().map(|_| Mutex::new(None)).collect();
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..cores.min(homes.len()) {
            scope.spawn(|| {
                while let Some(index) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let mut progress = |steps: usize| bar.inc(u64::try_from(steps).unwrap_or(0));
                    let outcome = run(&homes[*index], &mut progress);
                    let mut place = outcomes[*index].lock().expect("no thread has panicked");
                    *place = Some(outcome);
                }
            });
        }
    });
    bar.finish_and_clear();
    let outcomes = outcomes.into_iter().map(|place| {
        let outcome = place.into_inner().expect("no thread has panicked");
        outcome.expect("each home was lived through")
    });
    outcomes.collect()
}

/// Chooses the days and the prices of a record.
fn recorded(source: Source, options: &Options, market: Option<&MarketPrices>) -> Result<Recorded> {
    let count = source.load_w.len();
    let index_of = |date: Date| -> Result<usize> {
        let time = date.to_zoned(TimeZone::UTC).context("read the date")?;
        let past_ms = time.timestamp().as_millisecond() - source.start_ms;
        let index = usize::try_from(past_ms.div_euclid(source.step.ms()).max(0))?;
        Ok(index.min(count))
    };
    // Slots begin with a record.
    let per_day = source.step.per_day();
    let first_ms = source.start_ms.rem_euclid(DAY_MS);
    let first = usize::try_from((DAY_MS - first_ms).rem_euclid(DAY_MS) / source.step.ms())?;
    let from = options.from.map_or(Ok(first), index_of)?.max(first);
    let until = options.until.map_or(Ok(count), index_of)?;
    let past = usize::try_from(PAST_DAYS)? * per_day;
    ensure!(
        until > from + past.min(per_day),
        "there are less than two days"
    );
    let steps = from..until;
    let times = steps
        .clone()
        .map(|index| source.start_ms + i64::try_from(index).unwrap_or(i64::MAX) * source.step.ms());
    let (buy, sell, prices_known) = match (&options.tariff, market) {
        (TariffChoice::Own, _) => {
            let Some((buy, sell)) = &source.prices else {
                bail!("it has no prices of its own: choose a tariff");
            };
            let (buy, sell) = (buy[steps.clone()].to_vec(), sell[steps.clone()].to_vec());
            (buy, sell, source.prices_known)
        }
        (TariffChoice::Flat { buy, sell }, _) => (
            vec![*buy; steps.len()],
            vec![*sell; steps.len()],
            PricesKnown::Always,
        ),
        (TariffChoice::Spot { markup, sell, .. }, Some(market)) => (
            times.map(|ms| market.per_kwh(ms) + markup).collect(),
            vec![*sell; steps.len()],
            PricesKnown::DayAhead,
        ),
        (TariffChoice::Spot { .. }, None) => bail!("the market's prices were not read"),
    };
    let scored = options
        .days
        .map_or(steps.len().saturating_sub(past), |days| {
            steps.len().min(days as usize * per_day)
        });
    Ok(Recorded {
        name: source.name,
        location: source.location,
        start_ms: source.start_ms + i64::try_from(from)? * source.step.ms(),
        step: source.step,
        load_w: source.load_w[steps.clone()].to_vec(),
        pv_w: source.pv_w[steps.clone()].to_vec(),
        pv_capacity_kw: source.pv_capacity_kw,
        buy,
        sell,
        prices_known,
        battery: source.battery,
        grid: source.grid,
        pv_curtailable: source.pv_curtailable,
        scored_from: steps.len() - scored,
    })
}

/// Reads a text, compressed or not.
fn text_of(path: &Path) -> Result<String> {
    let file = std::fs::File::open(path).with_context(|| format!("open {}", path.display()))?;
    let mut text = String::new();
    let read = if path.extension().is_some_and(|ending| ending == "gz") {
        let plain = MultiGzDecoder::new(file);
        plain.take(TEXT_BYTES_MAX).read_to_string(&mut text)
    } else {
        file.take(TEXT_BYTES_MAX).read_to_string(&mut text)
    };
    read.with_context(|| format!("read {}", path.display()))?;
    Ok(text)
}

/// Returns the homes of a folder or a file.
fn read(path: &Path) -> Result<Vec<Source>> {
    if !path.is_dir() {
        return read_file(path);
    }
    let entries = std::fs::read_dir(path).with_context(|| format!("read {}", path.display()))?;
    let mut files = Vec::new();
    for entry in entries {
        let file = entry.context("read the folder")?.path();
        let name = file.to_string_lossy();
        if name.ends_with(".csv") || name.ends_with(".csv.gz") {
            files.push(file);
        }
    }
    files.sort();
    let mut sources = Vec::new();
    for file in files {
        sources.extend(read_file(&file)?);
    }
    Ok(sources)
}

/// Returns the homes of a file; none if it holds something else, such as weather.
fn read_file(path: &Path) -> Result<Vec<Source>> {
    let text = text_of(path)?;
    let beside = |name: &str| text_of(&path.with_file_name(name));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let name = name.trim_end_matches(".gz").trim_end_matches(".csv");
    let found = match Layout::of(&text) {
        None => return Ok(Vec::new()),
        Some(Layout::Own) => {
            let homes = beside("homes.toml")?;
            let homes: BTreeMap<String, OwnHome> =
                toml::from_str(&homes).context("read homes.toml")?;
            let home = homes.get(name);
            let home = home.with_context(|| format!("homes.toml has no table [{name}]"))?;
            layouts::own(name, &text, home).map(|home| vec![home])
        }
        Some(Layout::CityLearn) => layouts::citylearn(CityLearnTexts {
            load: &text,
            solar: &beside("solar_w_per_kwp.csv")?,
            price: &beside("price_carbon.csv")?,
            buildings: &beside("building_attributes.json")?,
        }),
        Some(Layout::Emhass) => layouts::emhass(name, &text).map(|home| vec![home]),
        Some(Layout::Minutes) => {
            let sun = Sunshine::parse(&beside("pv_rooftop7kw_west_us_5min.csv.gz")?);
            sun.and_then(|sun| layouts::minutes(name, &text, &sun))
                .map(|home| vec![home])
        }
    };
    found.map_err(|wrong| anyhow!("{}: {wrong}", path.display()))
}
