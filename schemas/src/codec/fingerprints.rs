//! Schema fingerprints in single-object encoding: CRC-64-AVRO of the parsing canonical form.

use apache_avro::Schema;
use apache_avro::rabin::Rabin;
use serde_json::Value;

/// A schema's fingerprints, in the byte order of single-object encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fingerprint {
    /// The one that the Avro specification defines and other libraries use.
    pub(super) standard: [u8; 8],
    /// The one in records of earlier builds. The library's own canonical form keeps `{"type":"long"}` for a type with a
    /// logical type, while the specification reduces it to `"long"`.
    pub(super) former: [u8; 8],
}

impl Fingerprint {
    /// Computes the fingerprints of a schema, given as JSON.
    pub(super) fn of(json: &str) -> Self {
        let mut plain: Value = serde_json::from_str(json).expect("our own schema is JSON");
        let former = rabin(&plain);
        remove_logical_types(&mut plain);
        let standard = rabin(&plain);
        Self { standard, former }
    }

    /// Returns whether a record with the fingerprint `named` was written with this schema.
    pub(super) fn is(self, named: [u8; 8]) -> bool {
        named == self.standard || named == self.former
    }
}

fn rabin(json: &Value) -> [u8; 8] {
    let schema = Schema::parse(json).expect("our own schema parses");
    let bytes = schema.fingerprint::<Rabin>().bytes;
    bytes
        .try_into()
        .expect("a Rabin fingerprint has eight bytes")
}

fn remove_logical_types(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            fields.remove("logicalType");
            fields.values_mut().for_each(remove_logical_types);
        }
        Value::Array(branches) => branches.iter_mut().for_each(remove_logical_types),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Returns the fingerprint as hexadecimal digits.
pub(super) fn hex(fingerprint: [u8; 8]) -> String {
    let digits = fingerprint.iter().map(|byte| format!("{byte:02x}"));
    digits.collect()
}
