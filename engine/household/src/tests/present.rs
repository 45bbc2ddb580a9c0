//! A home at a moment, for sums over the fleet.

use super::*;
use crate::present::Present;

impl World {
    fn present(&self, now_ms: i64) -> Option<Present> {
        let env = Env {
            settings: &self.settings,
            tariffs: &self.tariffs,
            now_ms: Some(now_ms),
        };
        self.home.present(now_ms, &env)
    }
}

/// 500 W of load, 2,000 W of PV and 100 W into a battery of 10 kWh that is half full; 0.2 per kWh before noon, 0.1 paid.
#[test]
fn a_home_that_exports() {
    let mut world = World::with(SETTINGS, metadata());
    world.read_all(at(600));
    let expected = Present {
        homes_count: 1,
        load_w: 500.0,
        pv_w: 2_000.0,
        import_w: 0.0,
        export_w: 1_400.0,
        charge_w: 100.0,
        discharge_w: 0.0,
        stored_wh: 5_000.0,
        capacity_wh: 10_000.0,
        load_cost_per_hour: 0.1,
        import_cost_per_hour: 0.0,
        export_revenue_per_hour: 1.4 * 0.1,
        steered_battery_w: 0.0,
        planned_battery_w: 0.0,
    };
    let present = world.present(at(601)).unwrap();
    let close = |a: f64, b: f64| (a - b).abs() < 1e-9;
    assert!(close(
        present.export_revenue_per_hour,
        expected.export_revenue_per_hour
    ));
    let export_revenue_per_hour = expected.export_revenue_per_hour;
    assert_eq!(
        Present {
            export_revenue_per_hour,
            ..present
        },
        expected
    );
    let mut sum = present;
    sum += present;
    assert_eq!((sum.homes_count, sum.export_w), (2, 2_800.0));
}

#[test]
fn a_home_that_imports_at_night_while_its_inverter_sleeps() {
    let mut world = World::with(SETTINGS, metadata());
    world.read(pv(at(-240), 0.0));
    world.read(load(at(0), 300.0));
    world.read(battery(at(0), 20.0));
    let present = world.present(at(1)).unwrap();
    assert_eq!((present.pv_w, present.import_w), (0.0, 400.0));
    assert!((present.import_cost_per_hour - 0.08).abs() < 1e-9);
    assert_eq!(present.stored_wh, 2_000.0);
}

#[test]
fn the_plan_stands_beside_what_the_battery_does() {
    let mut world = World::with(SETTINGS, metadata());
    world.read_all(at(600));
    let request = world.requests.last().unwrap().clone();
    world.answer(&request, -1.5);
    let present = world.present(at(601)).unwrap();
    assert_eq!(present.steered_battery_w, 100.0);
    assert_eq!(present.planned_battery_w, -1_500.0);
    // Beyond the horizon of a day nothing is planned.
    world.read_all(at(600 + 25 * 60));
    let present = world.present(at(600 + 25 * 60)).unwrap();
    assert_eq!(present.steered_battery_w, 0.0);
}

/// Nothing of a home counts as 0 that is not known.
#[test]
fn a_home_of_which_something_is_missing_is_in_no_sum() {
    let mut world = World::new(SETTINGS);
    world.read_all(at(600));
    assert_eq!(world.present(at(601)), None, "no metadata");
    world.tell(Event::MetadataChanged(Arc::new(metadata())));
    assert!(world.present(at(601)).is_some());
    let hour = SETTINGS.stale_after_ms / MINUTE_MS;
    assert!(world.present(at(600 + hour)).is_some());
    assert_eq!(world.present(at(601 + hour)), None, "all are stale");
    world.read(load(at(601 + hour), 500.0));
    world.read(pv(at(601 + hour), 500.0));
    assert_eq!(world.present(at(602 + hour)), None, "the battery is stale");
    world.read(battery(at(602 + hour), 50.0));
    assert!(world.present(at(602 + hour)).is_some());
    world.tariffs.clear();
    assert_eq!(world.present(at(602 + hour)), None, "no price");
    let mut plain = World::with(SETTINGS, plain_metadata());
    plain.read(load(at(600), 700.0));
    assert_eq!(plain.present(at(601)).unwrap().import_w, 700.0);
}
