//! Metadata of a home, as each version of its schema could express it.

use model::metadata::{
    ApplianceSpec, BatterySpec, Departure, EvSpec, HeatStoreSpec, Metadata, Position, PvMounting,
};
use model::problem::Grid;

use super::id;

/// What the first version of the schema could express.
pub(super) fn metadata_v1() -> Metadata {
    Metadata {
        name: "Nordstraße 5".to_owned(),
        location: "48.14,11.58".to_owned(),
        pv_capacity_kw: 7.5,
        battery: Some(BatterySpec {
            capacity_kwh: 10.0,
            min_soc_kwh: 1.0,
            max_soc_kwh: 9.5,
            charge_kw: 5.0,
            discharge_kw: 4.6,
            charge_efficiency: 0.95,
            discharge_efficiency: 0.94,
            wear_cost_per_kwh: 0.02,
        }),
        grid: Grid {
            import_limit_kw: Some(11.0),
            export_limit_kw: None,
            ..Grid::OPEN
        },
        pv_curtailable: true,
        appliances: vec![ApplianceSpec {
            id: "dishwasher".to_owned(),
            profile_kw: vec![2.0, 0.5],
            window_start_min: 600,
            window_end_min: 1_200,
        }],
        ..Metadata::of(id(), "dynamic")
    }
}

/// What the second version of the schema could express.
pub(super) fn metadata_v2() -> Metadata {
    let mut metadata = metadata_v1();
    metadata.grid.peak_price_per_kw = 12.5;
    metadata.grid.peak_kw = 3.5;
    metadata
}

pub(super) fn metadata() -> Metadata {
    Metadata {
        time_zone: "Europe/Berlin".to_owned(),
        position: Some(Position {
            latitude_deg: 48.14,
            longitude_deg: 11.58,
        }),
        pv_mounting: Some(PvMounting {
            tilt_deg: 35.0,
            azimuth_deg: 190.0,
        }),
        evs: vec![EvSpec {
            id: "zoé".to_owned(),
            capacity_kwh: 52.0,
            min_soc_kwh: 5.0,
            goal_soc_kwh: 40.0,
            charge_kw: 11.0,
            min_charge_kw: 4.2,
            discharge_kw: 3.0,
            charge_efficiency: 0.92,
            discharge_efficiency: 0.91,
            wear_cost_per_kwh: 0.03,
            departures: vec![Departure {
                weekday: 4,
                at_min: 435,
            }],
        }],
        heat_stores: vec![HeatStoreSpec {
            id: "tank".to_owned(),
            power_kw: 2.0,
            cop: 3.0,
            kwh_per_k: 0.35,
            loss_kw_per_k: 0.003,
            min_c: 45.0,
            max_c: 60.0,
            ambient_c: 18.0,
            draw_kw: vec![0.25; 24],
        }],
        groups: vec!["feeder 7".to_owned()],
        ..metadata_v2()
    }
}
