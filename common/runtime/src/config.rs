//! A configuration file in front of flags: its keys are the names of the flags, so that there is one list of settings, one help text
//! and one check. Flags win over the environment, the environment over the file.

use std::{collections::BTreeMap, ffi::OsString, path::PathBuf};

use serde::Deserialize;

/// Why a configuration file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// `--config` without a path.
    #[error("--config needs the path of a file")]
    NoPath,
    /// The file cannot be read.
    #[error("cannot read the configuration file {0}: {1}")]
    Read(PathBuf, #[source] std::io::Error),
    /// The file is no map of flags.
    #[error("the configuration file {0} must be a map of flag names to values, such as `log-format: json`: {1}")]
    Parse(PathBuf, String),
}

/// What a key of the file may hold.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Setting {
    Bool(bool),
    Number(i64),
    Text(String),
    List(Vec<String>),
}

/// The arguments of a program with those of the file named by `--config FILE` put in front. `env` tells whether an environment
/// variable is set: its setting is then left out of the file. `prefix` is such as `ATOLL_`.
///
/// # Errors
/// When the file cannot be read or is no map.
pub fn arguments(args: Vec<OsString>, prefix: &str, env: impl Fn(&str) -> bool) -> Result<Vec<OsString>, ConfigError> {
    let Some(path) = config_path(&args)? else { return Ok(args) };
    let text = std::fs::read_to_string(&path).map_err(|error| ConfigError::Read(path.clone(), error))?;
    let settings: BTreeMap<String, Setting> =
        serde_saphyr::from_str_with_options(&text, serde_saphyr::options! { strict_booleans: true })
            .map_err(|error| ConfigError::Parse(path, error.to_string()))?;
    let mut args = args.into_iter();
    let mut merged: Vec<OsString> = args.next().into_iter().collect();
    for (name, setting) in settings {
        if !env(&format!("{prefix}{}", name.to_ascii_uppercase().replace('-', "_"))) {
            merged.extend(flags(&name, setting).into_iter().map(OsString::from));
        }
    }
    merged.extend(args);
    Ok(merged)
}

fn config_path(args: &[OsString]) -> Result<Option<PathBuf>, ConfigError> {
    for (at, arg) in args.iter().enumerate() {
        let Some(text) = arg.to_str() else { continue };
        if text == "--" {
            return Ok(None);
        }
        if text == "--config" {
            return args.get(at + 1).map(|path| Some(path.into())).ok_or(ConfigError::NoPath);
        }
        if let Some(path) = text.strip_prefix("--config=") {
            return Ok(Some(path.into()));
        }
    }
    Ok(None)
}

fn flags(name: &str, setting: Setting) -> Vec<String> {
    match setting {
        Setting::Bool(true) => vec![format!("--{name}")],
        Setting::Bool(false) => Vec::new(),
        Setting::Number(number) => vec![format!("--{name}={number}")],
        Setting::Text(text) => vec![format!("--{name}={text}")],
        Setting::List(list) => list.iter().map(|text| format!("--{name}={text}")).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(file: &str, env: &[&str], expected: &[&str]) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.yaml");
        std::fs::write(&path, file).unwrap();
        let args = vec!["p".into(), "--config".into(), path.clone().into_os_string(), "--zone=b".into()];
        let got = arguments(args, "ATOLL_", |name| env.contains(&name)).unwrap();
        let mut wanted: Vec<OsString> = expected.iter().map(OsString::from).collect();
        wanted.splice(wanted.len() - 1..wanted.len() - 1, ["--config".into(), path.into_os_string()]);
        assert_eq!(got, wanted);
    }

    #[test]
    fn the_file_stands_before_the_flags_and_yields_to_the_environment() {
        check(
            "zone: a\ntls-san: [x, y]\nopen: true\n",
            &[],
            &["p", "--open", "--tls-san=x", "--tls-san=y", "--zone=a", "--zone=b"],
        );
        check("zone: a\nport: 1\n", &["ATOLL_ZONE"], &["p", "--port=1", "--zone=b"]);
    }

    #[test]
    fn a_missing_or_odd_file_is_named() {
        let with = |path: &str| arguments(vec!["p".into(), "--config".into(), path.into()], "ATOLL_", |_| false);
        assert!(with("/nowhere.yaml").unwrap_err().to_string().contains("/nowhere.yaml"));
        assert!(matches!(arguments(vec!["p".into(), "--config".into()], "ATOLL_", |_| false), Err(ConfigError::NoPath)));
    }
}
