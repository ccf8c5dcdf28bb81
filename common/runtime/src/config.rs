//! A program's settings: flags, over variables of the environment, over the keys of a `--config` file, over what is built in. The
//! keys of the file are the names of the flags, so that there is one list of settings, one help text and one check.

use std::{collections::BTreeMap, ffi::OsString, path::Path};

use clap::{Arg, Command, Parser, error::ErrorKind};
use serde::Deserialize;

/// Flags that are no settings.
const NO_SETTINGS: [&str; 4] = ["config", "print-config", "help", "version"];

/// Reads the settings of a program whose flag `--config` names the file. Its flags are good before and after a sub-command.
///
/// # Errors
/// A mistake, `--help` or `--version`: clap's error says what and how.
pub fn read<T: Parser>(args: impl IntoIterator<Item = OsString>) -> Result<T, clap::Error> {
    let args: Vec<OsString> = args.into_iter().collect();
    let mut command = T::command();
    if command.has_subcommands() {
        command = command.mut_args(|arg| if arg.is_global_set() { arg } else { arg.global(true) });
    }
    let given = command.clone().ignore_errors(true).try_get_matches_from(&args).ok();
    let file = given.and_then(|given| given.try_get_one::<std::path::PathBuf>("config").ok().flatten().cloned());
    if let Some(file) = file {
        command = with_file(command, &file)?;
    }
    let mut matches = command.try_get_matches_from_mut(args)?;
    T::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut command))
}

/// What a key of the file may hold.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Value {
    One(Scalar),
    Many(Vec<Scalar>),
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Scalar {
    Bool(bool),
    Number(i64),
    Text(String),
}

impl Value {
    fn texts(self) -> Vec<String> {
        match self {
            Value::One(one) => vec![one.text()],
            Value::Many(all) => all.into_iter().map(Scalar::text).collect(),
        }
    }
}

impl Scalar {
    fn text(self) -> String {
        match self {
            Scalar::Bool(value) => value.to_string(),
            Scalar::Number(value) => value.to_string(),
            Scalar::Text(text) => text,
        }
    }
}

