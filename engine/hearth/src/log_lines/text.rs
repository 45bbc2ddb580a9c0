//! Log lines for people.

use std::fmt;

use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::format::{Format, FormatEvent, FormatFields, Full, Writer};
use tracing_subscriber::registry::LookupSpan;

use super::repeats::held_back;

/// The format: that of `tracing`, and behind a line how many like it were held back before it.
#[derive(Debug, Default)]
pub(super) struct TextLine(Format<Full>);

impl<S, N> FormatEvent<S, N> for TextLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let held_back = held_back();
        self.0.format_event(context, writer.by_ref(), event)?;
        if held_back > 0 {
            writeln!(
                writer,
                "  ({held_back} lines like this one were held back before it)"
            )?;
        }
        Ok(())
    }
}
