//! What is asked for a home by its id alone is what its engine asks: the same problem, from the first reading on.

use household::effect::Effect;
use household::event::Event;
use household::household::{Env, Household};
use model::asset::{AssetReading, AssetState};
use model::metadata::{BatterySpec, EvSpec};
use model::problem::Problem;
use model::reading::Measurement;
use model::request::OptimizeRequest;
use model::units::{DAY_MS, MINUTE_MS};
use schemas::snapshot::NextOffsets;

use super::*;

/// A quarter past noon, UTC, of some day in 2999.
const SLOT_MS: i64 = 32_472_188_100_000 - 32_472_188_100_000 % (15 * MINUTE_MS);
const NOW_MS: i64 = SLOT_MS + 7 * MINUTE_MS;

fn home() -> HouseholdId {
    HouseholdId::new(7).unwrap()
}

fn metadata() -> Metadata {
    Metadata {
        name: "seven".to_owned(),
        location: "48.14,11.58".to_owned(),
        pv_capacity_kw: 8.0,
        battery: Some(BatterySpec {
            capacity_kwh: 10.0,
            min_soc_kwh: 1.0,
            max_soc_kwh: 9.5,
            charge_kw: 5.0,
            discharge_kw: 5.0,
            charge_efficiency: 0.95,
            discharge_efficiency: 0.95,
            wear_cost_per_kwh: 0.01,
        }),
        ..Metadata::of(home(), "dynamic")
    }
}

fn car() -> EvSpec {
    EvSpec {
        id: "car".to_owned(),
        capacity_kwh: 50.0,
        min_soc_kwh: 5.0,
        goal_soc_kwh: 40.0,
        charge_kw: 10.0,
        min_charge_kw: 0.0,
        discharge_kw: 0.0,
        charge_efficiency: 0.9,
        discharge_efficiency: 0.9,
        wear_cost_per_kwh: 0.0,
        departures: Vec::new(),
    }
}

fn prices() -> Tariff {
    let hours = (0..48).map(|hour: i32| PricePeriod {
        start_ms: SLOT_MS - DAY_MS / 24 + i64::from(hour) * DAY_MS / 24,
        end_ms: SLOT_MS + i64::from(hour) * DAY_MS / 24,
        buy_per_kwh: 0.2 + 0.01 * f64::from(hour % 7),
        sell_per_kwh: 0.08,
    });
    Tariff {
        name: "dynamic".to_owned(),
        periods: hours.collect(),
        stated: Vec::new(),
    }
}

fn readings(kinds: &[Measurement]) -> Vec<Reading> {
    let minutes = (0..7).map(|minute| SLOT_MS + minute * MINUTE_MS);
    let readings = minutes.flat_map(|ts_ms| {
        kinds.iter().map(move |measurement| Reading {
            household_id: home(),
            ts_ms,
            measurement: *measurement,
        })
    });
    readings.collect()
}

const ALL: [Measurement; 3] = [
    Measurement::Meter {
        consumption_w: 600.0,
    },
    Measurement::Pv { pv_w: 1_500.0 },
    Measurement::Battery {
        soc_pct: 55.0,
        power_w: 0.0,
    },
];

/// What the home's engine asks at this moment.
fn engines_problem(of: &OneHome) -> Option<Problem> {
    live(of).1
}

/// The home in its engine, and what that asks at this moment.
fn live(of: &OneHome) -> (Household, Option<Problem>) {
    let tariffs = of.tariff.iter();
    let tariffs = tariffs.map(|tariff| (tariff.name.clone(), Arc::new(tariff.clone())));
    let (tariffs, none) = (tariffs.collect(), BTreeMap::new());
    // Without prices it waits, and asks when all is read.
    let mut env = Env {
        settings: &SETTINGS,
        tariffs: &none,
        now_ms: Some(NOW_MS),
    };
    let (mut household, mut effects) = (Household::new(home()), Vec::new());
    if let Some(metadata) = &of.metadata {
        let event = Event::MetadataChanged(Arc::new(metadata.clone()));
        household.handle(event, &env, &mut effects);
    }
    for reading in &of.readings {
        household.handle(Event::ReadingArrived(*reading), &env, &mut effects);
    }
    let car = AssetReading {
        household_id: home(),
        id: "car".to_owned(),
        ts_ms: SLOT_MS,
        state: AssetState::Ev {
            plugged: true,
            soc_pct: Some(40.0),
            power_w: 0.0,
            departure_ms: None,
            goal_pct: None,
        },
    };
    household.handle(Event::AssetRead(car), &env, &mut effects);
    env.tariffs = &tariffs;
    let tick = Event::ClockTicked { now_ms: NOW_MS };
    household.handle(tick, &env, &mut effects);
    let asked = effects.into_iter().find_map(|effect| {
        let Effect::RequestOptimize(request) = effect else {
            return None;
        };
        Some(request.problem)
    });
    (household, asked)
}

