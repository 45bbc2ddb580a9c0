//! `hearth households import FILE.csv`: metadata of many homes from one file.
//!
//! Every row is checked before the first is written. A row has the effect of `PUT /api/households/{id}`. Rows that the
//! store already has are skipped, so a file may be imported again.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use api::body::MetadataBody;
use csv::StringRecord;
use futures::{StreamExt, TryStreamExt};
use model::metadata::Metadata;
use model::units::HouseholdId;
use schemas::codec::Message;
use serde_json::{Map, Value};

use platform::role_context::RoleContext;

/// Most rows that are written at the same time.
const IN_FLIGHT: usize = 64;
/// Most faults that are shown; the others are only counted.
const FAULTS_SHOWN: usize = 20;
/// Most characters of a cell that a fault shows.
const SHOWN_CHARS: usize = 40;
const PROGRESS_EVERY: Duration = Duration::from_secs(2);

/// The form of a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Text,
    Number,
    /// `true` or `false`.
    Truth,
    /// A JSON array, as in the HTTP API.
    Json,
}

impl Form {
    const fn expected(self) -> &'static str {
        match self {
            Self::Text => "a text",
            Self::Number => "a number",
            Self::Truth => "true or false",
            Self::Json => "a JSON array",
        }
    }
}

/// A column. Its name is that of the field in the HTTP API, with dots for groups.
#[derive(Debug)]
pub struct Column {
    pub name: &'static str,
    form: Form,
    /// Whether it must be filled. In a group this applies only if another column of the group is filled.
    is_required: bool,
    /// Description for people, with unit and meaning of an empty cell.
    pub about: &'static str,
}

const fn column(name: &'static str, form: Form, is_required: bool, about: &'static str) -> Column {
    Column {
        name,
        form,
        is_required,
        about,
    }
}

/// Every column that a file may have, in any order.
pub const COLUMNS: [Column; 30] = [
    column("household_id", Form::Number, true, "positive whole number"),
    column("tariff", Form::Text, true, "name of a tariff"),
    column("name", Form::Text, false, "for people"),
    column(
        "location",
        Form::Text,
        false,
        "key of the weather forecast, such as `48.14,11.58`",
    ),
    column(
        "time_zone",
        Form::Text,
        false,
        "IANA time zone, such as `Europe/Berlin`; empty: UTC",
    ),
    column(
        "position.latitude_deg",
        Form::Number,
        true,
        "degrees north; both `position` columns empty: not known",
    ),
    column("position.longitude_deg", Form::Number, true, "degrees east"),
    column(
        "pv_capacity_kw",
        Form::Number,
        false,
        "peak power of the PV plant, kW; empty: none",
    ),
    column(
        "pv_mounting.tilt_deg",
        Form::Number,
        true,
        "0 is flat, 90 upright; both `pv_mounting` columns empty: learned",
    ),
    column(
        "pv_mounting.azimuth_deg",
        Form::Number,
        true,
        "clockwise from north, 180 is south",
    ),
    column(
        "pv_curtailable",
        Form::Truth,
        false,
        "whether PV power may be curtailed; empty: false",
    ),
    column(
        "battery.capacity_kwh",
        Form::Number,
        true,
        "usable capacity, kWh; all `battery` columns empty: no battery",
    ),
    column(
        "battery.min_soc_kwh",
        Form::Number,
        true,
        "lowest content that plans use, kWh",
    ),
    column(
        "battery.max_soc_kwh",
        Form::Number,
        true,
        "highest content that plans use, kWh",
    ),
    column(
        "battery.charge_kw",
        Form::Number,
        true,
        "largest charging power, kW",
    ),
    column(
        "battery.discharge_kw",
        Form::Number,
        true,
        "largest discharging power, kW",
    ),
    column(
        "battery.charge_efficiency",
        Form::Number,
        true,
        "above 0, at most 1",
    ),
    column(
        "battery.discharge_efficiency",
        Form::Number,
        true,
        "above 0, at most 1",
    ),
    column(
        "battery.wear_cost_per_kwh",
        Form::Number,
        true,
        "currency per kWh moved",
    ),
    column(
        "grid.import_limit_kw",
        Form::Number,
        false,
        "kW; empty: none",
    ),
    column(
        "grid.export_limit_kw",
        Form::Number,
        false,
        "kW; empty: none",
    ),
    column(
        "grid.peak_price_per_kw",
        Form::Number,
        false,
        "currency per kW of the highest import; empty: 0",
    ),
    column(
        "grid.peak_kw",
        Form::Number,
        false,
        "peak that is paid for already, kW; empty: 0",
    ),
    column(
        "appliances",
        Form::Json,
        false,
        "JSON array as in `PUT /api/households/{id}`",
    ),
    column(
        "evs",
        Form::Json,
        false,
        "JSON array as in `PUT /api/households/{id}`",
    ),
    column(
        "heat_stores",
        Form::Json,
        false,
        "JSON array as in `PUT /api/households/{id}`",
    ),
    column("groups", Form::Json, false, "JSON array of names"),
    column(
        "weights.cost",
        Form::Number,
        false,
        "weight of cost; empty: 1",
    ),
    column(
        "weights.autarky",
        Form::Number,
        false,
        "weight of autarky; empty: 0",
    ),
    column(
        "weights.revenue",
        Form::Number,
        false,
        "weight of revenue; empty: 0",
    ),
];

