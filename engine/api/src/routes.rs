//! The HTTP API: reads from the store, writes to the log. It keeps no state of homes, so any number of it may run.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crate::body::{
    AlertBody, AlertsBody, CommandBody, CommandsBody, LatestBody, MetadataBody, OptimizeBody,
    RollingBody, SavingsBody, ScheduleBody, SlotBody, TariffBody, TariffSpan, TariffsBody,
};
use actix_web::{HttpRequest, HttpResponse, Resource, Route, guard, web};
use household::asset_problems::AssetInput;
use household::household::Household;
use household::inputs::Inputs;
use household::planning::{self, PlanningInput};
use household::runs::runs;
use household::settings::Settings;
use model::metadata::Metadata;
use model::problem::Problem;
use model::request::OptimizeRequest;
use model::rolling::Rolling;
use model::slot::Slot;
use model::tariff::Tariff;
use model::units::{DAY_MS, HOUR_MS, HouseholdId, MINUTE_MS, SlotLength};
use schemas::codec::Message;
use schemas::mqtt::rfc3339;
use serde::Serialize;
use tracing::warn;

use crate::config::HttpConfig;
use crate::events;
use crate::live::{Live, Waiter};
use crate::prices::Prices;
use crate::problem::Refused;
use crate::request::{Json, Query, parse_id};
use platform::log::NewRecord;
use platform::role_context::RoleContext;
use platform::trace::{Caller, Span, SpanKind, TRACEPARENT};
use schemas::snapshot;

const HOURS_MAX: u32 = 24 * 31;
const PAGE_MAX: u32 = 1_000;

/// What the routes share.
#[derive(Debug, Clone)]
pub struct Api {
    context: RoleContext,
    settings: Settings,
    wait_max: Duration,
    requests_count: Arc<AtomicU64>,
    pub(crate) live: Live,
    prices: Prices,
    /// Clients of `/api/events`.
    clients_count: Arc<AtomicUsize>,
}

impl Api {
    /// Makes the API of this role context. Listens to the log from now on, so it must be called inside a runtime.
    #[must_use]
    pub fn new(context: RoleContext, config: &HttpConfig, settings: Settings) -> Self {
        Self {
            live: Live::start(&context),
            prices: Prices::start(&context),
            clients_count: Arc::default(),
            context,
            settings,
            wait_max: Duration::from_secs(config.wait_s_max),
            requests_count: Arc::default(),
        }
    }
}

impl Api {
    /// Takes over what someone who knows the meters tells of bills, for `GET /api/fleet`.
    pub fn tell_savings(&self, savings: SavingsBody) {
        self.live.tell_savings(savings);
    }
}

/// A path, with the methods that it is known with; any other is refused with their list.
pub(crate) fn known(path: &str, allow: &'static str) -> Resource {
    let refuse = move |request: HttpRequest| async move {
        Err::<HttpResponse, Refused>(Refused::method(request.method().as_str(), allow))
    };
    web::resource(path).default_service(web::to(refuse))
}

/// GET, and HEAD, which is the same without the body.
pub(crate) fn reading() -> Route {
    web::route().guard(guard::Any(guard::Get()).or(guard::Head()))
}

/// Adds the routes.
pub fn routes(app: &mut web::ServiceConfig) {
    let (read, read_put) = ("GET, HEAD", "GET, HEAD, PUT");
    app.service(known("/", read).route(reading().to(console)))
        .service(known("/openapi.json", read).route(reading().to(openapi)))
        .service(known("/api/latest/{household_id}", read).route(reading().to(latest)))
        .service(known("/api/optimize", "POST").route(web::post().to(optimize)))
        .service(known("/api/schedule/{id}", read).route(reading().to(schedule)))
        .service(known("/api/households", read).route(reading().to(households)))
        .service(
            known("/api/households/{id}", read_put)
                .route(reading().to(household))
                .route(web::put().to(put_household)),
        )
        .service(known("/api/households/{id}/commands", read).route(reading().to(commands)))
        .service(known("/api/households/{id}/alerts", read).route(reading().to(alerts)))
        .service(known("/api/tariffs", read).route(reading().to(tariffs)))
        .service(
            known("/api/tariffs/{name}", read_put)
                .route(reading().to(tariff))
                .route(web::put().to(put_tariff)),
        )
        .service(known("/api/fleet", read).route(reading().to(fleet)))
        .service(known("/api/events", "GET").route(web::get().to(events)));
}