/// Status and detail of the answer, and the problem that was asked.
async fn asked(of: &OneHome) -> (u16, String, Option<Problem>) {
    let log = Arc::new(OneLog::default());
    let context = RoleContext {
        clock: Clock::simulated(NOW_MS, 1e-6),
        log: Arc::new(Shared(Arc::clone(&log))),
        store: Arc::new(of.clone()),
        ..context()
    };
    // The store may be behind with prices.
    if let Some(tariff) = &of.tariff {
        let bytes = context.codec.encode(tariff).unwrap();
        let produced = context.log.produce(Topic::Tariffs, b"dynamic", bytes);
        produced.await.unwrap();
    }
    let request = send(Method::POST, "/api/optimize", r#"{"household_id":7}"#);
    let answer = ask(&context, vec![request]).await.remove(0);
    let records = log.records.lock().unwrap();
    let problem = records.get(&Topic::OptimizeRequests).map(|records| {
        let request: OptimizeRequest = context.codec.decode(&records[0].value).unwrap();
        assert!(request.adopt);
        request.problem
    });
    let detail = answer.body["detail"].as_str().unwrap_or_default();
    (answer.status, detail.to_owned(), problem)
}

/// Scenarios travel to the nearest 10 W of load less PV.
fn as_sent(problem: Problem) -> Problem {
    let request = OptimizeRequest {
        request_id: "7-0-0".to_owned(),
        household_id: home(),
        requested_ms: 0,
        adopt: true,
        problem,
        forecast: None,
    };
    let codec = Codec::single_object();
    let sent: OptimizeRequest = codec.decode(&codec.encode(&request).unwrap()).unwrap();
    sent.problem
}

#[actix_web::test]
async fn a_home_in_its_first_quarter_hour_is_asked_as_its_engine_asks() {
    let whole = OneHome {
        metadata: Some(metadata()),
        tariff: Some(prices()),
        readings: readings(&ALL),
        snapshot: None,
    };
    let without_battery = OneHome {
        metadata: Some(Metadata {
            battery: None,
            ..metadata()
        }),
        readings: readings(&ALL[..2]),
        ..whole.clone()
    };
    let one_reading_each = OneHome {
        readings: readings(&ALL).split_off(18),
        ..whole.clone()
    };
    for home in [whole, without_battery, one_reading_each] {
        let (status, detail, problem) = asked(&home).await;
        assert_eq!(status, 202, "{detail}");
        assert!(problem.is_some());
        assert!(problem == engines_problem(&home).map(as_sent));
    }
}

/// Its engine has let it go, or is just being started again.
#[actix_web::test]
async fn a_home_that_no_engine_holds_is_asked_as_its_engine_asked() {
    let home = OneHome {
        metadata: Some(Metadata {
            evs: vec![car()],
            ..metadata()
        }),
        tariff: Some(prices()),
        readings: readings(&ALL),
        snapshot: None,
    };
    let (household, wanted) = live(&home);
    assert_eq!(wanted.as_ref().map(|problem| problem.evs.len()), Some(1));
    let snapshot = schemas::snapshot::encode(0, &NextOffsets::default(), &household);
    let left = OneHome {
        readings: Vec::new(),
        snapshot: Some(snapshot),
        ..home
    };
    let (status, detail, problem) = asked(&left).await;
    assert_eq!(status, 202, "{detail}");
    assert!(wanted.is_some());
    assert!(problem == wanted.map(as_sent));
    // A snapshot that does not read says nothing of the home.
    let broken = OneHome {
        snapshot: Some(b"broken".to_vec()),
        ..left
    };
    let (status, detail, _) = asked(&broken).await;
    assert_eq!(status, 409, "{detail}");
}

#[actix_web::test]
async fn a_home_that_lacks_something_is_told_what() {
    let whole = OneHome {
        metadata: Some(metadata()),
        tariff: Some(prices()),
        readings: readings(&ALL),
        snapshot: None,
    };
    let lacking = [
        (
            OneHome {
                readings: Vec::new(),
                ..whole.clone()
            },
            409,
            "no_soc",
        ),
        (
            OneHome {
                metadata: None,
                ..whole.clone()
            },
            404,
            "metadata",
        ),
        (
            OneHome {
                tariff: None,
                ..whole.clone()
            },
            409,
            "no_tariff",
        ),
        (
            OneHome {
                readings: readings(&ALL[1..]),
                ..whole.clone()
            },
            409,
            "no_load",
        ),
        (
            OneHome {
                readings: readings(&ALL[..2]),
                ..whole.clone()
            },
            409,
            "no_soc",
        ),
        (
            OneHome {
                readings: readings(&[ALL[0], ALL[2]]),
                ..whole
            },
            409,
            "no_pv",
        ),
    ];
    for (home, wanted, says) in lacking {
        let (status, detail, problem) = asked(&home).await;
        assert_eq!(status, wanted, "{detail}");
        assert!(detail.contains(says), "{detail}");
        assert_eq!(problem, None);
        assert_eq!(engines_problem(&home), None);
    }
}
