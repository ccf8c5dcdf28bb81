//! A list that is followed: server-sent events of a plane to lines.
//!
//! The stream comes back by itself after a loss, from the last revision that it told of; when the plane no more knows what came
//! after that, everything is told again.

use std::{io::Write, time::Duration};

use anyhow::bail;
use atoll_model::{Kind, Timestamp};
use http::StatusCode;
use serde_json::{Value, json};

use crate::{client::Client, columns, output, output::Listing};

/// A stream that says nothing for longer, not even that it lives, is lost.
const SILENCE: Duration = Duration::from_secs(35);
/// Before a stream that was lost is opened again.
const WAIT: Duration = Duration::from_secs(1);
/// How often in a row it is tried.
const TRIES: u32 = 60;

/// What happened to a resource.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// It is there now, or is different.
    Put(Value),
    /// It is gone; type, mesh and name are left.
    Delete(Value),
    /// Everything up to here has been told.
    Mark,
}

/// Follows a list until the plane refuses or cannot be reached any more.
///
/// # Errors
/// When it does, or when nobody reads any more.
pub async fn follow(
    client: &Client,
    path: &[&str],
    query: &[(String, String)],
    err: &mut dyn Write,
    mut tell: impl FnMut(&Event) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut since: Option<String> = None;
    let mut tries = 0;
    loop {
        let mut asked = vec![("watch", "true".to_owned())];
        asked.extend(query.iter().map(|(key, value)| (key.as_str(), value.clone())));
        asked.extend(since.clone().map(|since| ("since", since)));
        match client.stream(path, &asked).await {
            Ok(response) if !response.status().is_success() && response.status() != StatusCode::SERVICE_UNAVAILABLE => {
                client.read(response).await?.refuse()?;
            }
            Ok(mut response) => {
                let mut events = Events::default();
                while let Ok(Ok(Some(bytes))) = tokio::time::timeout(SILENCE, response.chunk()).await {
                    tries = 0;
                    for message in events.feed(&bytes) {
                        since = message.id.clone().or(since).filter(|_| message.name != "gone");
                        if message.name == "gone" {
                            writeln!(err, "{}; everything again", message.detail())?;
                        }
                        if let Some(event) = message.event() {
                            tell(&event)?;
                        }
                    }
                }
            }
            // Who was never reached is not waited for.
            Err(error) if since.is_none() => return Err(error),
            Err(_) => (),
        }
        tries += 1;
        if tries > TRIES {
            bail!("{} ended the stream and cannot be reached any more", client.url());
        }
        if tries == 1 {
            writeln!(err, "the stream of {} ended; opening it again", client.url())?;
        }
        tokio::time::sleep(WAIT).await;
    }
}

/// Takes a stream of server-sent events apart.
#[derive(Debug, Default)]
struct Events {
    rest: Vec<u8>,
    open: Message,
}

/// One event as it was sent.
#[derive(Clone, Debug, Default, PartialEq)]
struct Message {
    id: Option<String>,
    name: String,
    data: String,
}

impl Events {
    /// Takes the next bytes; gives the events that they complete.
    fn feed(&mut self, bytes: &[u8]) -> Vec<Message> {
        self.rest.extend_from_slice(bytes);
        let mut done = Vec::new();
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line[..end]);
            done.extend(self.line(line.trim_end_matches('\r')));
        }
        done
    }

    fn line(&mut self, line: &str) -> Option<Message> {
        if line.is_empty() {
            let message = std::mem::take(&mut self.open);
            return (message != Message::default()).then_some(message);
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "id" => self.open.id = Some(value.to_owned()),
            "event" => value.clone_into(&mut self.open.name),
            "data" => {
                if !self.open.data.is_empty() {
                    self.open.data.push('\n');
                }
                self.open.data.push_str(value);
            }
            _ => (),
        }
        None
    }
}

impl Message {
    /// Why a watch ends.
    fn detail(&self) -> String {
        let data: Value = serde_json::from_str(&self.data).unwrap_or_default();
        data["detail"].as_str().unwrap_or("the changes since then are no more known").to_owned()
    }

    fn event(&self) -> Option<Event> {
        let data = serde_json::from_str(&self.data).ok()?;
        match self.name.as_str() {
            "put" => Some(Event::Put(data)),
            "delete" => Some(Event::Delete(data)),
            "revision" => Some(Event::Mark),
            _ => None,
        }
    }
}

