//! Names of schemas in single objects: CRC-64-AVRO of the parsing canonical form.

use apache_avro::Schema;
use apache_avro::rabin::Rabin;
use serde_json::Value;

/// A schema's fingerprint, in the order of bytes that a single object has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fingerprint {
    /// As the standard has it, and as other libraries write and look for it.
    pub(super) standard: [u8; 8],
    /// As records of earlier builds have it: the library's own canonical form keeps `{"type":"long"}` for a type with a
    /// logical type, which the standard reduces to `"long"`.
    pub(super) former: [u8; 8],
}

impl Fingerprint {
    /// Of a schema's JSON.
    pub(super) fn of(json: &str) -> Self {
        let mut plain: Value = serde_json::from_str(json).expect("our own schema is JSON");
        let former = rabin(&plain);
        remove_logical_types(&mut plain);
        let standard = rabin(&plain);
        Self { standard, former }
    }

    /// Whether a record with the fingerprint `named` was written with this schema.
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

/// As text.
pub(super) fn hex(fingerprint: [u8; 8]) -> String {
    let digits = fingerprint.iter().map(|byte| format!("{byte:02x}"));
    digits.collect()
}
