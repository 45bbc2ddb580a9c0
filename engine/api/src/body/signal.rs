//! The signal in the JSON of `POST /api/optimize`: a price and soft caps on the net flow at the meter.

use model::problem::{Problem, Signal};
use serde::{Deserialize, Serialize};

use super::field_error::{FieldError, field_error};

/// A price and caps, one value a slot; what is absent asks for nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignalBody {
    #[serde(default)]
    pub price_per_kwh: Vec<f64>,
    /// A null is a slot without a cap.
    #[serde(default)]
    pub import_cap_kw: Vec<Option<f64>>,
    #[serde(default)]
    pub export_cap_kw: Vec<Option<f64>>,
    pub import_breach_price_per_kwh: Option<f64>,
    pub export_breach_price_per_kwh: Option<f64>,
}

/// What is given, a null for none, or that of `known` up to the end of the horizon.
pub(super) fn signal(
    given: Option<Option<SignalBody>>,
    known: Option<&Problem>,
    slots_count: usize,
) -> Result<Option<Signal>, FieldError> {
    if let Some(body) = given {
        return body.map(SignalBody::into_signal).transpose();
    }
    let mut signal = known.and_then(|known| known.signal.clone());
    if let Some(signal) = &mut signal {
        signal.price_per_kwh.truncate(slots_count);
        signal.import_cap_kw.truncate(slots_count);
        signal.export_cap_kw.truncate(slots_count);
    }
    Ok(signal)
}

impl SignalBody {
    fn into_signal(self) -> Result<Signal, FieldError> {
        let price = |price: Option<f64>, way: &str, caps: &[Option<f64>]| {
            let is_needed = caps.iter().any(Option::is_some);
            if price.is_none() && is_needed {
                let field = format!("signal.{way}_breach_price_per_kwh");
                return Err(field_error(&field, format!("required with {way}_cap_kw")));
            }
            Ok(price.unwrap_or(0.0))
        };
        Ok(Signal {
            import_breach_price_per_kwh: price(
                self.import_breach_price_per_kwh,
                "import",
                &self.import_cap_kw,
            )?,
            export_breach_price_per_kwh: price(
                self.export_breach_price_per_kwh,
                "export",
                &self.export_cap_kw,
            )?,
            price_per_kwh: self.price_per_kwh,
            import_cap_kw: self.import_cap_kw,
            export_cap_kw: self.export_cap_kw,
        })
    }
}