/// Prints events in the form that was asked for.
pub struct Shown {
    kind: Kind,
    format: Listing,
    widths: Vec<usize>,
    /// The rows of what was there at the beginning, until all of them are known: their columns shall stand in line.
    first: Option<Vec<Vec<String>>>,
}

impl Shown {
    /// Nothing is shown yet.
    pub fn new(kind: Kind, format: Listing) -> Self {
        Self { kind, format, widths: Vec::new(), first: Some(Vec::new()) }
    }

    /// Prints one event.
    ///
    /// # Errors
    /// When nobody reads any more.
    pub fn print(&mut self, event: &Event, now: Timestamp, out: &mut dyn Write) -> anyhow::Result<()> {
        let (word, item) = match event {
            Event::Put(item) => ("put", item),
            Event::Delete(item) => ("deleted", item),
            Event::Mark => return Ok(self.flush(out)?),
        };
        match self.format {
            Listing::Table | Listing::Wide => self.row(word, item, now, out)?,
            Listing::Name => {
                write!(out, "{word} ")?;
                output::name(self.kind, item, out)?;
            }
            Listing::Json => writeln!(out, "{}", json!({"event": word, "object": item}))?,
            Listing::Yaml => {
                writeln!(out, "--- # {word}")?;
                output::yaml(&item.to_string(), out)?;
            }
        }
        Ok(out.flush()?)
    }

    fn row(&mut self, word: &str, item: &Value, now: Timestamp, out: &mut dyn Write) -> std::io::Result<()> {
        let (headings, cells) = columns::row(self.kind, self.format, item, now);
        let cells: Vec<String> = std::iter::once(word.to_owned()).chain(cells).collect();
        let Some(first) = &mut self.first else { return self.line(&cells, out) };
        if first.is_empty() {
            first.push(std::iter::once("EVENT").chain(headings).map(str::to_owned).collect());
        }
        first.push(cells);
        Ok(())
    }

    /// Prints what was there at the beginning.
    fn flush(&mut self, out: &mut dyn Write) -> std::io::Result<()> {
        let Some(first) = self.first.take_if(|rows| !rows.is_empty()) else { return Ok(()) };
        let width = |column: usize| first.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
        self.widths = (0..first[0].len()).map(width).collect();
        first.iter().try_for_each(|row| self.line(row, out))?;
        out.flush()
    }

    /// Prints a row in columns that grow when a cell needs it: those above cannot be moved any more.
    fn line(&mut self, cells: &[String], out: &mut dyn Write) -> std::io::Result<()> {
        self.widths.resize(cells.len(), 0);
        let mut line = String::new();
        for (cell, width) in cells.iter().zip(&mut self.widths) {
            *width = cell.chars().count().max(*width);
            line.push_str(&format!("{cell:<width$}  ", width = *width));
        }
        writeln!(out, "{}", line.trim_end())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_whole_however_the_bytes_are_cut() {
        let text = ": hello\n\nid: 7\nevent: put\ndata: {\"a\":\ndata: 1}\n\nid: 8\r\nevent: revision\r\ndata: 8\r\n\r\n";
        for cut in 1..text.len() {
            let mut events = Events::default();
            let mut seen = Vec::new();
            text.as_bytes().chunks(cut).for_each(|part| seen.extend(events.feed(part)));
            assert_eq!(seen.len(), 2, "{cut}");
            assert_eq!((seen[0].id.as_deref(), seen[0].event()), (Some("7"), Some(Event::Put(json!({"a": 1})))));
            assert_eq!((seen[1].id.as_deref(), seen[1].event()), (Some("8"), Some(Event::Mark)));
        }
    }

    #[test]
    fn rows_stand_in_columns() {
        let mut shown = Shown::new(Kind::Mesh, Listing::Table);
        let mut out = Vec::new();
        let now = "2026-01-01T01:00:00Z".parse().unwrap();
        let item = json!({"name": "default", "creationTime": "2026-01-01T00:00:00Z"});
        shown.print(&Event::Put(item), now, &mut out).unwrap();
        assert!(out.is_empty(), "the first rows stand in line");
        shown.print(&Event::Mark, now, &mut out).unwrap();
        shown.print(&Event::Delete(json!({"name": "old"})), now, &mut out).unwrap();
        let expected = "EVENT  NAME     AGE\nput    default  60m\ndeleted  old      -\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