/// A fault in a row.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {expected}")]
pub struct RowFault {
    pub line: u64,
    pub column: String,
    /// What was expected and what was found.
    pub expected: String,
}

/// The result of an import or a dry run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Imported {
    /// Homes written because they are new or differ from the store.
    pub written: u64,
    /// Homes skipped because the store has the same.
    pub unchanged: u64,
}

/// Checks every row of `file`, without log or store, and returns how many there are. Fails with the faults found.
pub fn check(file: &Path) -> Result<u64> {
    let mut lines: BTreeMap<i64, u64> = BTreeMap::new();
    let mut faults = Vec::new();
    let mut faults_count = 0_u64;
    for row in rows(file)? {
        let fault = match row {
            Ok((line, metadata)) => {
                let id = metadata.household_id.get();
                let Some(first) = lines.insert(id, line) else {
                    continue;
                };
                lines.insert(id, first);
                let expected = format!("{id} is already in line {first}");
                RowFault {
                    line,
                    column: "household_id".to_owned(),
                    expected,
                }
            }
            Err(fault) => fault,
        };
        faults_count += 1;
        if faults.len() < FAULTS_SHOWN {
            faults.push(fault.to_string());
        }
    }
    if faults_count > 0 {
        let more = faults_count - faults.len() as u64;
        if more > 0 {
            faults.push(format!("and {more} more"));
        }
        let rows = if faults_count == 1 { "row" } else { "rows" };
        bail!(
            "{}: nothing was imported, {faults_count} {rows} cannot be used:\n  {}",
            file.display(),
            faults.join("\n  ")
        );
    }
    Ok(lines.len() as u64)
}

/// Writes the rows of `file`, of which [`check`] counted `total`. A dry run only compares them with the store.
pub async fn import(
    context: &RoleContext,
    file: &Path,
    total: u64,
    dry_run: bool,
) -> Result<Imported> {
    let begun = Instant::now();
    let mut told = begun;
    let mut done = Imported::default();
    let writes = rows(file)?.map(|row| async {
        let (_, metadata) = row?;
        import_one(context, &metadata, dry_run).await
    });
    let mut writes = futures::stream::iter(writes).buffer_unordered(IN_FLIGHT);
    while let Some(is_new) = writes.try_next().await? {
        if is_new {
            done.written += 1;
        } else {
            done.unchanged += 1;
        }
        if told.elapsed() >= PROGRESS_EVERY {
            told = Instant::now();
            say(&progress(done, total, begun.elapsed()));
        }
    }
    Ok(done)
}

