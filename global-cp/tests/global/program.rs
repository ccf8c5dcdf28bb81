//! The program itself: flags, exit codes, signals.

use std::{
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

fn program(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_global-cp"));
    command.args(args).env_remove("ATOLL_STORE").stdin(Stdio::null());
    command
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn mistakes_end_with_a_message_and_a_code() {
    for (args, part) in [
        (&["--rest-lisen", "x"][..], "--rest-listen"),
        (&["--rest-listen", "nowhere"], "--rest-listen"),
        (&["--store", "mysql://x"], "postgres://"),
        (&["--diagnostics-listen", "0.0.0.0:0"], "--metrics-token-file"),
        (&["--config", "/nope.yaml"], "/nope.yaml"),
    ] {
        let output = program(args).output().unwrap();
        assert!(!output.status.success() && text(&output).contains(part), "{args:?}: {}", text(&output));
        assert!(text(&output).lines().count() < 12, "one clear message: {}", text(&output));
    }
}

#[test]
fn settings_are_printed_without_secrets() {
    let output =
        program(&["--print-config", "--data-dir", "/srv/x"]).env("ATOLL_STORE", "postgres://a:s3cret@db/x").output().unwrap();
    let shown = text(&output);
    assert!(output.status.success() && shown.contains("postgres://a:*****@db/x") && shown.contains("/srv/x"), "{shown}");
}

#[test]
fn a_termination_ends_it_soon_and_well() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = program(&["--data-dir", folder.path().to_str().unwrap(), "--log-format", "json"]);
    for flag in ["--rest-listen", "--rest-tls-listen", "--diagnostics-listen", "--link-listen", "--join-listen"] {
        command.args([flag, "127.0.0.1:0"]);
    }
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while !folder.path().join("operator.yaml").exists() {
        assert!(Instant::now() < deadline, "it did not start within 20 s");
        std::thread::sleep(Duration::from_millis(20));
    }
    let begun = Instant::now();
    let killed = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    assert!(killed.success());
    let output = child.wait_with_output().unwrap();
    let logs = text(&output);
    assert!(output.status.success(), "{logs}");
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    for line in logs.lines() {
        assert!(line.starts_with('{'), "a log line is no JSON: {line}");
    }
    let token = std::fs::read_to_string(folder.path().join("operator.yaml")).unwrap();
    let secret = token.lines().find_map(|line| line.strip_prefix("token: ")).unwrap().trim_matches('"');
    assert!(!logs.contains(secret), "the token stands in the log");
}
