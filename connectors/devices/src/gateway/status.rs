//! Tells homes on their status topic that some of their readings were refused, in a retained message and at most once a
//! minute.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use model::units::HouseholdId;
use schemas::mqtt::rfc3339;
use serde_json::json;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::access::Downward;
use super::shared::Shared;
use super::subscribers::Message;
use crate::ingest::RefusalNotice;
use platform::clock::Clock;

const EVERY: Duration = Duration::from_secs(60);
/// Most homes that are remembered; others are not told meanwhile.
const HOMES_MAX: usize = 10_000;
/// Longest detail, characters.
const DETAIL_MAX: usize = 200;

/// A home that was told recently, and refusals that it has not been told yet.
struct Told {
    at: Instant,
    pending: Option<RefusalNotice>,
}

/// Runs until the ingest is gone or the gateway aborts it.
pub(super) async fn run(
    shared: Arc<Shared>,
    clock: Clock,
    mut notices: broadcast::Receiver<RefusalNotice>,
) {
    let mut homes: HashMap<HouseholdId, Told> = HashMap::new();
    let mut tick = interval(Duration::from_secs(5));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            notice = notices.recv() => match notice {
                Ok(notice) => note(&shared, &clock, &mut homes, notice),
                // Homes with lost notices are told about their other refusals.
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            },
            _ = tick.tick() => {
                homes.retain(|_, told| {
                    if told.at.elapsed() < EVERY {
                        return true;
                    }
                    let Some(notice) = told.pending.take() else {
                        return false;
                    };
                    tell(&shared, &clock, &notice);
                    told.at = Instant::now();
                    true
                });
            }
        }
    }
}

fn note(
    shared: &Shared,
    clock: &Clock,
    homes: &mut HashMap<HouseholdId, Told>,
    mut notice: RefusalNotice,
) {
    if let Some(told) = homes.get_mut(&notice.household_id) {
        notice.refused += told.pending.as_ref().map_or(0, |pending| pending.refused);
        told.pending = Some(notice);
    } else if homes.len() < HOMES_MAX {
        tell(shared, clock, &notice);
        let told = Told {
            at: Instant::now(),
            pending: None,
        };
        homes.insert(notice.household_id, told);
    }
}

fn tell(shared: &Shared, clock: &Clock, notice: &RefusalNotice) {
    let detail: String = notice.detail.chars().take(DETAIL_MAX).collect();
    let payload = json!({
        "ts": rfc3339(clock.now_ms()),
        "refused": notice.refused,
        "last_reason": notice.reason.as_str(),
        "detail": detail,
    });
    let payload = Bytes::from(payload.to_string());
    shared
        .subscribers
        .retain(notice.household_id, payload.clone());
    shared.subscribers.pass(&Message {
        household_id: notice.household_id,
        downward: Downward::Status,
        payload,
        acknowledged: true,
        retained: false,
        trace: None,
    });
}
