//! What no client should send, on every route: each answer is a problem document with the right status.

use super::*;
use model::request::OptimizeRequest;
use model::schedule::Plan;

/// Each path with the methods that it knows.
const ROUTES: [(&str, &str); 16] = [
    ("/", "GET, HEAD"),
    ("/openapi.json", "GET, HEAD"),
    ("/healthz", "GET, HEAD"),
    ("/readyz", "GET, HEAD"),
    ("/metrics", "GET, HEAD"),
    ("/api/latest/7", "GET, HEAD"),
    ("/api/optimize", "POST"),
    ("/api/schedule/7", "GET, HEAD"),
    ("/api/households", "GET, HEAD"),
    ("/api/households/7", "GET, HEAD, PUT"),
    ("/api/households/7/commands", "GET, HEAD"),
    ("/api/households/7/alerts", "GET, HEAD"),
    ("/api/tariffs", "GET, HEAD"),
    ("/api/tariffs/a", "GET, HEAD, PUT"),
    ("/api/fleet", "GET, HEAD"),
    ("/api/events", "GET"),
];

const WRITING: [(Method, &str); 3] = [
    (Method::POST, "/api/optimize"),
    (Method::PUT, "/api/households/7"),
    (Method::PUT, "/api/tariffs/a"),
];

#[actix_web::test]
async fn every_route_refuses_the_methods_that_it_does_not_know() {
    let methods = [
        Method::GET,
        Method::HEAD,
        Method::POST,
        Method::PUT,
        Method::DELETE,
        Method::PATCH,
        Method::OPTIONS,
        Method::TRACE,
        Method::from_bytes(b"BREW").unwrap(),
    ];
    let (mut requests, mut expected) = (Vec::new(), Vec::new());
    for (path, allow) in ROUTES {
        let is_known = |method: &Method| allow.split(", ").any(|known| known == method.as_str());
        for method in methods.iter().filter(|method| !is_known(method)) {
            requests.push(send(method.clone(), path, "{}"));
            expected.push((method, path, allow));
        }
    }
    let answers = ask(&context(), requests).await;
    for (answer, (method, path, allow)) in answers.iter().zip(expected) {
        assert_eq!(answer.status, 405, "{method} {path}");
        assert_eq!(answer.allow.as_deref(), Some(allow), "{method} {path}");
        assert_eq!(answer.kind, "application/problem+json", "{method} {path}");
        assert_eq!(answer.body["status"], 405, "{method} {path}");
    }
}

#[actix_web::test]
async fn head_has_the_status_of_get() {
    let reads = ROUTES.iter().filter(|(_, allow)| allow.contains("HEAD"));
    let paths: Vec<&str> = reads.map(|(path, _)| *path).collect();
    let of = |method: Method| {
        let requests = paths.iter().map(|path| {
            let method = method.clone();
            TestRequest::with_uri(path).method(method)
        });
        requests.collect::<Vec<_>>()
    };
    let (gets, heads) = (
        ask(&context(), of(Method::GET)).await,
        ask(&context(), of(Method::HEAD)).await,
    );
    for ((get, head), path) in gets.iter().zip(&heads).zip(&paths) {
        assert_eq!((get.status, &get.kind), (head.status, &head.kind), "{path}");
    }
}

#[actix_web::test]
async fn every_body_must_be_json_in_utf_8() {
    let kinds = [
        None,
        Some("text/plain"),
        Some("application/x-www-form-urlencoded"),
        Some("multipart/form-data; boundary=x"),
        Some("application/jsonx"),
        Some("application/json; charset=utf-16"),
        Some("nonsense"),
        Some(""),
    ];
    let mut cases = Vec::new();
    for (method, path) in WRITING {
        for kind in kinds {
            let request = TestRequest::with_uri(path).method(method.clone());
            let request = match kind {
                Some(kind) => request.insert_header(("content-type", kind)),
                None => request,
            };
            cases.push((request.set_payload("{}"), 415, Some("content-type")));
        }
    }
    // Read as JSON, which then lacks a field.
    for kind in [
        "application/json",
        "Application/JSON; charset=UTF-8",
        "application/merge-patch+json",
    ] {
        let request = TestRequest::post().uri("/api/optimize");
        let request = request.insert_header(("content-type", kind));
        cases.push((request.set_payload("{}"), 422, Some("household_id")));
    }
    check(cases).await;
}