async fn console() -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/html; charset=utf-8")
        .insert_header((
            "content-security-policy",
            "default-src 'self' 'unsafe-inline'",
        ))
        .body(include_str!("../console/index.html"))
}

async fn openapi() -> HttpResponse {
    HttpResponse::Ok()
        .content_type("application/json")
        .body(include_str!("../openapi.json"))
}

async fn latest(
    api: web::Data<Api>,
    id: web::Path<String>,
    query: Query,
) -> Result<HttpResponse, Refused> {
    let id = parse_id(&id)?;
    let hours = query.whole("hours", 1..=HOURS_MAX)?.unwrap_or(24);
    let now_ms = api.context.clock.now_ms();
    let from_ms = now_ms - i64::from(hours.max(25)) * HOUR_MS;
    let slots = api.slots(id, from_ms, now_ms).await?;
    if slots.is_empty() && api.context.store.household(id).await?.is_none() {
        return Err(Refused::not_found(format!(
            "household {id} has no readings and no metadata"
        )));
    }
    let tariff = api.tariff_of(id, from_ms, now_ms + DAY_MS).await?;
    let shown_ms = now_ms - i64::from(hours) * HOUR_MS;
    let bodies = slots
        .iter()
        .filter(|slot| end_ms(slot) > shown_ms)
        .map(|slot| {
            let period = tariff
                .as_ref()
                .and_then(|tariff| tariff.at_ms(slot.start_ms));
            SlotBody::of(slot, period, end_ms(slot) > now_ms)
        });
    Ok(HttpResponse::Ok().json(LatestBody {
        household_id: id,
        now: rfc3339(now_ms),
        slots: bodies.collect(),
        rolling: RollingBody::from(Rolling::of(&slots, now_ms)),
    }))
}

/// When a slot ends. It may be of another length than slots have now.
fn end_ms(slot: &Slot) -> i64 {
    slot.start_ms + i64::from(slot.slot_minutes) * MINUTE_MS
}

/// Start and minutes of the part of the open slot that no row holds, where `last` is the newest row. Rows of shorter
/// slots stand at the start of the open one if `engine.slot_minutes` was changed within it.
fn open_part(last: Option<&Slot>, length: SlotLength, now_ms: i64) -> Option<(i64, u32)> {
    let start_ms = length.start_of_ms(now_ms);
    let open_ms = last.map_or(start_ms, |last| start_ms.max(end_ms(last)));
    let minutes = (start_ms + length.ms() - open_ms) / MINUTE_MS;
    let minutes = u32::try_from(minutes).ok()?;
    (open_ms <= now_ms && minutes > 0).then_some((open_ms, minutes))
}

impl Api {
    /// Slots of the store, and those that are not there yet: the open one from its readings, where they are stored, or
    /// all from the household's snapshot, which its engine writes every `engine.checkpoint_ms`. The store answers
    /// whoever owns the household, also while it has no owner.
    async fn slots(
        &self,
        id: HouseholdId,
        from_ms: i64,
        now_ms: i64,
    ) -> Result<Vec<Slot>, Refused> {
        let length = self.settings.slot;
        let mut slots = self.context.store.slots(id, from_ms, now_ms).await?;
        let hold_ms = self.settings.hold_ms;
        if let Some((open_ms, minutes)) = open_part(slots.last(), length, now_ms) {
            let end_ms = open_ms + i64::from(minutes) * MINUTE_MS;
            let readings = self
                .context
                .store
                .readings(id, open_ms - hold_ms, end_ms)
                .await?;
            if readings.is_empty() {
                self.add_unstored(id, from_ms..=now_ms, &mut slots).await?;
            } else {
                let timed = readings.iter().map(|read| (read.ts_ms, read.measurement));
                slots.push(Slot::of(open_ms, minutes, hold_ms, now_ms, timed));
            }
        }
        Ok(slots)
    }

