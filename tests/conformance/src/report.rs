//! What was judged, and how it went.

use std::{collections::BTreeMap, fmt, fs, path::Path};

use anyhow::Context;

/// How one case went.
pub(crate) enum Outcome {
    Passed,
    /// With what was expected and what came.
    Failed(String),
    /// With the reason.
    Skipped(String),
}

impl Outcome {
    /// A case that cannot be read or asked fails, and the next is judged.
    pub(crate) fn or_failed(judged: anyhow::Result<Self>) -> Self {
        judged.unwrap_or_else(|error| Outcome::Failed(format!("{error:#}")))
    }

    /// Passed if nothing speaks against it.
    pub(crate) fn of(fault: Option<String>) -> Self {
        fault.map_or(Outcome::Passed, Outcome::Failed)
    }
}

#[derive(Clone, Copy, Default)]
struct Tally {
    passed: usize,
    judged: usize,
    skipped: usize,
}

impl Tally {
    fn add(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Passed => (self.passed, self.judged) = (self.passed + 1, self.judged + 1),
            Outcome::Failed(_) => self.judged += 1,
            Outcome::Skipped(_) => self.skipped += 1,
        }
    }
}

/// The outcomes of all cases.
#[derive(Default)]
pub(crate) struct Report {
    corpora: Vec<(String, Tally)>,
    folders: BTreeMap<String, Tally>,
    failures: Vec<String>,
    skipped: BTreeMap<String, Vec<String>>,
}

impl Report {
    /// Adds a case of `corpus`; `folder` is the part of it that is judged alone.
    pub(crate) fn add(&mut self, corpus: &str, folder: Option<&str>, case: &str, outcome: &Outcome) {
        if self.corpora.last().is_none_or(|(last, _)| last != corpus) {
            self.corpora.push((corpus.to_owned(), Tally::default()));
        }
        if let Some((_, tally)) = self.corpora.last_mut() {
            tally.add(outcome);
        }
        if let Some(folder) = folder {
            self.folders.entry(format!("{corpus}/{folder}")).or_default().add(outcome);
        }
        match outcome {
            Outcome::Passed => {}
            Outcome::Failed(why) => self.failures.push(format!("{corpus}/{case}\n{why}\n")),
            Outcome::Skipped(why) => self.skipped.entry(why.clone()).or_default().push(format!("{corpus}/{case}")),
        }
    }

    pub(crate) fn judged(&self) -> usize {
        self.corpora.iter().map(|(_, tally)| tally.judged).sum()
    }

    pub(crate) fn failed(&self) -> usize {
        self.failures.len()
    }

    /// Writes the failing cases, and the skipped ones by reason, into `folder`.
    pub(crate) fn write(&self, folder: &Path) -> anyhow::Result<()> {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let skipped: Vec<String> = self.skipped.iter().map(|(why, cases)| format!("{why}\n  {}\n", cases.join("\n  "))).collect();
        for (name, text) in [("failures.txt", self.failures.join("\n")), ("skipped.txt", skipped.join("\n"))] {
            fs::write(folder.join(name), text).with_context(|| format!("cannot write {}", folder.join(name).display()))?;
        }
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (corpus, tally) in &self.corpora {
            line(f, corpus, *tally)?;
            let inside = format!("{corpus}/");
            for (folder, tally) in self.folders.iter().filter(|(folder, _)| folder.starts_with(&inside)) {
                line(f, folder, *tally)?;
            }
        }
        writeln!(f, "failing cases: target/conformance/failures.txt; skipped cases, by reason: target/conformance/skipped.txt")
    }
}

fn line(f: &mut fmt::Formatter<'_>, name: &str, tally: Tally) -> fmt::Result {
    writeln!(f, "{name}: {}/{} (skipped {})", tally.passed, tally.judged, tally.skipped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_a_corpus_and_a_folder() {
        let mut report = Report::default();
        report.add("rest", Some("crud"), "crud/a", &Outcome::Passed);
        report.add("rest", Some("crud"), "crud/b", &Outcome::Failed("expected 1, got 2".into()));
        report.add("rest", Some("inspect"), "inspect/c", &Outcome::Skipped("no such endpoint".into()));
        let text = report.to_string();
        assert!(text.starts_with("rest: 1/2 (skipped 1)\nrest/crud: 1/2 (skipped 0)\nrest/inspect: 0/0 (skipped 1)\n"), "{text}");
        assert_eq!((report.judged(), report.failed()), (2, 1));
    }
}
