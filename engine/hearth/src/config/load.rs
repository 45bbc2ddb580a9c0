//! Reads the configuration from a file and the environment, and reports wrong settings.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use figment::Figment;
use figment::error::Kind;
use figment::providers::{Format, Serialized, Toml};
use platform::settings::{BadSetting, Settings, join};

use super::keys::Keys;
use super::structure::Config;

const PREFIX: &str = "HEARTH_";
/// Variables that are not settings: the command line, the set-up and the tests read them.
const NO_SETTINGS: [&str; 6] = [
    "CONFIG",
    "CACHE",
    "BIN",
    "KEEP",
    "LOAD_PASSWORD",
    "PROGRESS_S",
];

/// Why the configuration is wrong.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{}", lines(.0))]
    Bad(Vec<BadSetting>),
    #[error("{path}: {reason}")]
    File { path: PathBuf, reason: String },
}

fn lines(bad: &[BadSetting]) -> String {
    let lines: Vec<String> = bad.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

impl Config {
    /// Reads `file`, if any, and the environment.
    pub fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        Self::load_over(&Self::default(), file)
    }

    /// Does the same with other defaults.
    pub fn load_over(defaults: &Self, file: Option<&Path>) -> Result<Self, ConfigError> {
        load(defaults, file, std::env::vars())
    }
}

fn load(
    defaults: &Config,
    file: Option<&Path>,
    environment: impl Iterator<Item = (String, String)>,
) -> Result<Config, ConfigError> {
    let mut settings = Vec::new();
    Config::describe("", &mut settings);
    let keys = Keys::new(settings);
    let mut bad = Vec::new();
    let mut figment = Figment::from(Serialized::defaults(defaults));
    if let Some(path) = file {
        let table = read_file(path)?;
        check_table(&keys, "", &table, &mut bad);
        figment = figment.merge(Toml::file_exact(path));
    }
    let environment: BTreeMap<String, String> = environment
        .filter_map(|(name, value)| Some((name.strip_prefix(PREFIX)?.to_owned(), value)))
        .filter(|(name, value)| !is_no_setting(name, value))
        .collect();
    check_environment(&keys, &environment, &mut bad);
    if !bad.is_empty() {
        return Err(ConfigError::Bad(bad));
    }
    for (name, value) in &environment {
        let key = key_of(name);
        if let Some(secret) = keys.secret_from_file(&key) {
            figment = figment.merge((secret, read_secret(name, value)?));
        } else if keys.is_text(&key) {
            figment = figment.merge((key, value));
        } else {
            let Ok(value) = value.parse::<figment::value::Value>();
            figment = figment.merge((key, value));
        }
    }
    let config: Config = figment.extract().map_err(|error| {
        ConfigError::Bad(error.into_iter().map(|one| misfit(&keys, &one)).collect())
    })?;
    config.check("", &mut bad);
    if bad.is_empty() {
        Ok(config)
    } else {
        Err(ConfigError::Bad(bad))
    }
}

fn read_file(path: &Path) -> Result<toml::Table, ConfigError> {
    let fault = |reason: String| ConfigError::File {
        path: path.to_owned(),
        reason,
    };
    let text = std::fs::read_to_string(path).map_err(|error| fault(error.to_string()))?;
    text.parse()
        .map_err(|error: toml::de::Error| fault(error.to_string()))
}

fn read_secret(name: &str, path: &str) -> Result<String, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|error| ConfigError::File {
        path: PathBuf::from(path),
        reason: format!("{PREFIX}{name}: {error}"),
    })?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

/// Returns a variable's name as in the reference: `ENGINE__TICK_MS` becomes `engine.tick_ms`.
fn key_of(name: &str) -> String {
    name.to_ascii_lowercase().replace("__", ".")
}

fn name_of(key: &str) -> String {
    format!("{PREFIX}{}", key.replace('.', "__").to_ascii_uppercase())
}

/// Returns whether it is no setting. Kubernetes gives pods variables for every service, and one may be called hearth.
fn is_no_setting(name: &str, value: &str) -> bool {
    let is_service = name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || name.contains("_PORT_") && name.contains("_TCP")
        || name.ends_with("PORT") && value.starts_with("tcp://");
    NO_SETTINGS.contains(&name) || is_service
}

