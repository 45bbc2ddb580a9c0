//! The HTTP API: reads from the store, writes to the log. It keeps no state of homes, so any number of it may run.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::body::{
    LatestBody, MetadataBody, OptimizeBody, RollingBody, ScheduleBody, SlotBody, TariffBody,
};
use actix_web::{HttpResponse, web};
use household::household::{Household, Settings};
use household::planning::{self, PlanningInput};
use model::metadata::Metadata;
use model::problem::Problem;
use model::request::OptimizeRequest;
use model::rolling::Rolling;
use model::schedule::Schedule;
use model::slot::Slot;
use model::tariff::Tariff;
use model::units::{DAY_MS, HOUR_MS, HouseholdId};
use schemas::codec::Message;
use schemas::mqtt::rfc3339;
use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::config::HttpConfig;
use crate::server::Refused;
use platform::parts::Parts;
use schemas::snapshot;

/// Pause between two looks for an awaited schedule.
const LOOK_EVERY: Duration = Duration::from_millis(50);
const HOURS_MAX: u32 = 24 * 31;
const PAGE_MAX: usize = 1_000;

/// What the routes share.
#[derive(Debug, Clone)]
pub struct Api {
    parts: Parts,
    settings: Settings,
    wait_max: Duration,
    requests_count: Arc<AtomicU64>,
}

impl Api {
    /// Over these parts.
    #[must_use]
    pub fn new(parts: Parts, config: &HttpConfig, settings: Settings) -> Self {
        Self {
            parts,
            settings,
            wait_max: Duration::from_secs(config.wait_s_max),
            requests_count: Arc::default(),
        }
    }
}