    /// Adds the slots that are in the household's snapshot alone.
    async fn add_unstored(
        &self,
        id: HouseholdId,
        span_ms: RangeInclusive<i64>,
        slots: &mut Vec<Slot>,
    ) -> Result<(), Refused> {
        let Some(household) = self.saved(id).await? else {
            return Ok(());
        };
        let known: BTreeSet<i64> = slots.iter().map(|slot| slot.start_ms).collect();
        let recent = household
            .recent_slots(*span_ms.end(), &self.settings)
            .into_iter();
        slots.extend(recent.filter(|slot| {
            let is_new = span_ms.contains(&slot.start_ms) && !known.contains(&slot.start_ms);
            is_new && slot.samples_count() > 0
        }));
        slots.sort_by_key(|slot| slot.start_ms);
        Ok(())
    }

    /// The home as its engine saved it last; `None` if there is nothing that can be read.
    async fn saved(&self, id: HouseholdId) -> Result<Option<Household>, Refused> {
        let Some(state) = self.context.store.snapshot(id).await? else {
            return Ok(None);
        };
        let household = snapshot::household::<Household>(&state);
        if let Err(reason) = &household {
            warn!(household = %id, %reason, "cannot look into a snapshot");
        }
        Ok(household.ok())
    }

    async fn tariff_of(
        &self,
        id: HouseholdId,
        from_ms: i64,
        to_ms: i64,
    ) -> Result<Option<Tariff>, Refused> {
        match self.context.store.household(id).await? {
            Some(metadata) => Ok(self
                .context
                .store
                .tariff(&metadata.tariff, from_ms, to_ms)
                .await?),
            None => Ok(None),
        }
    }

    /// The engine's own problem for a home, stated from the store.
    async fn own_problem(&self, id: HouseholdId, now_ms: i64) -> Result<Problem, Refused> {
        let store = &self.context.store;
        let Some(metadata) = store.household(id).await? else {
            return Err(Refused::not_found(format!(
                "household {id} has no metadata"
            )));
        };
        let length = self.settings.slot;
        let start_ms = length.start_of_ms(now_ms);
        // With the open slot, as in the engine: a home's first quarter hour has no other input.
        let slots = self.slots(id, start_ms - DAY_MS, now_ms).await?;
        let ended = slots.partition_point(|slot| end_ms(slot) <= start_ms);
        // As its engine saved it last, and the slots since.
        let saved = self.saved(id).await?;
        let home = saved.unwrap_or_else(|| Household::newborn(id));
        let assets = home.assets().clone();
        // As the engine has it, which does not wait for the store.
        let tariff = self.prices.get(&metadata.tariff)?;
        let commands = store.commands(id, start_ms - DAY_MS, now_ms).await?;
        let mut problem = planning::problem(&PlanningInput {
            metadata: &metadata,
            past: &home.past_with(&metadata, &slots[..ended], &self.settings),
            tariff: tariff.as_deref(),
            inputs: Inputs::of(&slots, now_ms, length),
            runs: &runs(&commands, now_ms),
            now_ms,
            settings: &self.settings,
        })
        .map_err(|reason| {
            Refused::conflict(format!("household {id} cannot be planned: {reason}"))
        })?;
        let assets = AssetInput {
            metadata: &metadata,
            assets: &assets,
            fresh_from_ms: now_ms.saturating_sub(self.settings.stale_after_ms),
            now_ms,
        };
        assets.add_to(&mut problem);
        Ok(problem)
    }

