mod misuse;
mod own_problem;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Mutex;

use actix_web::dev::Service;
use actix_web::http::Method;
use actix_web::test::{TestRequest, init_service, read_body};
use async_trait::async_trait;
use bytes::Bytes;
use household::settings::{Settings, UNKNOWN_KW_MAX};
use model::asset::AssetReading;
use model::command::CommandProgress;
use model::metadata::Metadata;
use model::reading::Reading;
use model::schedule::Schedule;
use model::slot::Slot;
use model::tariff::{PricePeriod, Tariff};
use model::units::{HouseholdId, SlotLength};
use platform::clock::Clock;
use platform::log::{
    Consumer, ConsumerControl, Log, LogError, LogEvent, Record, Start, Subscription, TopicPartition,
};
use platform::metrics::Metrics;
use platform::order::{Epoch, Order};
use platform::store::{Row, Store, StoreError};
use platform::trace::Tracer;
use schemas::codec::Codec;
use schemas::topic::Topic;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::*;
use crate::config::HttpConfig;
use crate::prices::Prices;

/// A log of one partition for each topic.
#[derive(Default)]
struct OneLog {
    records: Mutex<BTreeMap<Topic, Vec<Record>>>,
    listeners: Mutex<Vec<(Vec<Topic>, mpsc::Sender<LogEvent>)>>,
}

struct OneControl(Arc<OneLog>);

const fn first(topic: Topic) -> TopicPartition {
    TopicPartition {
        topic,
        partition: 0,
    }
}

#[async_trait]
impl ConsumerControl for OneControl {
    async fn commit(&self, _next: Vec<(TopicPartition, i64)>) -> Result<(), LogError> {
        Ok(())
    }
    async fn committed(&self, _partition: TopicPartition) -> Result<Option<i64>, LogError> {
        Ok(None)
    }
    fn pause(&self, _partition: TopicPartition) {}
    fn resume(&self, _partition: TopicPartition) {}
    fn end_offset(&self, partition: TopicPartition) -> Option<i64> {
        let records = self.0.records.lock().unwrap();
        Some(i64::try_from(records.get(&partition.topic).map_or(0, Vec::len)).unwrap())
    }
    async fn read(
        &self,
        partition: TopicPartition,
        offsets: Range<i64>,
        key: &[u8],
    ) -> Result<Vec<Record>, LogError> {
        let records = self.0.records.lock().unwrap();
        let held = records.get(&partition.topic).cloned().unwrap_or_default();
        let of_key = held.into_iter().filter(|record| {
            offsets.contains(&record.offset) && record.key.as_deref() == Some(key)
        });
        Ok(of_key.collect())
    }
}

/// The log as the API sees it.
struct Shared(Arc<OneLog>);

#[async_trait]
impl Log for Shared {
    async fn produce(&self, topic: Topic, key: &[u8], value: Vec<u8>) -> Result<(), LogError> {
        let record = {
            let mut records = self.0.records.lock().unwrap();
            let held = records.entry(topic).or_default();
            let record = Record {
                offset: i64::try_from(held.len()).unwrap(),
                timestamp_ms: 0,
                key: Some(Bytes::copy_from_slice(key)),
                value: Bytes::from(value),
                trace: None,
            };
            held.push(record.clone());
            record
        };
        let listeners = self.0.listeners.lock().unwrap().clone();
        for (topics, events) in listeners {
            if topics.contains(&topic) {
                let records = vec![record.clone()];
                let from = first(topic);
                let _ = events.send(LogEvent::Records { from, records }).await;
            }
        }
        Ok(())
    }
    async fn subscribe(&self, subscription: Subscription) -> Result<Consumer, LogError> {
        let (sender, events) = mpsc::channel(1_000);
        let topics = subscription.topics;
        let partitions = topics.iter().copied().map(first).collect();
        sender.send(LogEvent::Assigned(partitions)).await.unwrap();
        if subscription.start == Start::Earliest {
            for topic in topics.iter().copied() {
                let held = self.0.records.lock().unwrap().get(&topic).cloned();
                let (from, records) = (first(topic), held.unwrap_or_default());
                sender
                    .send(LogEvent::Records { from, records })
                    .await
                    .unwrap();
                sender.send(LogEvent::CaughtUp(first(topic))).await.unwrap();
            }
        }
        self.0.listeners.lock().unwrap().push((topics, sender));
        Ok(Consumer {
            events,
            control: Arc::new(OneControl(Arc::clone(&self.0))),
        })
    }
    async fn init(&self) -> Result<(), LogError> {
        Ok(())
    }
    async fn ping(&self) -> Result<(), LogError> {
        Ok(())
    }
    async fn close(&self) {}
}

