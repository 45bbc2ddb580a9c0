//! `hearth dead-letters list|show|replay`: shows refused records, and brings them back once the cause is gone.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Context, Result, bail};
use futures::{StreamExt, TryStreamExt};
use schemas::codec::Message;
use schemas::dead_letter::DeadLetter;
use schemas::mqtt::rfc3339;
use serde_json::{Value, json};

use platform::role_context::RoleContext;

mod again;
mod letters;

pub use again::{Judge, Returned};
pub use letters::{Filter, Letter, LetterId};

/// Letters that are replayed at the same time.
const IN_FLIGHT: usize = 64;
/// Longest detail in a line of the table, characters.
const DETAIL_CHARS: usize = 60;
/// Most reasons of refusal that a replay counts separately.
const WHYS_MAX: usize = 20;

/// A page of letters, newest first.
#[derive(Debug, Clone, Copy)]
pub struct Page {
    pub skip: usize,
    pub limit: usize,
}

/// The result of a replay or a dry run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Replayed {
    /// Letters whose records were written to their topics.
    pub letters: u64,
    /// Records made from them.
    pub records: u64,
    /// Letters skipped because they were replayed before.
    pub before: u64,
    /// Letters skipped because they would be refused again, by reason.
    pub refused: BTreeMap<String, u64>,
    /// Records of the topic that do not decode.
    pub unreadable: u64,
}

/// Returns a page of the letters that match `filter`, as a table or as one JSON object per line.
pub async fn list(
    context: &RoleContext,
    filter: &Filter,
    page: Page,
    as_json: bool,
) -> Result<String> {
    // Keeps only as many letters as may be shown, however long the topic is.
    let kept_max = page.skip.saturating_add(page.limit);
    let mut newest: BTreeMap<(i64, LetterId), Letter> = BTreeMap::new();
    let mut total = 0_u64;
    let unreadable = letters::read(context, filter, async |batch| {
        total += batch.len() as u64;
        for mut letter in batch {
            letter.letter.payload = Vec::new();
            newest.insert((letter.letter.refused_ms, letter.id), letter);
            if newest.len() > kept_max {
                newest.pop_first();
            }
        }
        Ok(())
    })
    .await?;
    let shown: Vec<&Letter> = newest
        .values()
        .rev()
        .skip(page.skip)
        .take(page.limit)
        .collect();
    if as_json {
        return Ok(shown
            .iter()
            .map(|letter| format!("{}\n", line_json(letter)))
            .collect());
    }
    let mut text = table(&shown);
    let next = page.skip + shown.len();
    let _ = writeln!(text, "{} of {total} letters", shown.len());
    if (next as u64) < total {
        let _ = writeln!(text, "more: --skip {next}");
    }
    if unreadable > 0 {
        let _ = writeln!(text, "{unreadable} records cannot be read");
    }
    Ok(text)
}

fn line_json(letter: &Letter) -> Value {
    let inner = &letter.letter;
    json!({
        "id": letter.id.to_string(),
        "refused": rfc3339(inner.refused_ms),
        "reason": inner.reason.as_str(),
        "source": inner.source,
        "source_partition": inner.partition,
        "source_offset": inner.offset,
        "key": String::from_utf8_lossy(&letter.key),
        "payload_bytes": inner.payload_bytes,
        "replayed": letter.is_replayed,
        "detail": inner.detail,
    })
}

fn table(letters: &[&Letter]) -> String {
    let heading = [
        "ID", "REFUSED", "REASON", "SOURCE", "BYTES", "REPLAYED", "DETAIL",
    ];
    let mut rows = vec![heading.map(str::to_owned)];
    rows.extend(letters.iter().map(|letter| {
        let inner = &letter.letter;
        [
            letter.id.to_string(),
            rfc3339(inner.refused_ms),
            inner.reason.as_str().to_owned(),
            inner.source.clone(),
            inner.payload_bytes.to_string(),
            if letter.is_replayed { "yes" } else { "no" }.to_owned(),
            inner.detail.chars().take(DETAIL_CHARS).collect(),
        ]
    }));
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..heading.len())
        .map(|column| width(column).unwrap_or(0))
        .collect();
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().zip(&widths);
        let line: Vec<String> = cells
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        let _ = writeln!(text, "{}", line.join("  ").trim_end());
    }
    text
}

