//! Hello and Welcome: who is there, and where each begins.

use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;

use super::{Event, Fault, Greeting, PROTOCOL, Phase, Session, Side, ZoneSetup};
use atoll_model::Revision;

use crate::{
    Cursor, Epoch, Message, Standing, View,
    proto::{self, Start},
    receiver::Receiver,
    sender::Has,
};

/// How many epochs a zone names.
const EPOCHS: usize = 256;

/// A zone's first message.
pub(super) fn hello(setup: &ZoneSetup, receiver: &Receiver, view: &View) -> proto::Hello {
    proto::Hello {
        protocol: PROTOCOL,
        zone_name: setup.name.to_string(),
        zone_uid: bytes_of(setup.zone.0),
        instance: setup.instance.clone(),
        software: setup.software.clone(),
        features: Vec::new(),
        cursor: receiver.has().cursor.map(Into::into),
        reached: receiver.has().reached.map(Into::into),
        credit: receiver.credit(),
        head: view.cursor(view.head()).map(Into::into),
        follow: setup.follow.map(bytes_of).unwrap_or_default(),
        epochs: view.epochs().iter().rev().take(EPOCHS).rev().map(|epoch| (*epoch).into()).collect(),
    }
}

impl Session {
    pub(super) fn on_hello(&mut self, hello: &proto::Hello, view: &Arc<View>) -> Result<(), Fault> {
        let Side::Global(setup) = &self.side else { return Err(protocol("global does not say hello")) };
        if self.phase != Phase::Greeting {
            return Err(protocol("a second hello"));
        }
        if hello.protocol != PROTOCOL {
            return Err(protocol(&format!("version {} of the protocol; this is {PROTOCOL}", hello.protocol)));
        }
        if hello.zone_uid != bytes_of(setup.zone.0) || hello.zone_name != setup.name.as_str() {
            return Err(protocol(&format!(
                "the zone calls itself {:?}, but its certificate is that of zone {:?} ({})",
                hello.zone_name, setup.name, setup.zone
            )));
        }
        let zone = read_has(hello.cursor.as_ref(), hello.reached.as_ref())?;
        let follow = Uuid::from_slice(&hello.follow).ok();
        let start = self.sender.begin(zone, follow, hello.credit, view).ok_or(Fault::Behind)?;
        let welcome = proto::Welcome {
            protocol: PROTOCOL,
            cluster_id: bytes_of(setup.cluster),
            instance: setup.instance.clone(),
            software: setup.software.clone(),
            features: Vec::new(),
            cursor: self.receiver.has().cursor.map(Into::into),
            reached: self.receiver.has().reached.map(Into::into),
            credit: self.receiver.credit(),
            head: view.cursor(view.head()).map(Into::into),
            start: start.into(),
            known_epochs: self.known_of(&hello.epochs),
        };
        self.greeting = greeting(&hello.instance, &hello.software, hello.head.as_ref());
        self.control.push_back(Message::Welcome(welcome));
        self.epochs = hello.epochs.iter().filter_map(|epoch| Epoch::try_from(epoch).ok()).collect();
        self.learn_epochs();
        self.open(if start == Start::OtherHistory { Phase::OtherHistory } else { Phase::Open });
        Ok(())
    }

    pub(super) fn on_welcome(&mut self, welcome: &proto::Welcome, view: &Arc<View>) -> Result<(), Fault> {
        let Side::Zone(setup) = &self.side else { return Err(protocol("a zone does not welcome")) };
        if self.phase != Phase::Greeting {
            return Err(protocol("a second welcome"));
        }
        let cluster = Uuid::from_slice(&welcome.cluster_id).map_err(|_| protocol("a welcome without a cluster"))?;
        if cluster != setup.cluster {
            return Err(Fault::OtherCluster(cluster));
        }
        self.greeting = greeting(&welcome.instance, &welcome.software, welcome.head.as_ref());
        let phase = if welcome.start() == Start::OtherHistory { Phase::OtherHistory } else { Phase::Open };
        let global = read_has(welcome.cursor.as_ref(), welcome.reached.as_ref())?;
        match self.sender.begin(global, None, welcome.credit, view) {
            Some(Start::OtherHistory) | None => {
                // This zone has lost what global holds of it.
                let known: Vec<_> = welcome.known_epochs.iter().filter_map(|id| Uuid::from_slice(id).ok()).collect();
                self.receiver.begin_restore(global, &known, view);
                self.restored = phase;
                self.open(Phase::Restoring);
            }
            Some(Start::Fresh | Start::Resume | Start::Snapshot | Start::Unspecified) => self.open(phase),
        }
        Ok(())
    }

    fn known_of(&self, epochs: &[proto::Epoch]) -> Vec<Bytes> {
        let Side::Global(setup) = &self.side else { return Vec::new() };
        let known = |epoch: &&proto::Epoch| Uuid::from_slice(&epoch.id).is_ok_and(|id| setup.known.contains(&id));
        epochs.iter().filter(known).map(|epoch| epoch.id.clone()).collect()
    }

    /// Remembers the zone's epochs, as soon as its history is the one that global holds.
    pub(super) fn learn_epochs(&mut self) {
        let has = self.receiver.has();
        let is_held = |cursor: &Cursor| cursor.standing(&self.epochs, Revision(u64::MAX)) == Standing::Held;
        if !self.epochs.is_empty() && [has.cursor, has.reached].iter().flatten().all(is_held) {
            let epochs = std::mem::take(&mut self.epochs);
            self.events.push_back(Event::Epochs(epochs.into_iter().map(|epoch| epoch.id).collect()));
        }
    }

    fn open(&mut self, phase: Phase) {
        self.phase = phase;
        self.events.push_back(Event::Opened);
    }
}

fn greeting(instance: &str, software: &str, head: Option<&proto::Cursor>) -> Greeting {
    let epoch = head.and_then(|head| Cursor::try_from(head).ok()).map(|head| head.epoch);
    Greeting { instance: instance.to_owned(), software: software.to_owned(), epoch }
}

fn read_has(cursor: Option<&proto::Cursor>, reached: Option<&proto::Cursor>) -> Result<Has, Fault> {
    Ok(Has { cursor: read_cursor(cursor)?, reached: read_cursor(reached)? })
}

fn read_cursor(cursor: Option<&proto::Cursor>) -> Result<Option<Cursor>, Fault> {
    cursor.map(|cursor| Cursor::try_from(cursor).map_err(|_| protocol("a cursor without an epoch"))).transpose()
}

fn bytes_of(id: Uuid) -> Bytes {
    Bytes::copy_from_slice(id.as_bytes())
}

fn protocol(what: &str) -> Fault {
    Fault::Protocol(what.to_owned())
}
