//! How the other subcommands ask the running lab for something: a line of JSON to its socket, lines of text back.

use std::{future::Future, path::Path};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
    sync::mpsc,
};

use super::say::Say;

/// What may be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "ask")]
pub enum Request {
    /// Ends a member and starts it again; one that is dead is started.
    Restart {
        /// Its name.
        name: String,
        /// Of a gateway: names for its certificate in place of the lab's.
        #[serde(default)]
        certificate_names: Option<Vec<String>>,
    },
    /// One more zone.
    AddZone {
        /// Its name.
        name: String,
    },
    /// One more gateway.
    AddGateway {
        /// Its zone.
        zone: String,
        /// Its name, and its workload's.
        name: String,
        /// Where it sends requests.
        upstream: String,
    },
}

/// One line back.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Line {
    Say(String),
    Done,
    Failed(String),
}

/// Takes requests, one after the other, until dropped.
pub async fn serve<F>(listener: UnixListener, handle: impl Fn(Request, Say) -> F) -> Result<()>
where
    F: Future<Output = Result<()>>,
{
    loop {
        let (stream, _) = listener.accept().await?;
        let (reader, mut writer) = stream.into_split();
        let mut first = String::new();
        if BufReader::new(reader).read_line(&mut first).await.is_err() {
            continue;
        }
        let (sender, mut lines) = mpsc::unbounded_channel();
        let last = match serde_json::from_str(&first) {
            Err(error) => Line::Failed(format!("not understood: {error}")),
            Ok(request) => {
                let work = handle(request, Say::and_to(sender));
                let relay = async {
                    while let Some(line) = lines.recv().await {
                        // Who asked may have gone; the work goes on.
                        let _ = write(&mut writer, &Line::Say(line)).await;
                    }
                };
                // The work holds the only sender, so the relay ends with it.
                match tokio::join!(work, relay).0 {
                    Ok(()) => Line::Done,
                    Err(error) => Line::Failed(format!("{error:#}")),
                }
            }
        };
        let _ = write(&mut writer, &last).await;
    }
}

async fn write(writer: &mut (impl AsyncWriteExt + Unpin), line: &Line) -> Result<()> {
    let mut bytes = serde_json::to_vec(line)?;
    bytes.push(b'\n');
    Ok(writer.write_all(&bytes).await?)
}

/// Asks the lab at `socket` and hands each line of its answer to `show`.
pub async fn ask(socket: &Path, request: &Request, show: impl Fn(&str)) -> Result<()> {
    let stream = UnixStream::connect(socket).await.context("no lab runs here: start one with `make lab`")?;
    let (reader, mut writer) = stream.into_split();
    let mut bytes = serde_json::to_vec(request)?;
    bytes.push(b'\n');
    writer.write_all(&bytes).await?;
    let mut lines = BufReader::new(reader).lines();
    while let Some(line) = lines.next_line().await? {
        match serde_json::from_str(&line)? {
            Line::Say(text) => show(&text),
            Line::Done => return Ok(()),
            Line::Failed(why) => bail!("{why}"),
        }
    }
    bail!("the lab ended before it was done")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn progress_then_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("control.sock");
        let server = serve(UnixListener::bind(&socket).unwrap(), async |request, say: Say| {
            say.plain("working");
            match request {
                Request::Restart { name, .. } if name == "global" => Ok(()),
                other => bail!("cannot {other:?}"),
            }
        });
        let client = async {
            let said = std::cell::RefCell::new(Vec::new());
            ask(&socket, &Request::Restart { name: "global".into(), certificate_names: None }, |line| {
                said.borrow_mut().push(line.to_owned())
            })
            .await
            .unwrap();
            assert_eq!(*said.borrow(), ["working"]);
            let error = ask(&socket, &Request::AddZone { name: "aws".into() }, |_| ()).await.unwrap_err();
            assert!(error.to_string().contains("aws"));
        };
        tokio::select! {
            ended = server => panic!("{ended:?}"),
            () = client => {}
        }
    }
}
