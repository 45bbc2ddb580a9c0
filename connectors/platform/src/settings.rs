//! Declares settings together with their bounds. One declaration makes the struct, its defaults, its checks and its
//! lines in the reference.
//!
//! ```
//! platform::settings! {
//!     /// The oven.
//!     pub struct OvenConfig {
//!         /// Degrees Celsius.
//!         #[range(50..=250)]
//!         heat_c: u32 = 180,
//!         /// Who may open it.
//!         #[expects("a name without spaces", |name: &String| !name.contains(' '))]
//!         cook: String = "anna".to_owned(),
//!         /// Whether the light is on.
//!         light: bool = true,
//!     }
//! }
//! use platform::settings::Settings;
//! let config = OvenConfig { heat_c: 400, ..OvenConfig::default() };
//! let bad = config.checked("oven").unwrap_err();
//! assert_eq!(bad.to_string(), "oven.heat_c: expected 50 to 250, found 400");
//! ```

use std::borrow::Borrow;
use std::fmt::{Debug, Display};
use std::ops::RangeInclusive;

/// A setting with a value that is not allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {expected}")]
pub struct BadSetting {
    /// Section and name, such as `engine.tick_ms`.
    pub key: String,
    /// What was expected and what was found.
    pub expected: String,
}

impl BadSetting {
    /// Makes the fault of `key` in `section`.
    pub fn new(section: &str, key: &str, expected: impl Into<String>) -> Self {
        Self {
            key: join(section, key),
            expected: expected.into(),
        }
    }
}

/// One setting as the reference shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// Section and name, such as `engine.tick_ms`; `[]` stands for any element of a list.
    pub key: String,
    /// Rust's name for its type.
    pub type_name: &'static str,
    /// Its bounds or form; empty if every value of its type is allowed.
    pub expects: String,
    /// What it means.
    pub about: String,
}

impl Setting {
    /// Returns whether it is a secret, which is hidden when settings are printed and may be read from a file.
    #[must_use]
    pub fn is_secret(&self) -> bool {
        self.type_name == "Secret"
    }
}

/// A group of settings made by [`settings!`](crate::settings).
pub trait Settings {
    /// Adds every setting of the group, with `section` as the prefix of the names.
    fn describe(section: &str, found: &mut Vec<Setting>);

    /// Adds the settings whose values are not allowed.
    fn check(&self, section: &str, bad: &mut Vec<BadSetting>);

    /// Fails with the first setting whose value is not allowed.
    fn checked(&self, section: &str) -> Result<(), BadSetting> {
        let mut bad = Vec::new();
        self.check(section, &mut bad);
        bad.into_iter().next().map_or(Ok(()), Err)
    }
}

/// A list of groups: each element is checked.
impl<T: Settings> Settings for Vec<T> {
    fn describe(section: &str, found: &mut Vec<Setting>) {
        T::describe(&format!("{section}[]"), found);
    }

    fn check(&self, section: &str, bad: &mut Vec<BadSetting>) {
        for (index, entry) in self.iter().enumerate() {
            entry.check(&format!("{section}[{index}]"), bad);
        }
    }
}

/// Joins section and name with a dot.
#[must_use]
pub fn join(section: &str, name: &str) -> String {
    if section.is_empty() {
        name.to_owned()
    } else {
        format!("{section}.{name}")
    }
}

/// Returns a range as text: `1 to 672`.
pub fn range_text<T: Display>(range: &RangeInclusive<T>) -> String {
    format!("{} to {}", range.start(), range.end())
}

/// Fails unless `value` lies in `range`. NaN lies in no range.
pub fn in_range<T: PartialOrd + Display>(
    section: &str,
    name: &str,
    value: &T,
    range: &RangeInclusive<T>,
) -> Result<(), BadSetting> {
    if range.contains(value) {
        return Ok(());
    }
    let expected = format!("expected {}, found {value}", range_text(range));
    Err(BadSetting::new(section, name, expected))
}

/// Fails unless `fits` accepts `value`; `expects` says what was expected.
pub fn fits<T: Debug + Borrow<Q>, Q: ?Sized>(
    section: &str,
    name: &str,
    value: &T,
    expects: &str,
    fits: impl Fn(&Q) -> bool,
) -> Result<(), BadSetting> {
    if fits(value.borrow()) {
        return Ok(());
    }
    let expected = format!("expected {expects}, found {value:?}");
    Err(BadSetting::new(section, name, expected))
}

/// Returns whether `text` is `HOST:PORT`, with a name, an IPv4 address, or an IPv6 address in brackets.
#[must_use]
pub fn is_host_and_port(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| {
        let is_host = !host.is_empty() && (host.starts_with('[') || !host.contains(':'));
        is_host && port.parse::<u16>().is_ok()
    })
}

/// Joins the lines of a doc comment to one.
#[must_use]
pub fn one_line(lines: &[&str]) -> String {
    let words = lines.iter().flat_map(|line| line.split_whitespace());
    words.collect::<Vec<_>>().join(" ")
}

