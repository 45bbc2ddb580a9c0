//! Numbers as few bytes as they need, without losing any: what homes keep is mostly small, and whole or with one or two
//! decimals.

/// A number is written as a whole one of these parts, if it is one.
const PARTS: [f64; 3] = [1.0, 10.0, 100.0];
/// Stands for a number that is written as its 64 bits.
const RAW: u64 = 3;
/// Whole numbers of parts below this are exact in 64-bit floats, with room for sign and kind.
const PARTS_MAX: f64 = 1e15;

/// Bytes that are written one value after the other.
#[derive(Debug, Default)]
pub(crate) struct Writer(Vec<u8>);

impl Writer {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Writes seven bits a byte, the lowest first.
    pub(crate) fn whole(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(low_byte(value) | 0x80);
            value >>= 7;
        }
        self.0.push(low_byte(value));
    }

    pub(crate) fn signed(&mut self, value: i64) {
        self.whole(folded(value));
    }

    /// Writes a number and two bits beside it.
    pub(crate) fn flagged(&mut self, value: i64, flags: u64) {
        self.whole(folded(value) << 2 | flags);
    }

    pub(crate) fn number(&mut self, value: f64) {
        for (kind, parts) in (0_u64..).zip(PARTS) {
            let whole = (value * parts).round();
            let is_kept = (whole / parts).to_bits() == value.to_bits();
            // A zero keeps no sign.
            if is_kept && whole.abs() < PARTS_MAX && (whole != 0.0 || whole.is_sign_positive()) {
                #[expect(clippy::cast_possible_truncation, reason = "it is whole and small")]
                let whole = whole as i64;
                return self.flagged(whole, kind);
            }
        }
        self.flagged(0, RAW);
        self.0.extend_from_slice(&value.to_bits().to_le_bytes());
    }
}

/// Reads what a [`Writer`] wrote; `None` where that cannot be.
#[derive(Debug)]
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) const fn is_at_end(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn whole(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    pub(crate) fn signed(&mut self) -> Option<i64> {
        self.whole().map(unfolded)
    }

    pub(crate) fn flagged(&mut self) -> Option<(i64, u64)> {
        let code = self.whole()?;
        Some((unfolded(code >> 2), code & 3))
    }

    pub(crate) fn number(&mut self) -> Option<f64> {
        let (whole, kind) = self.flagged()?;
        if kind == RAW {
            let (bits, rest) = self.0.split_first_chunk()?;
            self.0 = rest;
            return Some(f64::from_bits(u64::from_le_bytes(*bits)));
        }
        let parts = PARTS.get(usize::try_from(kind).ok()?)?;
        #[expect(clippy::cast_precision_loss, reason = "what is written is small")]
        let whole = whole as f64;
        Some(whole / parts)
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the lowest bits")]
const fn low_byte(value: u64) -> u8 {
    value as u8
}

/// Puts the sign into the lowest bit.
const fn folded(value: i64) -> u64 {
    (value << 1 ^ value >> 63).cast_unsigned()
}

const fn unfolded(code: u64) -> i64 {
    (code >> 1).cast_signed() ^ -(code & 1).cast_signed()
}
