//! What the lab tells people while it works.

use std::time::Instant;

use tokio::sync::mpsc::UnboundedSender;

/// Prints progress, with the time since the start; also to who asked, when that is another process.
#[derive(Clone, Debug)]
pub struct Say {
    started: Instant,
    asker: Option<UnboundedSender<String>>,
}

impl Say {
    /// To the terminal.
    pub fn to_terminal() -> Self {
        Self { started: Instant::now(), asker: None }
    }

    /// To the terminal and to `asker`, timed from now.
    pub fn and_to(asker: UnboundedSender<String>) -> Self {
        Self { started: Instant::now(), asker: Some(asker) }
    }

    /// One step that is done or begins.
    pub fn step(&self, text: impl AsRef<str>) {
        self.plain(format!("{:6.1} s  {}", self.started.elapsed().as_secs_f64(), text.as_ref()));
    }

    /// A line without the time.
    pub fn plain(&self, line: impl Into<String>) {
        let line = line.into();
        println!("{line}");
        if let Some(asker) = &self.asker {
            // Who asked may have gone; the work goes on.
            let _ = asker.send(line);
        }
    }

    /// Seconds since the start.
    pub fn seconds(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }
}