/// Declares a group of settings: see the [module](crate::settings).
///
/// A field may have one of
/// - `#[range(MIN..=MAX)]`: bounds of a number, both included;
/// - `#[expects("what", check)]`: a form, with a function or closure that takes `&T` and returns whether it fits;
/// - `#[expects("what")]`: a form that the type itself enforces, for the reference;
/// - `#[section]`: another group.
///
/// `together check;` at the end names a function that takes `&Self`, the section and the list of faults. It checks
/// rules that concern several settings.
#[macro_export]
macro_rules! settings {
    (
        $(#[doc = $about:literal])*
        $(#[derive($($derive:ident),+)])?
        pub struct $name:ident {
            $(
                $(#[doc = $doc:literal])*
                $(#[range($range:expr)])?
                $(#[expects($expects:expr $(, $fits:expr)?)])?
                $(#[section $($section:tt)?])?
                $field:ident: $type:ty = $default:expr
            ),* $(,)?
            $(; together $together:expr)?
        }
    ) => {
        $(#[doc = $about])*
        #[derive(Debug, Clone, PartialEq, ::serde::Serialize, ::serde::Deserialize)]
        $(#[derive($($derive),+)])?
        #[allow(unreachable_pub, reason = "whoever declares settings decides who sees them")]
        #[serde(default, deny_unknown_fields)]
        pub struct $name {
            $(
                $(#[doc = $doc])*
                $(#[doc = concat!("\n\nExpected: ", stringify!($range), ".")])?
                $(#[doc = concat!("\n\nExpected: ", $expects, ".")])?
                pub $field: $type,
            )*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        }

        impl $crate::settings::Settings for $name {
            fn describe(section: &str, found: &mut Vec<$crate::settings::Setting>) {
                $(
                    $crate::settings!(@describe section, found, $field, $type, [$($doc)*]
                        $(, range $range)? $(, expects $expects)? $(, group $($section)?)?);
                )*
            }

            fn check(&self, section: &str, bad: &mut Vec<$crate::settings::BadSetting>) {
                $(
                    $(bad.extend($crate::settings::in_range(
                        section, stringify!($field), &self.$field, &$range).err());)?
                    $($(bad.extend($crate::settings::fits(
                        section, stringify!($field), &self.$field, $expects, $fits).err());)?)?
                    $crate::settings!(@check self, section, bad, $field $(, group $($section)?)?);
                )*
                $($together(self, section, bad);)?
            }
        }
    };
    (@describe $section:ident, $found:ident, $field:ident, $type:ty, [$($doc:literal)*], group) => {
        <$type as $crate::settings::Settings>::describe(
            &$crate::settings::join($section, stringify!($field)), $found);
    };
    (@describe $section:ident, $found:ident, $field:ident, $type:ty, [$($doc:literal)*]
        $(, range $range:expr)? $(, expects $expects:expr)?) => {
        $found.push($crate::settings::Setting {
            key: $crate::settings::join($section, stringify!($field)),
            type_name: stringify!($type),
            expects: {
                let expects = String::new();
                $(let expects = expects + &$crate::settings::range_text::<$type>(&$range);)?
                $(let expects = expects + $expects;)?
                expects
            },
            about: $crate::settings::one_line(&[$($doc),*]),
        });
    };
    (@check $self:ident, $section:ident, $bad:ident, $field:ident, group) => {
        $crate::settings::Settings::check(
            &$self.$field, &$crate::settings::join($section, stringify!($field)), $bad);
    };
    (@check $self:ident, $section:ident, $bad:ident, $field:ident) => {};
}

#[cfg(test)]
mod tests {
    use super::*;

    crate::settings! {
        /// An inner group.
        pub struct Inner {
            /// A share.
            #[range(0.0..=1.0)]
            share: f64 = 0.5,
        }
    }

    crate::settings! {
        /// An outer group.
        pub struct Outer {
            /// How many, in
            /// words on two lines.
            #[range(1..=9)]
            count: u32 = 3,
            /// Its name.
            #[expects("a name", |name: &String| !name.is_empty())]
            name: String = "x".to_owned(),
            #[section]
            inner: Inner = Inner::default(),
            #[section]
            list: Vec<Inner> = Vec::new(),
            /// The end of both.
            last: bool = false,
            ; together |outer: &Outer, section: &str, bad: &mut Vec<BadSetting>| {
                if outer.last && outer.count == 1 {
                    bad.push(BadSetting::new(section, "last", "expected false if count is 1"));
                }
            }
        }
    }

    #[track_caller]
    fn check(change: impl Fn(&mut Outer), expected: &[&str]) {
        let mut outer = Outer::default();
        change(&mut outer);
        let mut bad = Vec::new();
        outer.check("outer", &mut bad);
        let found: Vec<String> = bad.iter().map(ToString::to_string).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn defaults_pass_and_each_fault_is_named() {
        check(|_| {}, &[]);
        check(
            |outer| {
                outer.count = 10;
                outer.name.clear();
                outer.inner.share = f64::NAN;
                outer.list.push(Inner { share: -1.0 });
            },
            &[
                "outer.count: expected 1 to 9, found 10",
                "outer.name: expected a name, found \"\"",
                "outer.inner.share: expected 0 to 1, found NaN",
                "outer.list[0].share: expected 0 to 1, found -1",
            ],
        );
        check(
            |outer| (outer.count, outer.last) = (1, true),
            &["outer.last: expected false if count is 1"],
        );
    }

    #[test]
    fn an_address_has_a_host_and_a_port() {
        for (text, expected) in [
            ("127.0.0.1:0", true),
            ("kafka-0.kafka:9092", true),
            ("[::1]:8080", true),
            ("::1:8080", false),
            (":8080", false),
            ("host", false),
            ("host:70000", false),
        ] {
            assert_eq!(is_host_and_port(text), expected, "{text}");
        }
    }

    #[test]
    fn every_setting_is_described_in_order() {
        let mut found = Vec::new();
        Outer::describe("outer", &mut found);
        let keys: Vec<&str> = found.iter().map(|setting| setting.key.as_str()).collect();
        let expected = [
            "outer.count",
            "outer.name",
            "outer.inner.share",
            "outer.list[].share",
            "outer.last",
        ];
        assert_eq!(keys, expected);
        assert_eq!(found[0].expects, "1 to 9");
        assert_eq!(found[0].about, "How many, in words on two lines.");
        assert_eq!(found[1].expects, "a name");
    }
}