    /// Event time, and a number that no other process and call gives: the id must stay one for one question.
    fn request_id(&self, problem: &Problem) -> String {
        let number = self.requests_count.fetch_add(1, Ordering::Relaxed);
        let (id, start_ms) = (problem.household_id, problem.start_ms);
        let (pid, wall_ms) = (std::process::id(), platform::clock::wall_ms());
        format!("{id}-{start_ms}-a{wall_ms:x}{pid:x}{number:x}")
    }

    async fn produce<T: Message>(&self, cause: &Span, key: &str, value: &T) -> Result<(), Refused> {
        let bytes = self
            .context
            .codec
            .encode(value)
            .map_err(|error| Refused::bad_request(error.to_string()))?;
        let way = self.context.tracer.publish(cause.context(), T::TOPIC);
        let record = NewRecord {
            topic: T::TOPIC,
            key: key.as_bytes(),
            value: &bytes,
            trace: way.context(),
        };
        self.context.log.produce_traced(record).await?;
        Ok(())
    }

    /// Begins the span of a request that writes, or follows the client's trace.
    fn trace(&self, request: &HttpRequest, id: HouseholdId) -> Span {
        let header = request.headers().get(TRACEPARENT);
        let caller = header.map_or(Caller::Unknown, |header| Caller::read(header.as_bytes()));
        let mut span = self.context.tracer.head(SpanKind::Server, caller, || {
            let path = request.match_pattern().unwrap_or_default();
            format!("{} {path}", request.method())
        });
        span.set("hearth.household_id", id.get());
        span
    }

    /// Whether the tariffs are still being read.
    #[cfg(test)]
    pub(crate) fn tariffs_are_unread(&self) -> bool {
        self.prices.all().is_err()
    }

    /// Ends what listens to the log, and the streams of events.
    pub(crate) fn close(&self) {
        self.live.close();
        self.prices.close();
    }
}

#[derive(Debug, Serialize)]
struct Queued {
    id: String,
    status: &'static str,
}

async fn optimize(
    api: web::Data<Api>,
    http: HttpRequest,
    query: Query,
    body: Json<OptimizeBody>,
) -> Result<HttpResponse, Refused> {
    let wait = query.seconds("wait", api.wait_max.as_secs_f64())?;
    let Json(body) = body;
    let id = body.household_id()?;
    let span = api.trace(&http, id);
    let now_ms = api.context.clock.now_ms();
    let adopt = body.is_household_alone();
    let base = match api.own_problem(id, now_ms).await {
        Ok(own) => Some(own),
        // A whole problem needs nothing of what the engine knows.
        Err(_) if body.is_whole() => None,
        Err(refused) => return Err(refused),
    };
    let problem = body.into_problem(base.as_ref())?;
    scheduler::validate(&problem)?;
    let request = OptimizeRequest {
        request_id: api.request_id(&problem),
        household_id: id,
        requested_ms: now_ms,
        adopt,
        problem,
    };
    // Whoever waits listens before the question is asked.
    let waiter = wait.map(|_| api.live.wait_for(&request.request_id));
    let waiter: Option<Waiter> = waiter.transpose()?;
    api.produce(&span, &id.to_string(), &request).await?;
    if let (Some(waiter), Some(wait)) = (waiter, wait)
        && let Some(schedule) = waiter.wait(Duration::from_secs_f64(wait)).await?
    {
        return Ok(HttpResponse::Ok().json(ScheduleBody::from(schedule.as_ref())));
    }
    Ok(HttpResponse::Accepted().json(Queued {
        id: request.request_id,
        status: "queued",
    }))
}