/// Writes one home if the store has something else. Returns whether it differed.
async fn import_one(context: &RoleContext, metadata: &Metadata, dry_run: bool) -> Result<bool> {
    let id = metadata.household_id;
    let known = context.store.household(id).await;
    let known = known.with_context(|| format!("read household {id}"))?;
    if known.as_ref() == Some(metadata) {
        return Ok(false);
    }
    if !dry_run {
        let bytes = context.codec.encode(metadata)?;
        let key = id.to_string();
        let written = context
            .log
            .produce(Metadata::TOPIC, key.as_bytes(), bytes)
            .await;
        written.with_context(|| format!("write household {id}"))?;
    }
    Ok(true)
}

#[expect(clippy::cast_precision_loss, reason = "an estimate for people")]
fn progress(done: Imported, total: u64, elapsed: Duration) -> String {
    let count = done.written + done.unchanged;
    let left_s = elapsed.as_secs_f64() / count.max(1) as f64 * (total - count) as f64;
    format!("{count} of {total} homes, about {left_s:.0} s left\n")
}

/// Returns the rows of a file, each with its line number.
fn rows(file: &Path) -> Result<impl Iterator<Item = Result<(u64, Metadata), RowFault>>> {
    let mut reader = csv::ReaderBuilder::new()
        .trim(csv::Trim::All)
        .from_path(file)
        .with_context(|| format!("read {}", file.display()))?;
    let headers = reader.headers();
    let headers = headers.with_context(|| format!("read the first line of {}", file.display()))?;
    let columns = columns(headers)?;
    Ok(reader.into_records().map(move |record| {
        let record = record.map_err(|error| RowFault {
            line: error.position().map_or(0, csv::Position::line),
            column: "all".to_owned(),
            expected: if let csv::ErrorKind::UnequalLengths { len, .. } = error.kind() {
                format!("expected {} cells, found {len}", columns.len())
            } else {
                error.to_string()
            },
        })?;
        let line = record.position().map_or(0, csv::Position::line);
        let metadata = metadata(&columns, &record).map_err(|(column, expected)| RowFault {
            line,
            column,
            expected,
        })?;
        Ok((line, metadata))
    }))
}

/// Returns the columns that the first line names.
fn columns(headers: &StringRecord) -> Result<Vec<&'static Column>> {
    let mut columns: Vec<&'static Column> = Vec::with_capacity(headers.len());
    for name in headers {
        let name = name.trim_start_matches('\u{feff}');
        let Some(column) = COLUMNS.iter().find(|column| column.name == name) else {
            let known: Vec<&str> = COLUMNS.iter().map(|column| column.name).collect();
            bail!(
                "line 1: column {name:?} is not known; known are {}",
                known.join(", ")
            );
        };
        if columns.iter().any(|other| other.name == name) {
            bail!("line 1: column {name:?} appears twice");
        }
        columns.push(column);
    }
    for needed in ["household_id", "tariff"] {
        if !columns.iter().any(|column| column.name == needed) {
            bail!("line 1: column {needed:?} is missing");
        }
    }
    Ok(columns)
}