#[actix_web::test]
async fn a_compressed_body_is_read_or_refused_by_name() {
    let encoded = |encoding: &str, body: &[u8]| {
        let request = send(Method::POST, "/api/optimize", "");
        let request = request.insert_header(("content-encoding", encoding));
        request.set_payload(body.to_vec())
    };
    let mut cases = Vec::new();
    for unknown in [
        "br",
        "zstd",
        "x-gzip",
        "compress",
        "rot13",
        "gzip, gzip",
        "gzip;q=1",
        "*",
    ] {
        let refused = encoded(unknown, b"{}");
        cases.push((refused, 415, Some("content-encoding")));
    }
    for known in ["identity", " Identity "] {
        cases.push((encoded(known, b"{}"), 422, Some("household_id")));
    }
    // `{}` as gzip, and what is no gzip.
    let gzip =
        b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xab\xae\x05\x00\x43\xbf\xa6\xa3\x02\x00\x00\x00";
    for known in ["gzip", "GZIP"] {
        cases.push((encoded(known, gzip), 422, Some("household_id")));
        cases.push((encoded(known, b"{}"), 400, None));
    }
    cases.push((encoded("gzip", &gzip[..12]), 400, None));
    check(cases).await;
}

#[actix_web::test]
async fn no_body_may_be_too_large_whether_it_says_so_or_not() {
    let large = " ".repeat(BODY_BYTES_MAX + 1);
    let mut cases = Vec::new();
    for (method, path) in WRITING {
        cases.push((send(method.clone(), path, &large), 413, None));
        let declared = (BODY_BYTES_MAX + 1).to_string();
        let says = send(method, path, "{}").insert_header(("content-length", declared));
        cases.push((says, 413, None));
    }
    // The longest that is read holds no value.
    let longest = " ".repeat(BODY_BYTES_MAX);
    cases.push((send(Method::POST, "/api/optimize", &longest), 400, None));
    check(cases).await;
}