/// A store that holds one home, which has just begun to send, or nothing. Household 13 makes the code panic.
#[derive(Clone, Default)]
struct OneHome {
    metadata: Option<Metadata>,
    tariff: Option<Tariff>,
    readings: Vec<Reading>,
    /// What its engine left behind, where the store keeps no readings.
    snapshot: Option<Vec<u8>>,
}

#[async_trait]
impl Store for OneHome {
    async fn init(&self) -> Result<(), StoreError> {
        Ok(())
    }
    async fn ping(&self) -> Result<(), StoreError> {
        Ok(())
    }
    async fn claim(&self, _partition: i32) -> Result<Epoch, StoreError> {
        Ok(Epoch::new(0))
    }
    async fn renew(&self, _partition: i32, held: Epoch) -> Result<Option<Epoch>, StoreError> {
        Ok(Some(held))
    }
    async fn newest_epoch(&self, _partition: i32) -> Result<Option<Epoch>, StoreError> {
        Ok(None)
    }
    async fn write(&self, _order: Order, _rows: Vec<Row>) -> Result<(), StoreError> {
        Ok(())
    }
    async fn readings(
        &self,
        _id: HouseholdId,
        from_ms: i64,
        to_ms: i64,
    ) -> Result<Vec<Reading>, StoreError> {
        let readings = self.readings.iter().copied();
        Ok(readings
            .filter(|reading| (from_ms..to_ms).contains(&reading.ts_ms))
            .collect())
    }
    async fn assets(
        &self,
        _id: HouseholdId,
        _from_ms: i64,
        _to_ms: i64,
    ) -> Result<Vec<AssetReading>, StoreError> {
        Ok(Vec::new())
    }
    async fn slots(
        &self,
        _id: HouseholdId,
        _from_ms: i64,
        _to_ms: i64,
    ) -> Result<Vec<Slot>, StoreError> {
        Ok(Vec::new())
    }
    async fn latest_schedule(&self, _id: HouseholdId) -> Result<Option<Schedule>, StoreError> {
        Ok(None)
    }
    async fn schedule(&self, _id: &str) -> Result<Option<Schedule>, StoreError> {
        Ok(None)
    }
    async fn commands(
        &self,
        _id: HouseholdId,
        _from_ms: i64,
        _to_ms: i64,
    ) -> Result<Vec<CommandProgress>, StoreError> {
        Ok(Vec::new())
    }
    async fn household(&self, id: HouseholdId) -> Result<Option<Metadata>, StoreError> {
        assert_ne!(id.get(), 13, "a fault in a handler");
        Ok(self.metadata.clone())
    }
    async fn households(
        &self,
        _after: Option<HouseholdId>,
        _count_max: usize,
    ) -> Result<Vec<Metadata>, StoreError> {
        Ok(self.metadata.clone().into_iter().collect())
    }
    async fn tariff(
        &self,
        _name: &str,
        _from_ms: i64,
        _to_ms: i64,
    ) -> Result<Option<Tariff>, StoreError> {
        Ok(None)
    }
    async fn snapshot(&self, _id: HouseholdId) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.snapshot.clone())
    }
    async fn close(&self) {}
}

const BODY_BYTES_MAX: usize = 4_096;

const SETTINGS: Settings = Settings {
    slot: SlotLength::QUARTER_HOUR,
    horizon_slots: 96,
    program_slots: 8,
    grace_ms: 0,
    hold_ms: 900_000,
    ahead_ms: 300_000,
    kept_ms: 365 * 86_400_000,
    stores_readings: true,
    stale_after_ms: 900_000,
    switching_cost_per_kwh: 0.0,
    switching_cost_per_start: 0.0,
    load_kw_max: UNKNOWN_KW_MAX,
    pv_kw_max: UNKNOWN_KW_MAX,
    battery_kw_max: UNKNOWN_KW_MAX,
};