/// Makes the keys of a file the defaults of the flags of the same names; an unknown key is an error.
fn with_file(mut command: Command, path: &Path) -> Result<Command, clap::Error> {
    let name = command.get_name().to_owned();
    let fail = |text: String| Command::new(name.clone()).error(ErrorKind::InvalidValue, format!("{}: {text}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| fail(format!("cannot read it: {error}")))?;
    let settings: Option<BTreeMap<String, Value>> =
        serde_saphyr::from_str_with_options(&text, serde_saphyr::options! { strict_booleans: true }).map_err(|error| {
            fail(format!("it must map names of flags to texts or lists, such as `log-format: json`: {error}"))
        })?;
    for (key, value) in settings.unwrap_or_default() {
        let known: Vec<&Arg> = command.get_arguments().filter(|arg| is_setting(arg)).collect();
        let Some(arg) = known.iter().find(|arg| arg.get_long() == Some(&*key)) else {
            let known: Vec<&str> = known.iter().filter_map(|arg| arg.get_long()).collect();
            return Err(fail(format!("there is no setting {key:?}; there are {}", known.join(", "))));
        };
        let id = arg.get_id().clone();
        command = command.mut_arg(id, |arg| arg.required(false).default_values(value.texts()));
    }
    Ok(command)
}

fn is_setting(arg: &Arg) -> bool {
    arg.get_long().is_some_and(|long| !NO_SETTINGS.contains(&long))
}

#[cfg(test)]
mod tests {
    use std::{net::SocketAddr, path::PathBuf};

    use clap::Subcommand;

    use super::*;

    /// A program.
    #[derive(Clone, Debug, Parser, PartialEq)]
    #[command(name = "program", version, args_override_self = true)]
    struct Settings {
        #[arg(long, env = "ATOLL_TEST_NAME_OF_NO_VARIABLE")]
        name: String,
        #[arg(long, default_value = "127.0.0.1:1")]
        listen_at: SocketAddr,
        #[arg(long, value_delimiter = ',')]
        alias: Vec<String>,
        #[arg(long)]
        open: bool,
        // A variable that every environment of this test has.
        #[arg(long, env = "CARGO_MANIFEST_DIR")]
        folder: Option<PathBuf>,
        #[arg(long)]
        config: Option<PathBuf>,
    }

    /// A program with sub-commands.
    #[derive(Clone, Debug, Parser, PartialEq)]
    #[command(name = "program", args_override_self = true)]
    struct Commands {
        #[arg(long, default_value = "a")]
        name: String,
        #[arg(long)]
        config: Option<PathBuf>,
        #[command(subcommand)]
        action: Option<Action>,
    }

    #[derive(Clone, Debug, PartialEq, Subcommand)]
    enum Action {
        Reset,
    }

    /// What is read of a file with `text`, and of `flags`.
    fn with<T: Parser>(text: &str, flags: &[&str]) -> Result<T, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.yaml");
        std::fs::write(&path, text).unwrap();
        let args = ["program", "--config", path.to_str().unwrap()];
        read::<T>(args.iter().chain(flags).map(OsString::from)).map_err(|error| error.to_string())
    }

    #[test]
    fn flags_win_over_the_file_and_the_file_over_what_is_built_in() {
        let file = "name: a\nlisten-at: 127.0.0.1:2\nalias: [x, y]\nopen: true\n";
        let read: Settings = with(file, &["--name=b"]).unwrap();
        assert_eq!((read.name.as_str(), read.listen_at.port(), read.open), ("b", 2, true));
        assert_eq!(read.alias, ["x", "y"]);
        let read: Settings = with(file, &["--alias=z"]).unwrap();
        assert_eq!(read.alias, ["z"], "a flag replaces the whole list");
        let read: Settings = with("# nothing set\n", &["--name=b"]).unwrap();
        assert_eq!((read.listen_at.port(), read.open), (1, false));
    }

    #[test]
    fn variables_win_over_the_file() {
        let read: Settings = with("name: a\nfolder: /of/the/file\n", &[]).unwrap();
        assert_eq!(read.folder, std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from));
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said() {
        for (file, part) in [
            ("name: a\nlisten_at: x\n", "there is no setting \"listen_at\"; there are name, listen-at, alias, open, folder"),
            ("name: a\nconfig: other.yaml\n", "there is no setting \"config\""),
            ("name: a\nlisten-at: nowhere\n", "--listen-at"),
            ("name: {a: b}\n", "names of flags"),
            ("- name\n", "names of flags"),
            ("name: a\nname: b\n", "names of flags"),
            ("alias: x\n", "--name"),
        ] {
            let error = with::<Settings>(file, &[]).unwrap_err();
            assert!(error.contains(part), "{file}: {error}");
            assert!(part.starts_with("--") || error.contains("c.yaml"), "{file}: {error}");
        }
        let error = read::<Settings>(["program", "--config", "/nowhere.yaml"].map(OsString::from)).unwrap_err();
        assert!(error.to_string().contains("/nowhere.yaml"), "{error}");
    }

    #[test]
    fn help_and_version_need_no_file() {
        for (flag, kind) in [("--help", ErrorKind::DisplayHelp), ("--version", ErrorKind::DisplayVersion)] {
            assert_eq!(read::<Settings>(["program", flag].map(OsString::from)).unwrap_err().kind(), kind);
        }
    }

    #[test]
    fn flags_are_good_before_and_after_a_sub_command() {
        for flags in [["reset", "--name=b"], ["--name=b", "reset"]] {
            let read: Commands = with("name: c\n", &flags).unwrap();
            assert_eq!((read.name.as_str(), read.action), ("b", Some(Action::Reset)));
        }
        let read: Commands = with("name: c\n", &["reset"]).unwrap();
        assert_eq!(read.name, "c");
    }
}