/// Adds the routes.
pub fn routes(app: &mut web::ServiceConfig) {
    app.route("/", web::get().to(console))
        .route("/openapi.json", web::get().to(openapi))
        .route("/api/latest/{household_id}", web::get().to(latest))
        .route("/api/optimize", web::post().to(optimize))
        .route("/api/schedule/{id}", web::get().to(schedule))
        .route("/api/households", web::get().to(households))
        .route("/api/households/{id}", web::get().to(household))
        .route("/api/households/{id}", web::put().to(put_household))
        .route("/api/tariffs/{name}", web::put().to(put_tariff));
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

fn parse_id(text: &str) -> Result<HouseholdId, Refused> {
    HouseholdId::parse(text).ok_or_else(|| {
        Refused::bad_request(format!(
            "household_id: expected a positive integer, found {text:?}"
        ))
    })
}

#[derive(Debug, Deserialize)]
struct LatestQuery {
    hours: Option<u32>,
}

async fn latest(
    api: web::Data<Api>,
    id: web::Path<String>,
    query: web::Query<LatestQuery>,
) -> Result<HttpResponse, Refused> {
    let id = parse_id(&id)?;
    let hours = query.hours.unwrap_or(24);
    if !(1..=HOURS_MAX).contains(&hours) {
        return Err(Refused::bad_request(format!(
            "hours: expected 1 to {HOURS_MAX}, found {hours}"
        )));
    }
    let now_ms = api.parts.clock.now_ms();
    let from_ms = now_ms - i64::from(hours.max(25)) * HOUR_MS;
    let slots = api.slots(id, from_ms, now_ms).await?;
    if slots.is_empty() && api.parts.store.household(id).await?.is_none() {
        return Err(Refused::not_found(format!(
            "household {id} has no readings and no metadata"
        )));
    }
    let tariff = api.tariff_of(id, from_ms, now_ms + DAY_MS).await?;
    let shown_ms = now_ms - i64::from(hours) * HOUR_MS;
    let length_ms = api.settings.slot.ms();
    let bodies = slots
        .iter()
        .filter(|slot| slot.start_ms + length_ms > shown_ms)
        .map(|slot| {
            let period = tariff
                .as_ref()
                .and_then(|tariff| tariff.at_ms(slot.start_ms));
            SlotBody::of(slot, period, slot.start_ms + length_ms > now_ms)
        });
    Ok(HttpResponse::Ok().json(LatestBody {
        household_id: id,
        now: rfc3339(now_ms),
        slots: bodies.collect(),
        rolling: RollingBody::from(Rolling::of(&slots, now_ms)),
    }))
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
        let mut slots = self.parts.store.slots(id, from_ms, now_ms).await?;
        let open_ms = length.start_of_ms(now_ms);
        let hold_ms = self.settings.hold_ms;
        if slots.last().is_none_or(|last| last.start_ms < open_ms) {
            let readings = self
                .parts
                .store
                .readings(id, open_ms - hold_ms, open_ms + length.ms())
                .await?;
            if readings.is_empty() {
                self.add_unstored(id, from_ms..=now_ms, &mut slots).await?;
            } else {
                let timed = readings.iter().map(|read| (read.ts_ms, read.measurement));
                slots.push(Slot::of(open_ms, length.minutes(), hold_ms, now_ms, timed));
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
        let Some(state) = self.parts.store.snapshot(id).await? else {
            return Ok(());
        };
        let household = match snapshot::household::<Household>(&state) {
            Ok(household) => household,
            Err(reason) => {
                warn!(household = %id, %reason, "cannot look into a snapshot");
                return Ok(());
            }
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

    async fn tariff_of(
        &self,
        id: HouseholdId,
        from_ms: i64,
        to_ms: i64,
    ) -> Result<Option<Tariff>, Refused> {
        match self.parts.store.household(id).await? {
            Some(metadata) => Ok(self
                .parts
                .store
                .tariff(&metadata.tariff, from_ms, to_ms)
                .await?),
            None => Ok(None),
        }
    }

    /// The engine's own problem for a home, stated from the store.
    async fn own_problem(&self, id: HouseholdId, now_ms: i64) -> Result<Problem, Refused> {
        let store = &self.parts.store;
        let Some(metadata) = store.household(id).await? else {
            return Err(Refused::not_found(format!(
                "household {id} has no metadata"
            )));
        };
        let length = self.settings.slot;
        let start_ms = length.start_of_ms(now_ms);
        let mut slots = self.slots(id, start_ms - DAY_MS, now_ms).await?;
        let soc_pct = slots.iter().rev().find_map(|slot| slot.soc_pct);
        slots.retain(|slot| slot.start_ms < start_ms);
        let horizon_ms = i64::from(self.settings.horizon_slots) * length.ms();
        let tariff = store
            .tariff(&metadata.tariff, start_ms, start_ms + horizon_ms)
            .await?;
        let commands = store.commands(id, start_ms - DAY_MS, now_ms).await?;
        planning::problem(&PlanningInput {
            metadata: &metadata,
            slots: &slots,
            tariff: tariff.as_ref(),
            soc_pct,
            runs: &planning::runs(&commands),
            now_ms,
            settings: &self.settings,
        })
        .map_err(|reason| {
            Refused::conflict(format!(
                "household {id} cannot be planned: {}",
                reason.as_str()
            ))
        })
    }

    /// Event time, and a number that no other process and call gives: the id must stay one for one question.
    fn request_id(&self, problem: &Problem) -> String {
        let number = self.requests_count.fetch_add(1, Ordering::Relaxed);
        let (id, start_ms) = (problem.household_id, problem.start_ms);
        let (pid, wall_ms) = (std::process::id(), platform::clock::wall_ms());
        format!("{id}-{start_ms}-a{wall_ms:x}{pid:x}{number:x}")
    }

    async fn produce<T: Message>(&self, key: &str, value: &T) -> Result<(), Refused> {
        let bytes = self
            .parts
            .codec
            .encode(value)
            .map_err(|error| Refused::bad_request(error.to_string()))?;
        self.parts
            .log
            .produce(T::TOPIC, key.as_bytes(), bytes)
            .await?;
        Ok(())
    }

    async fn wait_for(
        &self,
        schedule_id: &str,
        wait: Duration,
    ) -> Result<Option<Schedule>, Refused> {
        let begun = Instant::now();
        loop {
            if let Some(schedule) = self.parts.store.schedule(schedule_id).await? {
                return Ok(Some(schedule));
            }
            if begun.elapsed() >= wait {
                return Ok(None);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

#[derive(Debug, Deserialize)]
struct OptimizeQuery {
    /// Seconds to wait for the schedule.
    wait: Option<f64>,
}

#[derive(Debug, Serialize)]
struct Queued {
    id: String,
    status: &'static str,
}

async fn optimize(
    api: web::Data<Api>,
    query: web::Query<OptimizeQuery>,
    body: web::Json<OptimizeBody>,
) -> Result<HttpResponse, Refused> {
    let wait = match query.wait {
        None => None,
        Some(seconds) if (0.0..=api.wait_max.as_secs_f64()).contains(&seconds) => {
            Some(Duration::from_secs_f64(seconds))
        }
        Some(seconds) => {
            let max = api.wait_max.as_secs();
            return Err(Refused::bad_request(format!(
                "wait: expected 0 to {max} seconds, found {seconds}"
            )));
        }
    };
    let body = body.into_inner();
    let id = body.household_id()?;
    let now_ms = api.parts.clock.now_ms();
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
    api.produce(&id.to_string(), &request).await?;
    if let Some(wait) = wait
        && let Some(schedule) = api.wait_for(&request.request_id, wait).await?
    {
        return Ok(HttpResponse::Ok().json(ScheduleBody::from(&schedule)));
    }
    Ok(HttpResponse::Accepted().json(Queued {
        id: request.request_id,
        status: "queued",
    }))
}

async fn schedule(api: web::Data<Api>, id: web::Path<String>) -> Result<HttpResponse, Refused> {
    let found = match HouseholdId::parse(&id) {
        Some(household_id) => api.parts.store.latest_schedule(household_id).await?,
        None if is_schedule_id(&id) => api.parts.store.schedule(&id).await?,
        None => {
            let detail = format!(
                "id: expected a household id or a schedule id, found {:?}",
                id.as_str()
            );
            return Err(Refused::bad_request(detail));
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

#[derive(Debug, Deserialize)]
struct PageQuery {
    after: Option<String>,
    limit: Option<usize>,
}

#[derive(Debug, Serialize)]
struct Page {
    households: Vec<MetadataBody>,
    /// Pass it as `after` for the next page; null at the end.
    next: Option<HouseholdId>,
}

async fn households(
    api: web::Data<Api>,
    query: web::Query<PageQuery>,
) -> Result<HttpResponse, Refused> {
    let after = query.after.as_deref().map(parse_id).transpose()?;
    let limit = query.limit.unwrap_or(100);
    if !(1..=PAGE_MAX).contains(&limit) {
        return Err(Refused::bad_request(format!(
            "limit: expected 1 to {PAGE_MAX}, found {limit}"
        )));
    }
    let found = api.parts.store.households(after, limit).await?;
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
    match api.parts.store.household(id).await? {
        Some(metadata) => Ok(HttpResponse::Ok().json(MetadataBody::from(&metadata))),
        None => Err(Refused::not_found(format!(
            "household {id} has no metadata"
        ))),
    }
}

/// Answered once the log has it; the engine stores it.
async fn put_household(
    api: web::Data<Api>,
    id: web::Path<String>,
    body: web::Json<MetadataBody>,
) -> Result<HttpResponse, Refused> {
    let id = parse_id(&id)?;
    let metadata: Metadata = body.into_inner().into_metadata(id)?;
    api.produce(&id.to_string(), &metadata).await?;
    Ok(HttpResponse::Accepted().json(MetadataBody::from(&metadata)))
}

/// Answered once the log has it. The series replaces the one before.
async fn put_tariff(
    api: web::Data<Api>,
    name: web::Path<String>,
    body: web::Json<TariffBody>,
) -> Result<HttpResponse, Refused> {
    let tariff = body.into_inner().into_tariff(&name)?;
    api.produce(&name, &tariff).await?;
    let counts = BTreeMap::from([("periods", tariff.periods.len())]);
    Ok(HttpResponse::Accepted().json(counts))
}