fn context() -> RoleContext {
    RoleContext {
        clock: Clock::wall(),
        metrics: Metrics::new(),
        codec: Codec::single_object(),
        log: Arc::new(Shared(Arc::default())),
        store: Arc::new(OneHome::default()),
        tracer: Tracer::off(),
    }
}

/// Status, headers of interest and body of an answer.
struct Answer {
    status: u16,
    allow: Option<String>,
    kind: String,
    body: Value,
}

async fn ask(context: &RoleContext, requests: Vec<TestRequest>) -> Vec<Answer> {
    let health = Health {
        context: context.clone(),
        phase: Arc::new(AtomicU8::new(STARTED)),
        needs: Arc::default(),
    };
    let api = Api::new(context.clone(), &HttpConfig::default(), SETTINGS);
    let app = App::new()
        .wrap(from_fn(survive))
        .configure(|app| serve(app, health, Some(api.clone()), BODY_BYTES_MAX));
    let app = init_service(app).await;
    // The tariffs are read by a task of its own.
    while api.tariffs_are_unread() {
        tokio::task::yield_now().await;
    }
    let mut answers = Vec::new();
    for request in requests {
        let request = request.to_request();
        // What a middleware refuses becomes an answer in the server itself.
        let answer = match app.call(request).await {
            Ok(answer) => answer.map_into_boxed_body(),
            Err(error) => {
                let answer = error.error_response();
                ServiceResponse::new(TestRequest::default().to_http_request(), answer)
            }
        };
        let header = |name: &str| {
            let value = answer.headers().get(name)?;
            Some(value.to_str().unwrap().to_owned())
        };
        let allow = header("allow");
        let kind = header("content-type").unwrap_or_default();
        let status = answer.status().as_u16();
        let body = read_body(answer).await;
        let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
        answers.push(Answer {
            status,
            allow,
            kind,
            body,
        });
    }
    api.close();
    answers
}

fn get(path: &str) -> TestRequest {
    TestRequest::get().uri(path)
}

fn send(method: Method, path: &str, body: &str) -> TestRequest {
    TestRequest::with_uri(path)
        .method(method)
        .insert_header(("content-type", "application/json"))
        .set_payload(body.to_owned())
}

