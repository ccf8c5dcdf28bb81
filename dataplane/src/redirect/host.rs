//! This host's sockets, and who has them.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
};

use procfs::{ProcError, ProcResult, net, process};

/// A socket that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Where.
    pub at: SocketAddr,
    /// The user that opened it.
    pub uid: u32,
    /// Program and pid, if they may be seen.
    pub owner: String,
}

/// An open TCP connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// This host's end.
    pub local: SocketAddr,
    /// The other one.
    pub remote: SocketAddr,
    /// Whose it is.
    pub uid: u32,
    /// Program and pid, if they may be seen.
    pub owner: String,
}

/// What is open in this network namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sockets {
    /// TCP.
    pub listening: Vec<Listener>,
    /// UDP.
    pub datagrams: Vec<Listener>,
    /// TCP.
    pub established: Vec<Connection>,
}

impl Sockets {
    /// Looks.
    ///
    /// # Errors
    /// When /proc does not say.
    pub fn look() -> ProcResult<Self> {
        let owners = owners();
        let owner = |inode| owners.get(&inode).cloned().unwrap_or_else(|| "unknown program".to_owned());
        let mut sockets = Self::default();
        for entry in tcp()? {
            let (local, remote) = (canonical(entry.local_address), canonical(entry.remote_address));
            let (uid, owner) = (entry.uid, owner(entry.inode));
            match entry.state {
                net::TcpState::Listen => sockets.listening.push(Listener { at: local, uid, owner }),
                net::TcpState::Established => sockets.established.push(Connection { local, remote, uid, owner }),
                _ => {}
            }
        }
        for entry in net::udp()?.into_iter().chain(or_none(net::udp6())?) {
            sockets.datagrams.push(Listener { at: entry.local_address, uid: entry.uid, owner: owner(entry.inode) });
        }
        sockets.listening.sort_by_key(|listener| (listener.at.port(), listener.at));
        Ok(sockets)
    }

    /// Whether a connection came in at a port where this host listens.
    pub fn is_incoming(&self, connection: &Connection) -> bool {
        self.listening.iter().any(|listener| listener.at.port() == connection.local.port())
    }
}

/// How many connections are open through the proxy's ports.
///
/// # Errors
/// When /proc does not say.
pub fn connections_at(ports: &[u16]) -> ProcResult<usize> {
    let open =
        |entry: &net::TcpNetEntry| entry.state == net::TcpState::Established && ports.contains(&entry.local_address.port());
    Ok(tcp()?.iter().filter(|entry| open(entry)).count())
}

fn tcp() -> ProcResult<Vec<net::TcpNetEntry>> {
    let mut all = net::tcp()?;
    all.extend(or_none(net::tcp6())?);
    Ok(all)
}

/// A machine without IPv6 has none of its files.
fn or_none<T>(entries: ProcResult<Vec<T>>) -> ProcResult<Vec<T>> {
    match entries {
        Err(ProcError::NotFound(_)) => Ok(Vec::new()),
        other => other,
    }
}

/// `[::ffff:10.0.0.1]` is 10.0.0.1; `[::]` stays.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(IpAddr::to_canonical(&address.ip()), address.port())
}

/// Socket → `program (pid)`, as far as this user may see.
fn owners() -> HashMap<u64, String> {
    let mut owners = HashMap::new();
    for process in process::all_processes().into_iter().flatten().flatten() {
        let (Ok(files), Ok(stat)) = (process.fd(), process.stat()) else { continue };
        for file in files.flatten() {
            if let process::FDTarget::Socket(inode) = file.target {
                owners.entry(inode).or_insert_with(|| format!("{} ({})", stat.comm, stat.pid));
            }
        }
    }
    owners
}
