//! Puts homes that panicked back, as after a crash: their snapshot, and over it what they have seen since, out of the
//! log. Effects of the latter are carried out again. What makes a home panic again and again is passed over.

use model::units::HouseholdId;
use tracing::error;

use crate::actors::{Actors, Turn};
use crate::decode;
use crate::deliver::read_patiently;
use crate::effects::EffectBatch;
use crate::failures::Failures;
use crate::fence::Fenced;
use schemas::snapshot::{NextOffsets, SHARD_TOPICS};

/// Revives homes until none is left among the failures.
pub(crate) async fn revive(
    actors: &mut Actors,
    turn: &Turn,
    failures: &mut Failures,
) -> Result<(), Fenced> {
    while let Some(id) = failures.next() {
        let partition = actors.assignment.partition;
        error!(household = %id, partition, "household failed, starting it again");
        let Some(failed) = actors.homes.take_out(id) else {
            continue;
        };
        actors.outbox.settled().await?;
        let (homes, outbox) = (&mut actors.homes, &mut actors.outbox);
        homes
            .bring_back(vec![id], &actors.assignment, outbox)
            .await?;
        if let Some(home) = homes.residents.get_mut(&id) {
            home.is_unsaved = failed.is_unsaved;
            home.touched = turn.now;
        }
        let mut batch = EffectBatch::replayed();
        replay(actors, turn, id, &failed.next_offsets, &mut batch, failures).await?;
        if let Some(home) = actors.homes.residents.get_mut(&id) {
            home.failed_ticks_count = failed.failed_ticks_count;
        }
        actors.carry_out(turn, batch, failures).await?;
    }
    Ok(())
}

/// Hands a home that was restored the records up to `seen` once more, or those before the first that makes it panic.
async fn replay(
    actors: &mut Actors,
    turn: &Turn,
    id: HouseholdId,
    seen: &NextOffsets,
    batch: &mut EffectBatch,
    failures: &mut Failures,
) -> Result<(), Fenced> {
    let Some(home) = actors.homes.residents.get(&id) else {
        return Ok(());
    };
    let (restored, key) = (home.next_offsets, id.to_string());
    for topic in SHARD_TOPICS {
        let offsets = restored.get(topic)..seen.get(topic);
        if offsets.is_empty() || failures.has_failed(id) {
            continue;
        }
        let from = actors.assignment.of(topic);
        let setup = &actors.assignment.setup;
        let records = read_patiently("records", &actors.assignment.fence, || {
            setup.control.read(from, offsets.clone(), key.as_bytes())
        })
        .await?;
        // What is no event is a dead letter already.
        let (events, _) = decode::home_events(&setup.context.codec, topic, &records)
            .map_err(|newer| actors.assignment.fence.give_up(newer.to_string()))?;
        actors.feed(turn, from, &records, events, batch, failures);
    }
    if let Some(home) = actors.homes.residents.get_mut(&id) {
        for topic in SHARD_TOPICS {
            home.next_offsets.advance(topic, seen.get(topic));
        }
    }
    Ok(())
}