#[actix_web::test]
async fn every_parameter_has_its_range() {
    let endless = "9".repeat(400);
    let no_numbers = [
        "",
        "x",
        "-1",
        "1.5",
        "1e2",
        "%FF",
        "+1",
        "NaN",
        endless.as_str(),
    ];
    let mut cases = Vec::new();
    for path in [
        "/api/latest/7?hours",
        "/api/households/7/commands?hours",
        "/api/households?limit",
    ] {
        let field = path.split_once('?').map(|(_, name)| name);
        for bad in no_numbers.iter().chain(&["0", "1001"]) {
            cases.push((get(&format!("{path}={bad}")), 400, field));
        }
        let name = field.unwrap();
        cases.push((get(&format!("{path}=1&{name}=1")), 400, field));
    }
    for bad in no_numbers.iter().chain(&["0"]) {
        let after = format!("/api/households?after={bad}");
        cases.push((get(&after), 400, Some("after")));
        let of = format!("/api/events?household_id={bad}");
        cases.push((get(&of), 400, Some("household_id")));
    }
    for bad in ["", "slots", "slot,", "SLOT", "slot,slot,x", "%00"] {
        let types = format!("/api/events?types={bad}");
        cases.push((get(&types), 400, Some("types")));
    }
    for bad in ["", "x", "-1", "60.1", "1e400", "inf", "NaN", "-inf", "%FF"] {
        let path = format!("/api/optimize?wait={bad}");
        let request = send(Method::POST, &path, r#"{"household_id":7}"#);
        cases.push((request, 400, Some("wait")));
    }
    check(cases).await;
}

#[actix_web::test]
async fn every_id_in_a_path_is_a_positive_integer() {
    let ids = [
        "0",
        "-1",
        "9223372036854775808",
        "x",
        "%00",
        "7.0",
        "+7",
        "%2B7",
        "007",
        "7%20",
        "1e3",
        "0x7",
        "%F0%9F%8F%A0",
        "%FF",
    ];
    let mut cases = Vec::new();
    for id in ids {
        for path in [
            format!("/api/latest/{id}"),
            format!("/api/households/{id}"),
            format!("/api/households/{id}/commands"),
            format!("/api/households/{id}/alerts"),
        ] {
            cases.push((get(&path), 400, Some("household_id")));
        }
        let put = format!("/api/households/{id}");
        let put = send(Method::PUT, &put, r#"{"tariff":"a"}"#);
        cases.push((put, 400, Some("household_id")));
        cases.push((get(&format!("/api/schedule/{id}")), 400, Some("id")));
    }
    // Well formed, and unknown.
    for path in [
        "/api/latest/9223372036854775807",
        "/api/households/9223372036854775807",
        "/api/schedule/9223372036854775807",
        "/api/schedule/7-none",
        "/api/latest",
        "/api/latest/",
        "/api/latest/7/",
        "/api/households/7/other",
        "/api/tariffs/a/b",
        "/API/latest/7",
    ] {
        cases.push((get(path), 404, None));
    }
    check(cases).await;
}

/// A whole problem of two slots with `more` in it.
fn problem(more: &str) -> TestRequest {
    let start = r#""household_id":7,"start":"2999-01-01T12:00:00Z""#;
    let series = r#""pv_kw":[0,0],"buy_price":[0.3,0.2],"sell_price":[0.1,0.1]"#;
    let body = format!(r#"{{{start},"load_kw":[1,1],{series},{more}}}"#);
    send(Method::POST, "/api/optimize", &body)
}

#[actix_web::test]
async fn numbers_that_json_does_not_have_are_no_json() {
    let mut cases = Vec::new();
    for number in [
        "NaN",
        "Infinity",
        "-Infinity",
        "1e400",
        "-1e400",
        "01",
        "+1",
        ".5",
        "0x1",
    ] {
        let more = format!(r#""weights":{{"cost":{number}}}"#);
        cases.push((problem(&more), 400, None));
        let periods = format!(r#"{{"periods":[{{"buy":{number}}}]}}"#);
        cases.push((send(Method::PUT, "/api/tariffs/a", &periods), 400, None));
        let home = format!(r#"{{"tariff":"a","pv_capacity_kw":{number}}}"#);
        cases.push((send(Method::PUT, "/api/households/7", &home), 400, None));
    }
    check(cases).await;
}

#[actix_web::test]
async fn a_scenario_that_cannot_be_is_refused_by_name() {
    let scenarios = |body: &str| problem(&format!(r#""scenarios":[{body}]"#));
    let sound = r#"{"load_kw":[1,2],"pv_kw":[0,0]}"#;
    let most = vec![sound; 65].join(",");
    check(vec![
        (
            scenarios(r#"{"load_kw":[1,2],"pv_kw":[0,0],"weight":-1}"#),
            422,
            Some("scenarios[0].weight"),
        ),
        (
            scenarios(&format!(r#"{sound},{{"load_kw":[1],"pv_kw":[0,0]}}"#)),
            422,
            Some("scenarios[1].load_kw"),
        ),
        (
            scenarios(r#"{"load_kw":[1,2],"pv_kw":[0,-1]}"#),
            422,
            Some("scenarios[0].pv_kw[1]"),
        ),
        (
            scenarios(r#"{"load_kw":[1,2]}"#),
            422,
            Some("scenarios[0].pv_kw"),
        ),
        (
            scenarios(r#"{"load_kw":[1,2],"pv_kw":[0,0],"colour":1}"#),
            422,
            Some("scenarios[0].colour"),
        ),
        (scenarios(&most), 422, Some("scenarios")),
    ])
    .await;
}

#[actix_web::test]
async fn what_is_given_twice_is_refused_by_name() {
    let run = r#"{"id":"x","profile_kw":[1],"earliest_slot":0,"latest_end_slot":2}"#;
    let ev = r#"{"id":"x","arrival_slot":0,"departure_slot":2,"capacity_kwh":50,"soc_kwh":20,"charge_kw":11}"#;
    let heat = r#"{"id":"x","power_kw":2,"cop":3,"kwh_per_k":1,"loss_kw_per_k":0.1,"temperature_c":50,"min_c":40,"max_c":60,"ambient_c":20}"#;
    check(vec![
        (problem(r#""household_id":8"#), 422, Some("household_id")),
        (problem(r#""load_kw":[2,2]"#), 422, Some("load_kw")),
        (
            problem(r#""weights":{"cost":1,"cost":2}"#),
            422,
            Some("weights.cost"),
        ),
        (
            problem(r#""grid":{"peak_kw":1,"peak_kw":1}"#),
            422,
            Some("grid.peak_kw"),
        ),
        (
            problem(r#""stability":{"start_slots":{"a":1,"a":2}}"#),
            422,
            Some("stability.start_slots.a"),
        ),
        (
            problem(&format!(r#""appliances":[{run},{run}]"#)),
            422,
            Some("appliances[1].id"),
        ),
        (
            problem(&format!(r#""evs":[{ev},{ev}]"#)),
            422,
            Some("evs[1].id"),
        ),
        (
            problem(&format!(r#""heat_stores":[{heat},{heat}]"#)),
            422,
            Some("heat_stores[1].id"),
        ),
    ])
    .await;
}

#[actix_web::test]
async fn a_problem_that_cannot_be_stated_names_its_field() {
    let of = |body: &str| send(Method::POST, "/api/optimize", body);
    check(vec![
        (of(r#"{"household_id":0}"#), 422, Some("household_id")),
        (of(r#"{"household_id":-1}"#), 422, Some("household_id")),
        (of(r#"{"household_id":"7"}"#), 422, Some("household_id")),
        (of(r#"{"household_id":1.5}"#), 422, Some("household_id")),
        (
            of(r#"{"household_id":9223372036854775808}"#),
            422,
            Some("household_id"),
        ),
        (of(r#"{"household_id":9223372036854775807}"#), 404, None),
        (problem(r#""slot_minutes":7"#), 422, Some("slot_minutes")),
        (problem(r#""slot_minutes":-15"#), 422, Some("slot_minutes")),
        (problem(r#""slot_minutes":0"#), 422, Some("slot_minutes")),
        (problem(r#""time_limit_ms":-1"#), 422, Some("time_limit_ms")),
        (problem(r#""colour":1"#), 422, Some("colour")),
        (
            problem(r#""weights":{"cost":1001}"#),
            422,
            Some("weights.cost"),
        ),
        (
            problem(r#""grid":{"import_limit_kw":-1}"#),
            422,
            Some("grid.import_limit_kw"),
        ),
    ])
    .await;
}

fn put_prices(name: &str, periods: &[(&str, &str, f64)]) -> TestRequest {
    let periods = periods
        .iter()
        .map(|(start, end, buy)| json!({"start": start, "end": end, "buy": buy, "sell": 0.1}));
    let body = json!({"periods": periods.collect::<Vec<_>>()});
    send(
        Method::PUT,
        &format!("/api/tariffs/{name}"),
        &body.to_string(),
    )
}

const NOON: &str = "2999-01-01T12:00:00Z";
const ONE: &str = "2999-01-01T13:00:00Z";
const TWO: &str = "2999-01-01T14:00:00Z";

#[actix_web::test]
async fn periods_that_cannot_be_are_refused_by_field() {
    let put = |periods: &[(&str, &str, f64)]| put_prices("a", periods);
    let (start, end) = (Some("periods[0].start"), Some("periods[0].end"));
    let mut cases = vec![
        // Twice the same, overlapping, unsorted.
        (
            put(&[(NOON, ONE, 0.3), (NOON, ONE, 0.3)]),
            422,
            Some("periods[1].start"),
        ),
        (
            put(&[(NOON, TWO, 0.3), (ONE, TWO, 0.3)]),
            422,
            Some("periods[1].start"),
        ),
        (
            put(&[(ONE, TWO, 0.3), (NOON, ONE, 0.3)]),
            422,
            Some("periods[1].start"),
        ),
        (put(&[(NOON, NOON, 0.3)]), 422, end),
        (put(&[(ONE, NOON, 0.3)]), 422, end),
        (put(&[("1969-12-31T23:59:59Z", NOON, 0.3)]), 422, start),
        (put(&[(NOON, "9999-12-31T23:59:59Z", 0.3)]), 422, end),
        (put(&[(NOON, ONE, 100_001.0)]), 422, Some("periods[0].buy")),
        (put(&[(NOON, ONE, -100_001.0)]), 422, Some("periods[0].buy")),
        (put_prices("%00", &[(NOON, ONE, 0.3)]), 422, Some("name")),
        (
            put_prices(&"n".repeat(257), &[(NOON, ONE, 0.3)]),
            422,
            Some("name"),
        ),
        (put_prices("%FF", &[(NOON, ONE, 0.3)]), 400, Some("name")),
        (
            send(
                Method::PUT,
                "/api/tariffs/a",
                r#"{"periods":[{"start":"x","end":"y","buy":1,"buy":1,"sell":1}]}"#,
            ),
            422,
            Some("periods[0].buy"),
        ),
        (
            send(Method::PUT, "/api/tariffs/a", "{}"),
            422,
            Some("periods"),
        ),
    ];
    for time in [
        "",
        "2999-01-01",
        "2999-01-01T12:00:00",
        "2999-01-01T25:00:00Z",
        "2999-02-30T12:00:00Z",
        "2999-13-01T12:00:00Z",
        "2999-01-01T12:00:00Mars/Phobos",
        "2999-01-01T12:00:00Z[Mars/Phobos]",
        "2999-01-01T12:00:00Z[!Mars/Phobos]",
        "2999-01-01T12:00:00[Europe/Berlin]",
        "2999-01-01T12:00:00+99:00",
        "32472144000000",
    ] {
        cases.push((put(&[(time, TWO, 0.3)]), 422, start));
    }
    check(cases).await;
}

#[actix_web::test]
async fn a_tariff_may_have_any_name_and_periods_of_any_length() {
    let ends = [NOON, "2999-01-01T12:00:01Z", "2999-01-01T12:07:30Z", TWO];
    let odd: Vec<(&str, &str, f64)> = ends.windows(2).map(|it| (it[0], it[1], 1e5)).collect();
    for name in [
        "a", "a%2Fb", "%C3%A4", "a%20b", "100%25", "a+b", "..a", "a%3Fb",
    ] {
        let requests = vec![put_prices(name, &odd), get(&format!("/api/tariffs/{name}"))];
        let answers = ask(&context(), requests).await;
        assert_eq!(answers[0].status, 202, "{name}: {}", answers[0].body);
        assert_eq!(answers[1].status, 200, "{name}");
        let periods = answers[1].body["periods"].as_array().unwrap();
        let held = periods.iter().map(|it| it["end"].as_str().unwrap());
        assert_eq!(held.collect::<Vec<_>>(), ends[1..], "{name}");
    }
}

/// Another API, which knows nothing of what is written here, puts its record before the first ones that are.
struct Crossed {
    log: Shared,
    before: Mutex<Vec<Tariff>>,
}

#[async_trait]
impl Log for Crossed {
    async fn produce(&self, topic: Topic, key: &[u8], value: Vec<u8>) -> Result<(), LogError> {
        let other = self.before.lock().unwrap().pop();
        if let Some(tariff) = other {
            let other = Codec::single_object().encode(&tariff).unwrap();
            self.log.produce(topic, key, other).await?;
        }
        self.log.produce(topic, key, value).await
    }
    async fn subscribe(&self, subscription: Subscription) -> Result<Consumer, LogError> {
        self.log.subscribe(subscription).await
    }
    async fn init(&self) -> Result<(), LogError> {
        Ok(())
    }
    async fn ping(&self) -> Result<(), LogError> {
        Ok(())
    }
    async fn close(&self) {}
}

#[actix_web::test]
async fn a_put_ends_when_the_newest_record_says_all_that_is_known() {
    let hour = |hour: i64| Tariff {
        name: "a".to_owned(),
        periods: vec![PricePeriod {
            start_ms: 4_102_444_800_000 + hour * 3_600_000,
            end_ms: 4_102_444_800_000 + (hour + 1) * 3_600_000,
            buy_per_kwh: 0.3,
            sell_per_kwh: 0.1,
        }],
        stated: Vec::new(),
    };
    let log = Arc::new(OneLog::default());
    let context = RoleContext {
        log: Arc::new(Crossed {
            log: Shared(Arc::clone(&log)),
            before: Mutex::new(vec![hour(3), hour(2), hour(1)]),
        }),
        ..context()
    };
    let prices = Prices::start(&context);
    while prices.all().is_err() {
        tokio::task::yield_now().await;
    }
    let held = prices.put(&hour(0), 0).await.unwrap();
    let starts = |of: &Tariff| of.periods.iter().map(|it| it.start_ms).collect::<Vec<_>>();
    let all: Vec<i64> = (0..4).map(|at| hour(at).periods[0].start_ms).collect();
    assert_eq!(starts(&held), all);
    assert_eq!(starts(&prices.get("a").unwrap().unwrap()), all);
    // The log may keep this record alone.
    let newest = log.records.lock().unwrap()[&Topic::Tariffs].last().cloned();
    let newest: Tariff = context.codec.decode(&newest.unwrap().value).unwrap();
    assert_eq!(starts(&newest), all);
    prices.close();
}

/// Answers each request as the optimizer does where the solver fails on it.
async fn fail_all(log: Arc<OneLog>) {
    let subscription = Subscription {
        group: None,
        member: None,
        topics: vec![Topic::OptimizeRequests],
        start: Start::Latest,
        batch_max: 1,
    };
    let log = Shared(log);
    let mut consumer = log.subscribe(subscription).await.unwrap();
    let codec = Codec::single_object();
    while let Some(event) = consumer.events.recv().await {
        let LogEvent::Records { records, .. } = event else {
            continue;
        };
        for record in records {
            let request: OptimizeRequest = codec.decode(&record.value).unwrap();
            let schedule = Schedule {
                schedule_id: request.request_id.clone(),
                request_id: request.request_id,
                household_id: request.household_id,
                requested_ms: request.requested_ms,
                adopt: request.adopt,
                start_ms: request.problem.start_ms,
                slot_minutes: request.problem.slot_minutes,
                solve_us: 0,
                forecast: request.forecast,
                plan: Plan::failed("the solver failed on this request"),
            };
            let bytes = codec.encode(&schedule).unwrap();
            log.produce(Topic::Schedules, b"7", bytes).await.unwrap();
        }
    }
}

#[actix_web::test]
async fn whoever_waits_for_a_request_that_fails_is_told_why() {
    let log = Arc::new(OneLog::default());
    let failing = tokio::spawn(fail_all(Arc::clone(&log)));
    tokio::task::yield_now().await;
    let context = RoleContext {
        log: Arc::new(Shared(log)),
        ..context()
    };
    let whole = problem(r#""pv_curtailable":false"#).uri("/api/optimize?wait=60");
    let answer = ask(&context, vec![whole]).await.remove(0);
    failing.abort();
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(answer.body["status"], "failed");
    assert_eq!(answer.body["reason"], "the solver failed on this request");
    assert_eq!(answer.body["slots"], json!([]));
}

#[actix_web::test]
async fn those_who_wait_are_bounded_and_the_others_are_told_when_to_come_again() {
    let log = Arc::new(OneLog::default());
    let context = RoleContext {
        log: Arc::new(Shared(Arc::clone(&log))),
        ..context()
    };
    let api = Api::new(context, &HttpConfig::default(), SETTINGS);
    let app = App::new().configure(|app| {
        app.app_data(web::Data::new(api.clone()));
        routes::routes(app);
    });
    let app = init_service(app).await;
    let ask = async || {
        let whole = problem(r#""pv_curtailable":false"#).uri("/api/optimize?wait=0");
        let answer = app.call(whole.to_request()).await.unwrap();
        let after = answer.headers().get("retry-after").cloned();
        (answer.status().as_u16(), after.is_some())
    };
    let asked = || {
        log.records
            .lock()
            .unwrap()
            .contains_key(&Topic::OptimizeRequests)
    };
    let mut waiting = Vec::new();
    while let Ok(waiter) = api.live.wait_for(&format!("7-{}", waiting.len())) {
        waiting.push(waiter);
    }
    assert_eq!(waiting.len(), 1_000);
    assert_eq!(ask().await, (503, true));
    // Who is refused is not queued in secret.
    assert!(!asked());
    // Whoever goes away makes room.
    waiting.pop();
    assert_eq!(ask().await, (202, false));
    assert_eq!(ask().await, (202, false));
    assert!(asked());
    api.close();
}