/// Returns one letter with its bytes and the result that a replay would have now.
pub async fn show(context: &RoleContext, id: LetterId, judge: Judge<'_>) -> Result<String> {
    let filter = Filter {
        ids: vec![id],
        ..Filter::default()
    };
    let mut found = None;
    letters::read(context, &filter, async |batch| {
        found = found.take().or_else(|| batch.into_iter().next());
        Ok(())
    })
    .await?;
    let Some(letter) = found else {
        bail!("dead letter {id} does not exist");
    };
    let inner = &letter.letter;
    let mut text = serde_json::to_string_pretty(&line_json(&letter))?;
    let _ = writeln!(text, "\n\n{}", bytes_text(&inner.payload));
    match judge.again(&letter.key, inner) {
        Ok(records) => {
            let _ = writeln!(
                text,
                "\nnow it would be taken as {} records:",
                records.len()
            );
            for record in &records {
                let key = String::from_utf8_lossy(&record.key);
                let fields = judge.fields(record).unwrap_or_else(|why| why);
                let _ = writeln!(text, "  {} key {key}: {fields}", record.topic);
            }
        }
        Err(why) => {
            let _ = writeln!(text, "\nnow it would be refused again: {why}");
        }
    }
    Ok(text)
}

/// Returns the bytes as text if they are text, else in hexadecimal.
fn bytes_text(bytes: &[u8]) -> String {
    const LINE_BYTES: usize = 16;
    let is_text = |text: &&str| !text.chars().any(|c| c.is_control() && !c.is_whitespace());
    if let Some(text) = std::str::from_utf8(bytes).ok().filter(is_text) {
        return text.to_owned();
    }
    let mut dump = String::new();
    for (line, chunk) in bytes.chunks(LINE_BYTES).enumerate() {
        let hex: Vec<String> = chunk.iter().map(|byte| format!("{byte:02x}")).collect();
        let shown = chunk.iter().map(|byte| match byte {
            b' '..=b'~' => char::from(*byte),
            _ => '.',
        });
        let shown: String = shown.collect();
        let _ = writeln!(
            dump,
            "{:08x}  {:47}  {shown}",
            line * LINE_BYTES,
            hex.join(" ")
        );
    }
    dump.trim_end().to_owned()
}

/// Writes the letters that match `filter` back to their topics, and marks them. A letter counts as replayed once its mark
/// is durable. If the process dies before that, the next replay writes it again, which changes nothing.
pub async fn replay(
    context: &RoleContext,
    filter: &Filter,
    judge: Judge<'_>,
    dry_run: bool,
    mut progress: impl FnMut(&Replayed),
) -> Result<Replayed> {
    let mut done = Replayed::default();
    let unreadable = letters::read(context, filter, async |batch| {
        let mut back = Vec::new();
        for letter in batch {
            if letter.is_replayed {
                done.before += 1;
                continue;
            }
            match judge.again(&letter.key, &letter.letter) {
                Ok(records) => back.push((letter, records)),
                Err(why) => done.refuse(why),
            }
        }
        let returns = back.iter().map(|(letter, records)| async {
            if !dry_run {
                bring_back(context, letter, records, judge.now_ms).await?;
            }
            anyhow::Ok(records.len())
        });
        let mut returns = futures::stream::iter(returns).buffer_unordered(IN_FLIGHT);
        while let Some(records) = returns.try_next().await? {
            done.letters += 1;
            done.records += records as u64;
        }
        progress(&done);
        Ok(())
    })
    .await?;
    done.unreadable = unreadable;
    Ok(done)
}

impl Replayed {
    fn refuse(&mut self, why: String) {
        let is_room = self.refused.len() < WHYS_MAX || self.refused.contains_key(&why);
        let why = if is_room {
            why
        } else {
            "for other reasons".to_owned()
        };
        *self.refused.entry(why).or_default() += 1;
    }
}

async fn bring_back(
    context: &RoleContext,
    letter: &Letter,
    records: &[Returned],
    now_ms: i64,
) -> Result<()> {
    for record in records {
        let written = context
            .log
            .produce(record.topic, &record.key, record.value.clone())
            .await;
        written.with_context(|| format!("bring dead letter {} back", letter.id))?;
    }
    let mark = context.codec.encode(&letters::mark(letter, now_ms))?;
    let marked = context
        .log
        .produce(DeadLetter::TOPIC, &letter.key, mark)
        .await;
    marked.with_context(|| format!("mark dead letter {} as replayed", letter.id))
}

#[cfg(test)]
mod tests {
    use super::bytes_text;

    #[test]
    fn bytes_are_text_or_hexadecimal() {
        assert_eq!(bytes_text(b"{\"a\": 1}\n"), "{\"a\": 1}\n");
        assert_eq!(
            bytes_text(b"\x00\x01ab\xff"),
            "00000000  00 01 61 62 ff                                   ..ab."
        );
    }
}
