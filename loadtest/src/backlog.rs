//! What a device that was without contact sends of that time: arrays of readings, in batches of half an hour. No IO, no
//! clock.

use schemas::mqtt;
use schemas::telemetry::Telemetry;

use crate::device::{Device, KEPT_MS};

/// Span of a batch. The arrays of its meters come one after the other, and a slot that ended longer ago than Hearth's
/// grace lets its readings go: with longer arrays of the first meter, the readings of the next ones would all be late.
pub(crate) const BATCH_MS: i64 = 2 * KEPT_MS;

/// An array of readings of one meter or gauge, oldest first.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) topic: String,
    pub(crate) payload: String,
    pub(crate) readings_count: u64,
}

/// Returns when the kept mean that contains a moment begins.
pub(crate) const fn floor_ms(ts_ms: i64) -> i64 {
    ts_ms - ts_ms.rem_euclid(KEPT_MS)
}

/// Lets the device live through `[start_ms, end_ms)`, both multiples of [`KEPT_MS`], and returns what it tells of that
/// time.
pub(crate) fn batches(device: &mut Device, start_ms: i64, end_ms: i64) -> Vec<Batch> {
    let mut batches: Vec<Batch> = Vec::new();
    let mut at_ms = start_ms;
    while at_ms < end_ms {
        for told in device.live_through(at_ms) {
            let (topic, json) = match told {
                Telemetry::Reading(it) => (mqtt::reading_topic(&it), mqtt::reading_json(&it)),
                Telemetry::Asset(it) => (mqtt::asset_topic(&it), mqtt::asset_json(&it)),
            };
            if let Some(batch) = batches.iter_mut().find(|batch| batch.topic == topic) {
                batch.payload.push(',');
                batch.payload.push_str(&json);
                batch.readings_count += 1;
            } else {
                batches.push(Batch {
                    topic,
                    payload: format!("[{json}"),
                    readings_count: 1,
                });
            }
        }
        at_ms += KEPT_MS;
    }
    for batch in &mut batches {
        batch.payload.push(']');
    }
    batches
}

#[cfg(test)]
mod tests {
    use model::units::HouseholdId;
    use schemas::mqtt::TimeWindow;

    use super::*;
    use crate::homes::{Home, SEED};

    /// A multiple of a quarter of an hour.
    const START_MS: i64 = 1_790_000_100_000;

    #[test]
    fn batches_are_what_hearth_reads() {
        assert_eq!(floor_ms(START_MS + 1), START_MS);
        let home = Home::mixed(HouseholdId::new(14).unwrap(), SEED);
        let mut device = Device::new(home);
        let kept = batches(&mut device, START_MS, START_MS + BATCH_MS);
        let topics: Vec<_> = kept.iter().map(|batch| batch.topic.as_str()).collect();
        let expected = [
            "home/14/pv",
            "home/14/meter",
            "home/14/battery",
            "home/14/heat/tank",
        ];
        assert_eq!(topics, expected);
        for batch in kept {
            let window = TimeWindow::around(START_MS, i64::MAX, 3_600_000);
            let parsed = mqtt::parse(&batch.topic, batch.payload.as_bytes(), window);
            assert_eq!(parsed.refusals, []);
            let readings = parsed.readings.iter().map(|reading| reading.ts_ms);
            let assets = parsed.assets.iter().map(|asset| asset.ts_ms);
            let times: Vec<_> = readings.chain(assets).collect();
            assert_eq!(times, [START_MS, START_MS + KEPT_MS]);
            assert_eq!(batch.readings_count, 2);
        }
    }
}