fn check_environment(
    keys: &Keys,
    environment: &BTreeMap<String, String>,
    bad: &mut Vec<BadSetting>,
) {
    for (name, value) in environment {
        let key = key_of(name);
        if !keys.is_known(&key) && keys.secret_from_file(&key).is_none() {
            bad.push(keys.unknown(&key, &format!("{PREFIX}{name}"), name_of));
        }
        check_path(keys, &key, value, bad);
    }
}

fn check_table(keys: &Keys, section: &str, table: &toml::Table, bad: &mut Vec<BadSetting>) {
    for (name, value) in table {
        let key = join(section, name);
        if !keys.is_known(&key) {
            bad.push(keys.unknown(&key, &key, str::to_owned));
            continue;
        }
        if let Some(table) = value.as_table() {
            check_table(keys, &key, table, bad);
        }
        if let Some(text) = value.as_str() {
            check_path(keys, &key, text, bad);
        }
        let entries = value.as_array().into_iter().flatten().enumerate();
        for (index, entry) in entries {
            if let Some(table) = entry.as_table() {
                check_table(keys, &format!("{key}[{index}]"), table, bad);
            }
        }
    }
}

/// Refuses an empty path. As a folder it would be the one that the process happens to be in.
fn check_path(keys: &Keys, key: &str, value: &str, bad: &mut Vec<BadSetting>) {
    if value.is_empty() && keys.is_path(key) {
        bad.push(BadSetting::new("", key, "expected a path, found \"\""));
    }
}