async fn schedule(api: web::Data<Api>, id: web::Path<String>) -> Result<HttpResponse, Refused> {
    let found = match HouseholdId::parse(&id) {
        Some(household_id) => api.context.store.latest_schedule(household_id).await?,
        None if is_schedule_id(&id) => api.context.store.schedule(&id).await?,
        None => {
            let expected = "a household id or a schedule id";
            return Err(Refused::bad_parameter("id", expected, &id));
        }
    };
    match found {
        Some(schedule) => Ok(HttpResponse::Ok().json(ScheduleBody::from(&schedule))),
        None => Err(Refused::not_found(format!("there is no schedule for {id}"))),
    }
}

fn is_schedule_id(text: &str) -> bool {
    text.split_once('-')
        .is_some_and(|(id, rest)| HouseholdId::parse(id).is_some() && !rest.is_empty())
}

#[derive(Debug, Serialize)]
struct Page {
    households: Vec<MetadataBody>,
    /// Pass it as `after` for the next page; null at the end.
    next: Option<HouseholdId>,
}

async fn households(api: web::Data<Api>, query: Query) -> Result<HttpResponse, Refused> {
    let after = query.text("after")?.map(parse_after).transpose()?;
    let limit = query.whole("limit", 1..=PAGE_MAX)?.unwrap_or(100) as usize;
    let found = api.context.store.households(after, limit).await?;
    let next = if found.len() == limit {
        found.last().map(|last| last.household_id)
    } else {
        None
    };
    let households = found.iter().map(MetadataBody::from).collect();
    Ok(HttpResponse::Ok().json(Page { households, next }))
}

async fn household(api: web::Data<Api>, id: web::Path<String>) -> Result<HttpResponse, Refused> {
    let id = parse_id(&id)?;
    match api.context.store.household(id).await? {
        Some(metadata) => Ok(HttpResponse::Ok().json(MetadataBody::from(&metadata))),
        None => Err(Refused::not_found(format!(
            "household {id} has no metadata"
        ))),
    }
}

fn parse_after(text: &str) -> Result<HouseholdId, Refused> {
    let expected = "a positive 63-bit integer";
    HouseholdId::parse(text).ok_or_else(|| Refused::bad_parameter("after", expected, text))
}

/// Answered once the log has it; the engine stores it.
async fn put_household(
    api: web::Data<Api>,
    http: HttpRequest,
    id: web::Path<String>,
    body: Json<MetadataBody>,
) -> Result<HttpResponse, Refused> {
    let id = parse_id(&id)?;
    let Json(body) = body;
    let metadata: Metadata = body.into_metadata(id)?;
    metadata.check_runs(api.settings.slot)?;
    let span = api.trace(&http, id);
    api.produce(&span, &id.to_string(), &metadata).await?;
    Ok(HttpResponse::Accepted().json(MetadataBody::from(&metadata)))
}

/// A home's commands of the last hours and those that are still to come.
async fn commands(
    api: web::Data<Api>,
    id: web::Path<String>,
    query: Query,
) -> Result<HttpResponse, Refused> {
    let id = parse_id(&id)?;
    let hours = query.whole("hours", 1..=HOURS_MAX)?.unwrap_or(24);
    let now_ms = api.context.clock.now_ms();
    let (from_ms, to_ms) = (now_ms - i64::from(hours) * HOUR_MS, now_ms + DAY_MS);
    let found = api.context.store.commands(id, from_ms, to_ms).await?;
    Ok(HttpResponse::Ok().json(CommandsBody {
        household_id: id,
        commands: found.iter().map(CommandBody::from).collect(),
    }))
}

async fn alerts(api: web::Data<Api>, id: web::Path<String>) -> Result<HttpResponse, Refused> {
    let id = parse_id(&id)?;
    let found = api.live.alerts(id).await?;
    Ok(HttpResponse::Ok().json(AlertsBody {
        household_id: id,
        alerts: found.iter().map(AlertBody::from).collect(),
    }))
}