/// The request, its status, and the field that the answer names.
type Case = (TestRequest, u16, Option<&'static str>);

async fn check(cases: Vec<Case>) {
    let (requests, expected): (Vec<_>, Vec<_>) = cases
        .into_iter()
        .map(|(request, status, field)| (request, (status, field)))
        .unzip();
    let answers = ask(&context(), requests).await;
    for (index, (answer, (status, field))) in answers.iter().zip(expected).enumerate() {
        let Answer { body, .. } = answer;
        assert_eq!(answer.status, status, "{index}: {body}");
        assert_eq!(answer.kind, "application/problem+json", "{index}: {body}");
        assert_eq!(body["status"], status, "{index}: {body}");
        assert_eq!(body["field"].as_str(), field, "{index}: {body}");
        assert!(
            body["detail"]
                .as_str()
                .is_some_and(|detail| !detail.is_empty()),
            "{index}"
        );
    }
}

#[actix_web::test]
async fn parameters_are_refused_by_name() {
    check(vec![
        (get("/api/latest/7?hours=abc"), 400, Some("hours")),
        (get("/api/latest/7?hours=-1"), 400, Some("hours")),
        (get("/api/latest/7?hours=1e9"), 400, Some("hours")),
        (get("/api/latest/7?hours=0"), 400, Some("hours")),
        (get("/api/latest/7?hours="), 400, Some("hours")),
        (get("/api/latest/7?hours=1&hours=2"), 400, Some("hours")),
        (
            get("/api/latest/7?hours=99999999999999999999"),
            400,
            Some("hours"),
        ),
        (get("/api/latest/0"), 400, Some("household_id")),
        (
            get("/api/latest/9223372036854775808"),
            400,
            Some("household_id"),
        ),
        (get("/api/households/x"), 400, Some("household_id")),
        (get("/api/households/%FF"), 400, Some("household_id")),
        (get("/api/households?limit=0"), 400, Some("limit")),
        (get("/api/households?after=-3"), 400, Some("after")),
        (get("/api/schedule/x"), 400, Some("id")),
        (get("/api/events?types=slot,weather"), 400, Some("types")),
        (
            send(
                Method::POST,
                "/api/optimize?wait=NaN",
                r#"{"household_id":7}"#,
            ),
            400,
            Some("wait"),
        ),
    ])
    .await;
}

#[actix_web::test]
async fn bodies_are_refused_with_their_status() {
    let put = |body: &str| send(Method::PUT, "/api/households/7", body);
    let large = format!(r#"{{"tariff":"{}"}}"#, "a".repeat(BODY_BYTES_MAX));
    let bare = TestRequest::put()
        .uri("/api/households/7")
        .set_payload("{}");
    let text = TestRequest::put()
        .uri("/api/households/7")
        .insert_header(("content-type", "text/plain"))
        .set_payload("{}");
    check(vec![
        (put("{"), 400, None),
        (put(""), 400, None),
        (put(&large), 413, None),
        (bare, 415, Some("content-type")),
        (text, 415, Some("content-type")),
        (put("{}"), 422, Some("tariff")),
        (put(r#"{"tariff":"a","tariff":"b"}"#), 422, Some("tariff")),
        (
            put(r#"{"tariff":"a","pv_capacity_kw":-1}"#),
            422,
            Some("pv_capacity_kw"),
        ),
        (
            put(r#"{"tariff":"a","household_id":8}"#),
            422,
            Some("household_id"),
        ),
        (
            put(r#"{"tariff":"a","appliances":[
                {"id":"x","profile_kw":[1],"window_start_min":0,"window_end_min":600},
                {"id":"x","profile_kw":[1],"window_start_min":0,"window_end_min":600}]}"#),
            422,
            Some("appliances[1].id"),
        ),
        (
            put(r#"{"tariff":"a","appliances":[
                {"id":"x","profile_kw":[1,1,1],"window_start_min":0,"window_end_min":30}]}"#),
            422,
            Some("appliances[0].profile_kw"),
        ),
        (
            send(
                Method::PUT,
                "/api/tariffs/a",
                r#"{"periods":[{"start":"x","end":"y","buy":1,"sell":1}]}"#,
            ),
            422,
            Some("periods[0].start"),
        ),
    ])
    .await;
}

#[actix_web::test]
async fn paths_methods_and_faults_have_their_status() {
    let methods = [
        (Method::DELETE, "/api/households/7", "GET, HEAD, PUT"),
        (Method::POST, "/api/latest/7", "GET, HEAD"),
        (Method::GET, "/api/optimize", "POST"),
        (Method::OPTIONS, "/healthz", "GET, HEAD"),
    ];
    let requests = methods
        .iter()
        .map(|(method, path, _)| send(method.clone(), path, ""));
    let answers = ask(&context(), requests.collect()).await;
    for (answer, (_, path, allow)) in answers.iter().zip(methods) {
        assert_eq!(answer.status, 405, "{path}");
        assert_eq!(answer.allow.as_deref(), Some(allow), "{path}");
        assert_eq!(answer.body["status"], 405);
    }
    check(vec![
        (get("/api/nothing"), 404, None),
        (get("/api/households/7"), 404, None),
        (get("/api/tariffs/none"), 404, None),
        (get("/api/households/13"), 500, None),
        // The server goes on.
        (
            get("/api/households/7").insert_header(("accept", "image/png")),
            404,
            None,
        ),
    ])
    .await;
}

#[actix_web::test]
async fn prices_merge_and_are_in_force_at_once() {
    let put = |body: Value| send(Method::PUT, "/api/tariffs/dynamic", &body.to_string());
    let period = |start: &str, end: &str, buy: f64| json!({"start": start, "end": end, "buy": buy, "sell": 0.1});
    let (noon, one, two) = (
        "2999-01-01T12:00:00Z",
        "2999-01-01T13:00:00Z",
        "2999-01-01T14:00:00Z",
    );
    let requests = vec![
        put(json!({"periods": [period(noon, one, 0.3)]})),
        put(json!({"periods": [period(one, two, 1444.7)]})),
        put(json!({"periods": []})),
        get("/api/tariffs/dynamic"),
        get("/api/tariffs"),
        send(Method::PUT, "/api/tariffs/other", r#"{"periods":[]}"#),
    ];
    let answers = ask(&context(), requests).await;
    let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses, [202, 202, 202, 200, 200, 422]);
    assert_eq!(answers[2].body, json!({"periods": 2}));
    let in_force = json!({"periods": [period(noon, one, 0.3), period(one, two, 1444.7)]});
    assert_eq!(answers[3].body, in_force);
    let spans = json!({"tariffs": [{"name": "dynamic", "from": noon, "until": two, "periods": 2}]});
    assert_eq!(answers[4].body, spans);
}

/// Through two APIs, neither of which knows of the other's when it begins.
#[actix_web::test]
async fn prices_put_at_the_same_time_are_all_kept() {
    let log = Arc::new(OneLog::default());
    let context = RoleContext {
        log: Arc::new(Shared(Arc::clone(&log))),
        ..context()
    };
    let (here, there) = (Prices::start(&context), Prices::start(&context));
    while here.all().is_err() || there.all().is_err() {
        tokio::task::yield_now().await;
    }
    // What is over is not kept for ever.
    let year_2100_ms: i64 = 4_102_444_800_000;
    let tariff = |from_ms: i64, to_ms: i64, buy_per_kwh| Tariff {
        name: "dynamic".to_owned(),
        periods: vec![PricePeriod {
            start_ms: year_2100_ms + from_ms,
            end_ms: year_2100_ms + to_ms,
            buy_per_kwh,
            sell_per_kwh: 0.1,
        }],
        stated: Vec::new(),
    };
    let puts = [
        (&here, tariff(0, 10, 1.0)),
        (&there, tariff(10, 20, 2.0)),
        (&here, tariff(20, 30, 3.0)),
        (&there, tariff(30, 40, 4.0)),
        (&here, tariff(40, 50, 5.0)),
    ];
    let puts = puts.iter().map(|(api, tariff)| api.put(tariff, 0));
    for put in futures::future::join_all(puts).await {
        put.unwrap();
    }
    let wanted = [1.0, 2.0, 3.0, 4.0, 5.0];
    for api in [&here, &there] {
        let held = api.get("dynamic").unwrap().unwrap();
        let prices: Vec<f64> = held
            .periods
            .iter()
            .map(|period| period.buy_per_kwh)
            .collect();
        assert_eq!(prices, wanted);
    }
    // The log may keep the newest record alone.
    let records = log.records.lock().unwrap();
    let newest = &records[&Topic::Tariffs].last().unwrap().value;
    let newest: Tariff = context.codec.decode(newest).unwrap();
    let prices: Vec<f64> = newest
        .periods
        .iter()
        .map(|period| period.buy_per_kwh)
        .collect();
    assert_eq!(prices, wanted);
    here.close();
    there.close();
}

#[actix_web::test]
async fn alerts_and_commands_are_read() {
    let context = context();
    for (id, detail) in [(7, "one"), (8, "other"), (7, "two")] {
        let alert = model::alert::Alert {
            household_id: HouseholdId::new(id).unwrap(),
            ts_ms: 1_757_671_200_000,
            kind: model::alert::AlertKind::SocLimit,
            detail: detail.to_owned(),
        };
        let bytes = context.codec.encode(&alert).unwrap();
        let key = id.to_string();
        context
            .log
            .produce(Topic::Alerts, key.as_bytes(), bytes)
            .await
            .unwrap();
    }
    let requests = vec![
        get("/api/households/7/alerts"),
        get("/api/households/7/commands"),
        get("/api/fleet"),
    ];
    let answers = ask(&context, requests).await;
    let alert =
        |detail: &str| json!({"ts": "2025-09-12T10:00:00Z", "kind": "soc_limit", "detail": detail});
    let expected = json!({"household_id": 7, "alerts": [alert("one"), alert("two")]});
    assert_eq!(answers[0].body, expected);
    assert_eq!(answers[1].body, json!({"household_id": 7, "commands": []}));
    assert_eq!(answers[2].body["households"], 0);
}