/// Returns the fault of a value of the wrong type.
fn misfit(keys: &Keys, error: &figment::Error) -> BadSetting {
    let key = error.path.join(".");
    let found = if let Kind::InvalidType(found, _) | Kind::InvalidValue(found, _) = &error.kind {
        Some(found.to_string())
    } else {
        None
    };
    let expected = match (keys.expects(&key), found) {
        (Some(expects), Some(found)) => format!("expected {expects}, found {found}"),
        (Some(expects), None) => format!("expected {expects}: {}", error.kind),
        (None, _) => error.kind.to_string(),
    };
    BadSetting { key, expected }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn try_load(file: &str, environment: &[(&str, &str)]) -> Result<Config, String> {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("hearth.toml");
        std::fs::write(&path, file).expect("write it");
        let pairs = environment.iter();
        let pairs = pairs.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        load(&Config::default(), Some(&path), pairs).map_err(|error| error.to_string())
    }

    #[track_caller]
    fn check(file: &str, environment: &[(&str, &str)], expected: &str) {
        assert_eq!(try_load(file, environment).unwrap_err(), expected);
    }

    #[test]
    fn a_setting_that_does_not_exist_names_the_right_one() {
        check(
            "",
            &[("HEARTH_ENGINE_SLOT_MINUTES", "5")],
            "HEARTH_ENGINE_SLOT_MINUTES: no such setting; did you mean HEARTH_ENGINE__SLOT_MINUTES?",
        );
        check(
            "[engine]\nslot_minute = 5\n[colour]\n",
            &[("HEARTH_STORE__CQL__PASSWORDS", "x")],
            "colour: no such setting; `hearth config` prints them all\n\
             engine.slot_minute: no such setting; did you mean engine.slot_minutes?\n\
             HEARTH_STORE__CQL__PASSWORDS: no such setting; did you mean HEARTH_STORE__CQL__PASSWORD?",
        );
        check(
            "[[controller.endpoints]]\nhots = \"a\"\n",
            &[],
            "controller.endpoints[0].hots: no such setting; did you mean controller.endpoints[].host?",
        );
    }

    #[test]
    fn a_value_out_of_range_or_of_another_kind_says_what_was_expected() {
        check(
            "",
            &[("HEARTH_INGEST__FUTURE_SKEW_MS", "-1")],
            "ingest.future_skew_ms: expected 0 to 86400000, found -1",
        );
        check(
            "[engine]\nhorizon_slots = 0\ntick_ms = 5\n[gateway]\nreceive_max = 0\n",
            &[],
            "gateway.receive_max: expected 1 to 65535, found 0\n\
             engine.horizon_slots: expected 1 to 672, found 0\n\
             engine.tick_ms: expected 10 to 60000, found 5",
        );
        check(
            "[engine]\nhorizon_slots = -5\n",
            &[],
            "engine.horizon_slots: expected 1 to 672, found signed int `-5`",
        );
        check(
            "",
            &[("HEARTH_ENGINE__STORE_SLOTS", "perhaps")],
            "engine.store_slots: expected true or false, found string \"perhaps\"",
        );
        check(
            "[engine]\nstore_slots = false\n",
            &[],
            "engine.store_slots: expected true, unless publish_slots is: a slot must go somewhere",
        );
        check(
            "",
            &[("HEARTH_HTTP__LISTEN", "8080")],
            "http.listen: expected ADDRESS:PORT, found \"8080\"",
        );
    }

    #[test]
    fn a_path_is_not_empty() {
        for key in [
            "log.dir",
            "store.dir",
            "ingest.spool_dir",
            "store.cql.ca_file",
            "gateway.cert_file",
            "bridge.mqtt.ca_file",
        ] {
            let (section, name) = key.rsplit_once('.').unwrap();
            let expected = format!("{key}: expected a path, found \"\"");
            check(&format!("[{section}]\n{name} = \"\"\n"), &[], &expected);
            check("", &[(name_of(key).as_str(), "")], &expected);
        }
        check(
            "[[controller.endpoints]]\nca_file = \"\"\n",
            &[],
            "controller.endpoints[0].ca_file: expected a path, found \"\"",
        );
        // Empty means none in settings that are texts.
        let none = [
            ("HEARTH_LOG__KAFKA__CA_FILE", ""),
            ("HEARTH_BRIDGE__MQTT__USERNAME", ""),
        ];
        try_load("", &none).unwrap();
    }

    #[test]
    fn what_is_kept_in_folders_is_kept_apart() {
        let embedded = "[log]\nkind = \"embedded\"\n[store]\nkind = \"embedded\"\n";
        try_load(embedded, &[]).unwrap();
        check(
            embedded,
            &[("HEARTH_LOG__DIR", "a/b"), ("HEARTH_STORE__DIR", "./a//b/")],
            "store.dir: expected another folder than log.dir, found \"./a//b/\"",
        );
        check(
            embedded,
            &[("HEARTH_INGEST__SPOOL_DIR", "hearth-data/store")],
            "ingest.spool_dir: expected another folder than store.dir, found \"hearth-data/store\"",
        );
        check(
            "[log]\nkind = \"embedded\"\n",
            &[("HEARTH_INGEST__SPOOL_DIR", "hearth-data/log/.")],
            "ingest.spool_dir: expected another folder than log.dir, found \"hearth-data/log/.\"",
        );
        // With Kafka and CQL there are no such folders.
        try_load("", &[("HEARTH_LOG__DIR", "a"), ("HEARTH_STORE__DIR", "a")]).unwrap();
    }

    #[test]
    fn headers_of_traces_are_checked_and_never_shown() {
        check(
            "[traces]\nheaders = \"authorization\"\nsampled_share = 2.0\n",
            &[("HEARTH_TRACES__ENDPOINT", "collector:4318")],
            "traces.endpoint: expected empty, or http:// or https:// and a host, found \"collector:4318\"\n\
             traces.headers: expected NAME=VALUE, separated by commas, found ***\n\
             traces.sampled_share: expected 0 to 1, found 2",
        );
    }

    #[test]
    fn the_environment_wins_over_the_file_and_secrets_come_from_files() {
        let secret = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(secret.path(), "hush\n").expect("write it");
        let config = try_load(
            "[engine]\ntick_ms = 500\ngrace_minutes = 5\n",
            &[
                ("HEARTH_ENGINE__TICK_MS", "250"),
                (
                    "HEARTH_LOG__KAFKA__SASL_PASSWORD_FILE",
                    secret.path().to_str().expect("text"),
                ),
                ("HEARTH_CONFIG", "hearth.toml"),
                ("HEARTH_API_SERVICE_HOST", "10.0.0.1"),
                ("HEARTH_API_PORT_8080_TCP", "tcp://10.0.0.1:8080"),
                ("HEARTH_API_PORT", "tcp://10.0.0.1:8080"),
                ("PATH", "/bin"),
            ],
        )
        .expect("all of these are fine");
        assert_eq!(
            (config.engine.tick_ms, config.engine.grace_minutes),
            (250, 5)
        );
        assert_eq!(config.log.kafka.sasl_password.expose(), "hush");
    }
}