/// Returns a row's metadata, or the wrong column and what was expected.
fn metadata(columns: &[&Column], record: &StringRecord) -> Result<Metadata, (String, String)> {
    let filled: BTreeMap<&str, &str> = columns
        .iter()
        .zip(record)
        .filter(|(_, cell)| !cell.is_empty())
        .map(|(column, cell)| (column.name, cell))
        .collect();
    let mut body = Map::new();
    for column in &COLUMNS {
        let group = column.name.split_once('.').map(|(group, _)| group);
        let Some(cell) = filled.get(column.name) else {
            let is_begun = group.is_none_or(|group| {
                let mut names = filled.keys();
                names.any(|name| name.split_once('.').is_some_and(|(of, _)| of == group))
            });
            if column.is_required && is_begun {
                let expected = format!("expected {}, found nothing", column.form.expected());
                return Err((column.name.to_owned(), expected));
            }
            continue;
        };
        let value = value(column.form, cell).ok_or_else(|| {
            let shown: String = cell.chars().take(SHOWN_CHARS).collect();
            let expected = format!("expected {}, found {shown:?}", column.form.expected());
            (column.name.to_owned(), expected)
        })?;
        match column.name.split_once('.') {
            None => body.insert(column.name.to_owned(), value),
            Some((group, field)) => body
                .entry(group)
                .or_insert_with(|| Value::Object(Map::new()))
                .as_object_mut()
                .expect("no column has a group's name")
                .insert(field.to_owned(), value),
        };
    }
    let id = body.get("household_id").and_then(Value::as_i64);
    let id = id.and_then(HouseholdId::new).ok_or_else(|| {
        let found = filled.get("household_id").copied().unwrap_or_default();
        let expected = format!("expected a positive whole number, found {found:?}");
        ("household_id".to_owned(), expected)
    })?;
    // Only the lists can still be wrong; the error names the field in them.
    let body: MetadataBody = serde_path_to_error::deserialize(Value::Object(body))
        .map_err(|error| (error.path().to_string(), error.inner().to_string()))?;
    body.into_metadata(id)
        .map_err(|fault| (fault.field, fault.expected))
}

fn value(form: Form, cell: &str) -> Option<Value> {
    match form {
        Form::Text => Some(Value::from(cell)),
        Form::Number => serde_json::from_str(cell).ok().filter(Value::is_number),
        Form::Truth => cell.parse::<bool>().ok().map(Value::from),
        Form::Json => serde_json::from_str(cell).ok().filter(Value::is_array),
    }
}

