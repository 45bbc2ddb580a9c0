//! The names of all settings, and suggestions for misspelled ones.

use platform::settings::{BadSetting, Setting};

/// Names with a greater edit distance than this are different words.
const TYPOS_MAX: usize = 3;
/// Letters per allowed typo, so that short names must match more closely.
const LETTERS_PER_TYPO: usize = 4;

/// Every setting there is.
#[derive(Debug)]
pub(super) struct Keys {
    settings: Vec<Setting>,
}

impl Keys {
    pub(super) const fn new(settings: Vec<Setting>) -> Self {
        Self { settings }
    }

    /// Returns the setting `key`, with or without the index of a list's element.
    pub(super) fn get(&self, key: &str) -> Option<&Setting> {
        let key = without_numbers(key);
        self.settings.iter().find(|setting| setting.key == key)
    }

    /// Returns whether `key` names a setting, a group of settings, or an element of a map.
    pub(super) fn is_known(&self, key: &str) -> bool {
        let key = without_numbers(key);
        self.settings.iter().any(|setting| {
            let known = setting.key.as_str();
            let is_group = known
                .strip_prefix(&key)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']));
            let is_map = setting.type_name.starts_with("BTreeMap");
            is_group || is_map && key.starts_with(&format!("{known}."))
        })
    }

    /// Returns whether the setting is a text, so that digits in it are not a number.
    pub(super) fn is_text(&self, key: &str) -> bool {
        let texts = [
            "String",
            "Secret",
            "PathBuf",
            "Option<String>",
            "Option<PathBuf>",
        ];
        self.get(key)
            .is_some_and(|setting| texts.contains(&setting.type_name))
    }

    /// Returns whether the setting is a path.
    pub(super) fn is_path(&self, key: &str) -> bool {
        let setting = self.get(key);
        setting.is_some_and(|setting| type_text(setting.type_name) == "a path")
    }

    /// Returns the secret that a key ending in `_file` reads from a file.
    pub(super) fn secret_from_file<'a>(&self, key: &'a str) -> Option<&'a str> {
        let secret = key.strip_suffix("_file")?;
        self.get(secret)?.is_secret().then_some(secret)
    }

    /// Returns the fault of an unknown key. `shown` is how it was written, `write` formats a key for that source.
    pub(super) fn unknown(
        &self,
        key: &str,
        shown: &str,
        write: impl Fn(&str) -> String,
    ) -> BadSetting {
        let expected = match self.nearest(key) {
            Some(near) => format!("no such setting; did you mean {}?", write(near)),
            None => "no such setting; `hearth config` prints them all".to_owned(),
        };
        BadSetting {
            key: shown.to_owned(),
            expected,
        }
    }

    /// Returns the setting whose name differs least, ignoring dots and underscores.
    fn nearest(&self, key: &str) -> Option<&str> {
        let wanted = letters(key);
        let typos_max = TYPOS_MAX.min(wanted.len() / LETTERS_PER_TYPO);
        let typos = |setting: &&Setting| {
            let known = letters(&setting.key);
            strsim::damerau_levenshtein(&wanted, &known)
        };
        let nearest = self.settings.iter().min_by_key(typos)?;
        let by_name = || {
            // The right name under the wrong section, or none.
            let name = key.rsplit('.').next()?;
            let mut same = self.settings.iter();
            same.find(|setting| setting.key.rsplit('.').next() == Some(name))
        };
        let is_near = typos(&nearest) <= typos_max;
        let found = if is_near { Some(nearest) } else { by_name() };
        found.map(|setting| setting.key.as_str())
    }

    /// Returns what the setting accepts, for people.
    pub(super) fn expects(&self, key: &str) -> Option<String> {
        let setting = self.get(key)?;
        Some(if setting.expects.is_empty() {
            type_text(setting.type_name).to_owned()
        } else {
            setting.expects.clone()
        })
    }
}

/// Describes the values of a type, for people.
pub(super) fn type_text(type_name: &str) -> &'static str {
    match type_name {
        "bool" => "true or false",
        "Option<PathBuf>" | "PathBuf" => "a path",
        "String" | "Secret" | "Option<String>" => "a text",
        "f32" | "f64" => "a number",
        name if name.starts_with("BTreeMap") => "names with texts",
        name if name.starts_with("Vec") => "a list",
        _ => "a whole number",
    }
}

fn letters(key: &str) -> String {
    key.chars().filter(|c| c.is_ascii_alphanumeric()).collect()
}

/// Replaces indices as in the reference: `endpoints[3].host` becomes `endpoints[].host`.
fn without_numbers(key: &str) -> String {
    let mut text = String::with_capacity(key.len());
    let mut is_inside = false;
    for c in key.chars() {
        match c {
            '[' => is_inside = true,
            ']' => is_inside = false,
            _ if is_inside => continue,
            _ => {}
        }
        text.push(c);
    }
    text
}

#[cfg(test)]
mod tests {
    use platform::settings::Settings;

    use super::*;
    use crate::config::Config;

    #[track_caller]
    fn check(key: &str, expected: Option<&str>) {
        let mut settings = Vec::new();
        Config::describe("", &mut settings);
        let keys = Keys::new(settings);
        assert!(!keys.is_known(key), "{key}");
        assert_eq!(keys.nearest(key), expected, "{key}");
    }

    #[test]
    fn the_setting_that_was_meant_is_found() {
        check("engine_slot_minutes", Some("engine.slot_minutes"));
        check("engine.slot_minute", Some("engine.slot_minutes"));
        check("engin.slot_minutes", Some("engine.slot_minutes"));
        check("engine.slotminutes", Some("engine.slot_minutes"));
        check("slot_minutes", Some("engine.slot_minutes"));
        check("log.kafka.broker", Some("log.kafka.brokers"));
        check(
            "controller.endpoints[0].hots",
            Some("controller.endpoints[].host"),
        );
        check("colour", None);
        check("engine.the_weather", None);
    }

    #[test]
    fn groups_lists_and_maps_are_known() {
        let mut settings = Vec::new();
        Config::describe("", &mut settings);
        let keys = Keys::new(settings);
        for key in [
            "engine",
            "log.kafka",
            "controller.endpoints",
            "controller.endpoints[1].host",
            "log.kafka.properties.socket.timeout.ms",
        ] {
            assert!(keys.is_known(key), "{key}");
        }
        let secret = keys.secret_from_file("log.kafka.sasl_password_file");
        assert_eq!(secret, Some("log.kafka.sasl_password"));
        assert_eq!(keys.secret_from_file("log.kafka.ca_file"), None);
    }
}
