//! Judges Atoll by the cases of a folder, which stays where it is: Kuma's documents, requests and answers.
//!
//! ```text
//!   validation, label-validation, rest ─▶ PUT, GET … ─▶ the real router over a real store, in this process
//!   rules, matchers ─▶ atoll-policy        kds-full-sync ─▶ atoll-sync's one rule of what travels
//! ```
//!
//! [`plane`] serves fuzz targets, too. A case whose kind or endpoint is not there counts as skipped, with the reason, never as passed. Must not contain cases.

mod cases;
mod compare;
mod full_sync;
mod labels;
pub mod plane;
mod quirks;
mod report;
mod rest;
mod rules;
mod validation;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use report::Report;

const ABOUT: &str = "CONFORMANCE_DIR names a folder with cases of Kuma's documents, requests and answers (validation/, rest/,
label-validation/, rules/, matchers/, kds-full-sync/, each with a cases.jsonl): make conformance CONFORMANCE_DIR=FOLDER
judges Atoll by them.";

/// Judges by the folder that `CONFORMANCE_DIR` names and prints a line a corpus. Fails when a case fails.
pub fn main() -> ExitCode {
    let Some(folder) = std::env::var_os("CONFORMANCE_DIR").filter(|folder| !folder.is_empty()).map(PathBuf::from) else {
        println!("{ABOUT}");
        return ExitCode::SUCCESS;
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error.into()),
    };
    match runtime.block_on(judge(&folder)) {
        Ok(report) => {
            let written = report.write(&target_folder());
            print!("{report}");
            match written {
                Ok(()) if report.failed() == 0 => ExitCode::SUCCESS,
                Ok(()) => ExitCode::FAILURE,
                Err(error) => failed(&error),
            }
        }
        Err(error) => failed(&error),
    }
}

fn failed(error: &anyhow::Error) -> ExitCode {
    eprintln!("the cases cannot be judged: {error:#}");
    ExitCode::FAILURE
}

/// `target/conformance` of this workspace.
fn target_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/conformance")
}

async fn judge(folder: &Path) -> anyhow::Result<Report> {
    anyhow::ensure!(folder.is_dir(), "{} is no folder", folder.display());
    let mut report = Report::default();
    validation::judge(folder, &mut report).await?;
    rest::judge(folder, &mut report).await?;
    labels::judge(folder, &mut report).await?;
    rules::judge(folder, &mut report)?;
    full_sync::judge(folder, &mut report)?;
    anyhow::ensure!(report.judged() > 0, "{} holds no case that can be judged", folder.display());
    Ok(report)
}