fn say(text: &str) {
    // Standard error may be closed; the import goes on.
    let _ = std::io::stderr().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_column_stands_in_the_guide() {
        let guide = include_str!("../../../docs/how-to/import-households.md");
        for column in &COLUMNS {
            let must = if column.is_required { "yes" } else { "" };
            let line = format!("| `{}` | {must} | {} |\n", column.name, column.about);
            assert!(
                guide.contains(&line),
                "docs/how-to/import-households.md lacks\n{line}"
            );
        }
        let count = guide.lines().filter(|line| line.starts_with("| `")).count();
        assert_eq!(count, COLUMNS.len());
    }

    fn file(text: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(text.as_bytes()).expect("write it");
        file
    }

    /// Checks the faults of a file, one per line, without the heading.
    #[track_caller]
    fn check_faults(text: &str, expected: &[&str]) {
        let file = file(text);
        let fault = check(file.path()).unwrap_err().to_string();
        let lines: Vec<&str> = fault.lines().skip(1).map(str::trim).collect();
        assert_eq!(lines, expected, "{fault}");
    }

    #[test]
    fn a_row_becomes_metadata() {
        let text = "\u{feff}tariff,household_id,name,pv_capacity_kw,battery.capacity_kwh,battery.min_soc_kwh,\
                    battery.max_soc_kwh,battery.charge_kw,battery.discharge_kw,battery.charge_efficiency,\
                    battery.discharge_efficiency,battery.wear_cost_per_kwh,grid.import_limit_kw,appliances\n\
                    flat, 7 ,\"Anna, upstairs\",9.5,10,1,9.5,5,5,0.95,0.95,0.02,17.25,\
                    \"[{\"\"id\"\":\"\"washer\"\",\"\"profile_kw\"\":[2,0.5],\"\"window_start_min\"\":480,\"\"window_end_min\"\":1200}]\"\n\
                    flat,8,,,,,,,,,,,,\n";
        let file = file(text);
        assert_eq!(check(file.path()).unwrap(), 2);
        let rows: Vec<_> = rows(file.path()).unwrap().map(Result::unwrap).collect();
        let (line, first) = &rows[0];
        assert_eq!((*line, first.household_id.get()), (2, 7));
        assert_eq!(first.name, "Anna, upstairs");
        assert_eq!(first.pv_capacity_kw, 9.5);
        assert_eq!(first.battery.as_ref().unwrap().max_soc_kwh, 9.5);
        assert_eq!(first.grid.import_limit_kw, Some(17.25));
        assert_eq!(first.appliances[0].profile_kw, [2.0, 0.5]);
        let (line, second) = &rows[1];
        assert_eq!((*line, second.household_id.get()), (3, 8));
        assert!(second.battery.is_none() && second.grid.import_limit_kw.is_none());
        assert_eq!((second.weights.cost, second.weights.autarky), (1.0, 0.0));
    }

    #[test]
    fn every_fault_names_line_column_and_value() {
        check_faults(
            "household_id,tariff,pv_capacity_kw,pv_curtailable\n\
             0,flat,1,true\n\
             7.5,flat,1,true\n\
             7,,1,true\n\
             8,flat,ten,true\n\
             9,flat,-1,true\n\
             10,flat,1,yes\n\
             11,flat,1,true\n\
             11,flat,1,true\n\
             12,flat\n",
            &[
                "line 2, column household_id: expected a positive whole number, found \"0\"",
                "line 3, column household_id: expected a positive whole number, found \"7.5\"",
                "line 4, column tariff: expected a text, found nothing",
                "line 5, column pv_capacity_kw: expected a number, found \"ten\"",
                "line 6, column pv_capacity_kw: expected 0 to 10000, found -1",
                "line 7, column pv_curtailable: expected true or false, found \"yes\"",
                "line 9, column household_id: 11 is already in line 8",
                "line 10, column all: expected 4 cells, found 2",
            ],
        );
    }

    #[test]
    fn places_and_assets_are_read_and_faults_in_lists_are_named() {
        let text = "household_id,tariff,time_zone,position.latitude_deg,position.longitude_deg,groups,heat_stores\n\
                    7,flat,Europe/Berlin,48.1,11.6,\"[\"\"feeder 7\"\"]\",\
                    \"[{\"\"id\"\":\"\"tank\"\",\"\"power_kw\"\":2,\"\"kwh_per_k\"\":0.35,\"\"min_c\"\":45,\"\"max_c\"\":60,\"\"ambient_c\"\":18}]\"\n";
        let file = file(text);
        let (_, home) = rows(file.path()).unwrap().next().unwrap().unwrap();
        assert_eq!(home.time_zone, "Europe/Berlin");
        assert_eq!(home.position.unwrap().latitude_deg, 48.1);
        assert_eq!(home.groups, ["feeder 7"]);
        assert_eq!(home.heat_stores[0].cop, 1.0);
        check_faults(
            "household_id,tariff,time_zone,evs,position.latitude_deg\n\
             7,flat,Berlin,,\n\
             8,flat,,\"[{\"\"id\"\":\"\"car\"\"}]\",\n\
             9,flat,,,48\n",
            &[
                "line 2, column time_zone: expected an IANA time zone such as Europe/Berlin, found \"Berlin\"",
                "line 3, column evs[0]: missing field `capacity_kwh`",
                "line 4, column position.longitude_deg: expected a number, found nothing",
            ],
        );
    }

    #[test]
    fn a_battery_is_whole_or_absent() {
        check_faults(
            "household_id,tariff,battery.capacity_kwh\n7,flat,10\n",
            &["line 2, column battery.min_soc_kwh: expected a number, found nothing"],
        );
    }

    #[test]
    fn many_faults_are_counted() {
        let mut text = "household_id,tariff\n".to_owned();
        text.push_str(&"0,flat\n".repeat(25));
        let file = file(&text);
        let fault = check(file.path()).unwrap_err().to_string();
        assert!(fault.contains("25 rows cannot be used"), "{fault}");
        assert!(fault.ends_with("and 5 more"), "{fault}");
    }

    #[test]
    fn columns_are_checked_before_rows() {
        for (text, expected) in [
            ("household_id,tarif\n", "column \"tarif\" is not known"),
            ("household_id\n", "column \"tariff\" is missing"),
            (
                "tariff,household_id,tariff\n",
                "column \"tariff\" appears twice",
            ),
        ] {
            let file = file(text);
            let fault = check(file.path()).unwrap_err().to_string();
            assert!(fault.contains(expected), "{fault}");
        }
    }
}
