//! Makes `docs/reference/config.md` from the settings themselves.

use std::collections::BTreeMap;
use std::fmt::Write;

use platform::settings::{Setting, Settings};

use super::keys::type_text;
use super::structure::Config;

const HEAD: &str = "\
# Settings

Every setting has a default, a line in one TOML file (`--config FILE` or `HEARTH_CONFIG`) and an environment variable,
which wins. The variable of `engine.tick_ms` is `HEARTH_ENGINE__TICK_MS`: two underscores stand between section and name.
A secret may also be read from a file: `HEARTH_LOG__KAFKA__SASL_PASSWORD_FILE=/run/secrets/kafka`. Entries of a list are
tables in the file (`[[controller.endpoints]]`).

`hearth config` prints every setting as it would be used, and checks them all. A setting that does not exist or is out of
its range ends any command with exit code 2 and names the key and what was expected.

This page is made from the code: `UPDATE_EXPECT=1 cargo test -p hearth --test config_reference` writes it again.
";

/// Returns the whole page.
pub fn page() -> Result<String, toml::ser::Error> {
    let mut settings = Vec::new();
    Config::describe("", &mut settings);
    let defaults = toml::Value::try_from(Config::default())?;
    // The order of sections is that of the file, and a section's own settings stand together.
    let mut order: Vec<&str> = Vec::new();
    let mut sections: BTreeMap<&str, Vec<&Setting>> = BTreeMap::new();
    for setting in &settings {
        let (section, _) = setting.key.rsplit_once('.').unwrap_or_default();
        if !sections.contains_key(section) {
            order.push(section);
        }
        sections.entry(section).or_default().push(setting);
    }
    let mut page = HEAD.to_owned();
    for section in order {
        let _ = write!(page, "\n## {section}\n\n");
        page += "| setting | default | takes | meaning |\n|---|---|---|---|\n";
        for setting in &sections[section] {
            let name = setting.key.rsplit('.').next().unwrap_or_default();
            let takes = if setting.expects.is_empty() {
                type_text(setting.type_name)
            } else {
                &setting.expects
            };
            let default = default_of(&defaults, &setting.key);
            let about = setting.about.replace('|', "\\|");
            let _ = writeln!(page, "| `{name}` | {default} | {takes} | {about} |");
        }
    }
    Ok(page)
}

fn default_of(defaults: &toml::Value, key: &str) -> String {
    let mut value = Some(defaults);
    for name in key.split('.') {
        let (name, is_list) = match name.strip_suffix("[]") {
            Some(name) => (name, true),
            None => (name, false),
        };
        value = value.and_then(|value| value.get(name));
        if is_list {
            value = value.and_then(|value| value.get(0));
        }
    }
    match value {
        None => String::new(),
        Some(toml::Value::String(text)) if text.is_empty() => "empty".to_owned(),
        Some(toml::Value::Table(table)) if table.is_empty() => "none".to_owned(),
        Some(value) => format!("`{value}`"),
    }
}
