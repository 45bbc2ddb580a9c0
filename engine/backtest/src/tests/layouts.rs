use super::*;
use crate::layouts::{CityLearnTexts, Layout, OwnHome, citylearn, emhass, minutes, own};
use crate::sunshine::Sunshine;
use crate::tariffs::{MarketPrices, TariffChoice};
use model::units::{DAY_MS, HOUR_MS, MINUTE_MS};

#[test]
fn ones_own_records() {
    let text = "ts,load_w,pv_w,buy_price,sell_price\n\
        2025-09-12T00:00:00Z,100,0,0.3,0.1\n\
        2025-09-12T00:30:00Z,,5,0.4,0.1\n\
        2025-09-12T00:15:00Z,200,1,,\n";
    assert_eq!(Layout::of(text), Some(Layout::Own));
    let table: std::collections::BTreeMap<String, OwnHome> = toml::from_str(
        "[home7]\nbattery={capacity_kwh=8,soc_kwh=4,charge_kw=3,discharge_kw=3,charge_efficiency=0.9,discharge_efficiency=0.9}\n\
        grid={import_limit_kw=10}",
    )
    .unwrap();
    let home = own("home7", text, &table["home7"]).unwrap();
    assert_eq!((home.start_ms, home.step.minutes()), (MIDNIGHT_MS, 15));
    assert_eq!(home.load_w[..2], [100.0, 200.0]);
    assert!(home.load_w[2].is_nan());
    assert_eq!(home.pv_w, [0.0, 1.0, 5.0]);
    let prices = home.prices.unwrap();
    assert_eq!(prices, (vec![0.3, 0.3, 0.4], vec![0.1; 3]));
    assert_eq!(home.battery.max_soc_kwh, 8.0);
    assert_eq!(home.grid.import_limit_kw, Some(10.0));
    let wrong = own("home7", &text.replace("200", "many"), &table["home7"]).unwrap_err();
    assert_eq!(wrong, "line 4: \"many\" is no number");
}

/// Local hours in summer are 7 hours behind UTC there; the hour that is left out in March is left out.
#[test]
fn homes_of_citylearn() {
    let hours = 225 * 24;
    let mut load = "step,month,hour,day_type,daylight_savings_status,b01\n".to_owned();
    let mut solar = "step,b01\n".to_owned();
    let mut price = "step,price_usd_per_kwh,carbon_kg_per_kwh\n".to_owned();
    for hour in 0..hours {
        load += &format!("{hour},8,1,1,0,{}\n", hour % 24);
        solar += &format!("{hour},{}\n", 500 * (hour % 2));
        price += &format!("{hour},0.2{},0.1\n", hour % 2);
    }
    let buildings = r#"{"Building_1":{"electrical_storage":{"capacity":6.4,"efficiency":0.81,"nominal_power":5.0},"pv":{"nominal_power":4.0}}}"#;
    assert_eq!(Layout::of(&load), Some(Layout::CityLearn));
    let texts = CityLearnTexts {
        load: &load,
        solar: &solar,
        price: &price,
        buildings,
    };
    let home = citylearn(texts).unwrap().remove(0);
    // 2016-08-01T07:00Z
    assert_eq!(home.start_ms, 1_470_034_800_000);
    assert_eq!(home.load_w[..3], [0.0, 1_000.0, 2_000.0]);
    assert_eq!(home.pv_w[..2], [0.0, 2_000.0]);
    assert_eq!(home.battery.charge_efficiency, 0.9);
    let at = |ms: i64| home.load_w[usize::try_from((ms - home.start_ms) / HOUR_MS).unwrap()];
    // 2017-01-01T12:00 in standard time is 20:00Z; what says 02:00 on 2017-03-12 was 03:00.
    assert_eq!(at(1_483_300_800_000), 12_000.0);
    assert_eq!(at(1_489_312_800_000), 2_000.0);
    let missing = home.load_w.iter().filter(|watts| watts.is_nan()).count();
    assert_eq!(missing, 1, "the second 01:00 of November");
}

#[test]
fn the_home_of_emhass() {
    let text = "time_utc,load_w,pv_w,pv_forecast_w\n\
        2024-02-28 21:00:00+00:00,50.0,,-1.5\n2024-02-28 21:30:00+00:00,60.0,,700\n2024-02-28 22:30:00+00:00,70.0,3.0,5\n";
    assert_eq!(Layout::of(text), Some(Layout::Emhass));
    let home = emhass("france", text).unwrap();
    assert_eq!((home.step.minutes(), home.load_w.len()), (30, 4));
    assert_eq!(home.pv_w[0], 0.0);
    assert!(home.pv_w[1].is_nan() && home.pv_w[2].is_nan());
    assert_eq!(home.pv_w[3], 3.0);
}

#[test]
fn minutes_with_the_sun_of_another_place() {
    let mut sun = "clock,pv_w\n".to_owned();
    // 2016-03-06 is the 66th day of its year. Each day has its number as power.
    for day in 0..200 {
        for step in 0..288 {
            sun += &format!(
                "2016-03-06T{:02}:{:02},{}\n",
                step / 12,
                step % 12 * 5,
                7 * day
            );
        }
    }
    let sun = Sunshine::parse(&sun).unwrap();
    let text = "utc,load_w\n2007-03-07T00:00Z,10\n2007-03-07T00:01Z,\n2007-03-07T00:02Z,30\n";
    assert_eq!(Layout::of(text), Some(Layout::Minutes));
    let home = minutes("fr", text, &sun).unwrap();
    assert_eq!(home.step.minutes(), 1);
    assert!(home.load_w[1].is_nan());
    // A year of 365 days has its 66th day on 7 March.
    assert_eq!(home.pv_w[0], 0.0);
    assert_eq!(sun.watts_at(home.start_ms + 3 * DAY_MS), 15.0);
    // The day after the record has half of the last one's.
    assert_eq!(
        sun.watts_at(home.start_ms + 200 * DAY_MS),
        199.0 * 5.0 / 2.0
    );
}

#[test]
fn tariffs_are_chosen_in_words() {
    let flat = TariffChoice::Flat {
        buy: 0.3,
        sell: 0.08,
    };
    assert_eq!("flat:0.3/0.08".parse(), Ok(flat));
    assert_eq!("own".parse(), Ok(TariffChoice::Own));
    let spot = TariffChoice::Spot {
        file: "a/b:c.csv".into(),
        markup: 0.15,
        sell: 0.0,
    };
    assert_eq!("spot:a/b:c.csv:0.15/0".parse(), Ok(spot));
    assert!("flat:0.3".parse::<TariffChoice>().is_err());
    let text = "date,start,Deutschland/Luxemburg\n01.06.2019,00:00,30\n01.06.2019,01:00,\n01.06.2019,02:00,-50\n";
    let prices = MarketPrices::parse(text).unwrap();
    // 2024-05-31T22:00Z is midnight in Germany.
    let first_ms = 1_717_192_800_000;
    assert_eq!(prices.per_kwh(first_ms + 59 * MINUTE_MS), 0.03);
    assert_eq!(prices.per_kwh(first_ms + HOUR_MS), 0.03);
    assert_eq!(prices.per_kwh(first_ms + 2 * HOUR_MS), -0.05);
}