async fn fleet(api: web::Data<Api>) -> HttpResponse {
    let stale_ms = 2 * api.settings.slot.ms() + api.settings.stale_after_ms;
    let now_ms = api.context.clock.now_ms();
    let body = api.live.fleet(|fleet| fleet.body(now_ms, stale_ms));
    HttpResponse::Ok().json(body)
}

async fn events(
    api: web::Data<Api>,
    request: HttpRequest,
    query: Query,
) -> Result<HttpResponse, Refused> {
    events::answer(api.live.events(), &api.clients_count, &request, &query)
}

async fn tariffs(api: web::Data<Api>) -> Result<HttpResponse, Refused> {
    let all = api.prices.all()?;
    Ok(HttpResponse::Ok().json(TariffsBody {
        tariffs: all.iter().map(|it| TariffSpan::from(it.as_ref())).collect(),
    }))
}

/// What is in force, as the engine has it.
async fn tariff(api: web::Data<Api>, name: web::Path<String>) -> Result<HttpResponse, Refused> {
    match api.prices.get(&name)? {
        Some(tariff) => Ok(HttpResponse::Ok().json(TariffBody::from(tariff.as_ref()))),
        None => Err(Refused::not_found(format!(
            "there is no tariff {:?}",
            name.as_str()
        ))),
    }
}

/// Answered once the log has it. What the body does not speak of stays as it was.
async fn put_tariff(
    api: web::Data<Api>,
    name: web::Path<String>,
    body: Json<TariffBody>,
) -> Result<HttpResponse, Refused> {
    let Json(body) = body;
    // What is no UTF-8 has been replaced on its way here. All such names would be one.
    if name.contains(char::REPLACEMENT_CHARACTER) {
        return Err(Refused::bad_parameter("name", "UTF-8", &name));
    }
    let tariff = body.into_tariff(&name)?;
    let now_ms = api.context.clock.now_ms();
    let held = api.prices.put(&tariff, now_ms).await?;
    // As many as are in force now.
    let counts = BTreeMap::from([("periods", held.periods.len())]);
    Ok(HttpResponse::Accepted().json(counts))
}

#[cfg(test)]
mod tests {
    use model::slot::Slot;
    use model::units::{MINUTE_MS, SlotLength};

    use super::open_part;

    /// The newest row starts at minute `row.0` and lasts `row.1` minutes. Slots last `length` minutes now.
    #[track_caller]
    fn check(row: Option<(i64, u32)>, length: u32, now_min: i64, expected: Option<(i64, u32)>) {
        let row = row.map(|(start_min, minutes)| Slot::empty(start_min * MINUTE_MS, minutes));
        let length = SlotLength::new(length).unwrap();
        let found = open_part(row.as_ref(), length, now_min * MINUTE_MS);
        let expected = expected.map(|(start_min, minutes)| (start_min * MINUTE_MS, minutes));
        assert_eq!(found, expected);
    }

    #[test]
    fn the_open_slot_is_what_no_row_holds() {
        check(None, 15, 52, Some((45, 15)));
        check(Some((30, 15)), 15, 52, Some((45, 15)));
        check(Some((0, 15)), 15, 52, Some((45, 15)));
        // It has a row already.
        check(Some((45, 15)), 15, 52, None);
        check(Some((60, 15)), 15, 52, None);
        check(Some((30, 15)), 15, 45, Some((45, 15)));
    }

    #[test]
    fn slots_of_another_length_hold_what_they_hold() {
        // From 15 to 60 minutes, from 15 to 30, from 5 to 15, from 60 to 15.
        check(Some((30, 15)), 60, 52, Some((45, 15)));
        check(Some((0, 15)), 60, 52, Some((15, 45)));
        check(Some((30, 15)), 30, 52, Some((45, 15)));
        check(Some((45, 5)), 15, 52, Some((50, 10)));
        check(Some((0, 60)), 15, 52, None);
        check(Some((0, 60)), 15, 65, Some((60, 15)));
    }
}
