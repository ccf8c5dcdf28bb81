//! Where things of the lab are: addresses, ports, folders and names.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

/// The mesh of the lab.
pub const MESH: &str = "default";
/// Where gateways and their sidecars listen, and the port of the mesh service.
pub const GATEWAY_PORT: u16 = 8443;
/// Where zone ingresses listen.
pub const INGRESS_PORT: u16 = 10001;
/// Mesh DNS of a sidecar.
pub const DNS_PORT: u16 = 15053;
/// Readiness of an `atoll-dp`.
pub const READINESS_PORT: u16 = 9902;
/// Envoy's admin interface of a gateway.
pub const ADMIN_PORT: u16 = 9901;
/// Where backends listen.
pub const BACKEND_PORT: u16 = 8080;
/// Second octet of global's address.
const GLOBAL_BASE: u8 = 10;
/// Second octet of the first zone; each further zone is ten higher.
const FIRST_ZONE_BASE: u8 = 20;
const ZONE_STEP: u8 = 10;
/// The longest path that a Unix socket may have.
const SOCKET_PATH_MAX: usize = 100;
/// The longest name of a socket below the folder for sockets.
const SOCKET_NAME_MAX: usize = 40;

/// The folders and the block of addresses of one lab.
#[derive(Clone, Debug)]
pub struct Layout {
    /// Holds everything: `<project>/.lab`.
    pub home: PathBuf,
    /// Added to every second octet, so that two labs can run beside each other.
    pub offset: u8,
}

impl Layout {
    /// The lab of the project folder, or of `$ATOLL_LAB_DIR`.
    pub fn find(offset: u8) -> Result<Self> {
        let root = match std::env::var_os("ATOLL_LAB_DIR") {
            Some(folder) => PathBuf::from(folder),
            None => project()?,
        };
        Ok(Self { home: std::path::absolute(root)?.join(".lab"), offset })
    }

    /// Where the supervisor and `atoll-dp` put their sockets: below the lab, unless that path is too long for a socket.
    pub fn sockets(&self) -> PathBuf {
        let below = self.home.join("run");
        if below.as_os_str().len() + SOCKET_NAME_MAX <= SOCKET_PATH_MAX {
            return below;
        }
        std::env::temp_dir().join(format!("atoll-lab-{}", self.fingerprint()))
    }

    /// Postgres' folder: below the lab, unless the user that must run it cannot get there.
    pub fn postgres(&self, reachable: bool) -> PathBuf {
        if reachable {
            self.home.join("postgres")
        } else {
            PathBuf::from(format!("/var/tmp/atoll-lab-pg-{}", self.fingerprint()))
        }
    }

    fn fingerprint(&self) -> String {
        let digest = Sha256::digest(self.home.as_os_str().as_encoded_bytes());
        digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect()
    }

    /// The supervisor's control socket.
    pub fn control(&self) -> PathBuf {
        self.sockets().join("control.sock")
    }

    /// The supervisor's lock.
    pub fn lock(&self) -> PathBuf {
        self.home.join("lock")
    }

    /// The log of a process.
    pub fn log(&self, name: &str) -> PathBuf {
        self.home.join("logs").join(format!("{name}.log"))
    }

    /// Files of one process or zone.
    pub fn folder(&self, name: &str) -> PathBuf {
        self.home.join(name)
    }

    /// Where an `atoll-dp` keeps what it makes.
    pub fn dataplane(&self, name: &str) -> PathBuf {
        self.sockets().join(name)
    }

    /// CA of the gateways' own certificates.
    pub fn ca(&self) -> PathBuf {
        self.home.join("ca/ca.pem")
    }

    /// Global's address.
    pub fn global(&self) -> IpAddr {
        address(GLOBAL_BASE + self.offset, 1)
    }

    /// The addresses of the zone with this place in the list.
    pub fn zone(&self, place: usize) -> Result<ZoneAddresses> {
        let base = usize::from(FIRST_ZONE_BASE) + usize::from(self.offset) + place * usize::from(ZONE_STEP);
        match u8::try_from(base) {
            Ok(base) if base <= u8::MAX - ZONE_STEP => Ok(ZoneAddresses { base }),
            _ => bail!("no addresses are left for one more zone: each takes ten /16 of 127.0.0.0/8"),
        }
    }
}

/// The addresses of one zone: every program has its own /16.
#[derive(Clone, Copy, Debug)]
pub struct ZoneAddresses {
    base: u8,
}

impl ZoneAddresses {
    /// The zone's control plane.
    pub fn plane(self) -> IpAddr {
        address(self.base, 1)
    }

    /// Where the gateway's sidecar binds the addresses of services.
    pub fn outbounds(self) -> String {
        format!("127.{}.0.0/16", self.base + 1)
    }

    /// The gateway's sidecar: its inbound, its DNS, its readiness.
    pub fn sidecar(self) -> IpAddr {
        address(self.base + 2, 1)
    }

    /// The zone ingress.
    pub fn ingress(self) -> IpAddr {
        address(self.base + 3, 1)
    }

    /// The gateway itself.
    pub fn gateway(self) -> IpAddr {
        address(self.base + 4, 1)
    }

    /// The backend behind the gateway.
    pub fn backend(self) -> IpAddr {
        address(self.base + 5, 1)
    }

    /// Where the mesh workload's sidecar binds the addresses of services.
    pub fn client_outbounds(self) -> String {
        format!("127.{}.0.0/16", self.base + 6)
    }

    /// The mesh workload's sidecar.
    pub fn client(self) -> IpAddr {
        address(self.base + 6, 1)
    }

    /// The n-th added gateway; `None` from the 16th on.
    pub fn added(self, n: u8) -> Option<AddedAddresses> {
        (n < 16).then(|| AddedAddresses { base: self.base + 7, third: n * 16 })
    }
}

/// The addresses of a gateway that was added: a sixteenth of two /16.
#[derive(Clone, Copy, Debug)]
pub struct AddedAddresses {
    base: u8,
    third: u8,
}

impl AddedAddresses {
    /// Its sidecar.
    pub fn sidecar(self) -> IpAddr {
        Ipv4Addr::new(127, self.base, self.third, 1).into()
    }

    /// The gateway itself.
    pub fn gateway(self) -> IpAddr {
        Ipv4Addr::new(127, self.base, self.third, 2).into()
    }

    /// Where its sidecar binds the addresses of services.
    pub fn outbounds(self) -> String {
        format!("127.{}.{}.0/20", self.base + 1, self.third)
    }
}

fn address(second: u8, last: u8) -> IpAddr {
    Ipv4Addr::new(127, second, 0, last).into()
}

/// `address:port`.
pub fn at(address: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(address, port)
}

/// The project's folder: the nearest with `deploy/lab` above the working folder or above this program.
pub fn project() -> Result<PathBuf> {
    let here = std::env::current_dir().context("the working folder is gone")?;
    let program = std::env::current_exe().unwrap_or_default();
    let found = here.ancestors().chain(program.ancestors()).find(|folder| folder.join("deploy/lab").is_dir());
    found.map(Path::to_path_buf).context("no folder with deploy/lab is found: run this inside a clone of the project")
}

/// A program of the project: beside this one, else in PATH.
pub fn program(name: &str) -> Result<PathBuf> {
    let beside = std::env::current_exe()?.with_file_name(name);
    if beside.is_file() {
        return Ok(beside);
    }
    in_path(name).with_context(|| format!("{name} is not beside {}: run `make build`", beside.display()))
}

/// The first file of that name in PATH.
pub fn in_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_never_share_an_address() {
        let layout = Layout { home: "/tmp/x/.lab".into(), offset: 0 };
        let azure = layout.zone(0).unwrap();
        let gcp = layout.zone(1).unwrap();
        assert_eq!(azure.plane().to_string(), "127.20.0.1");
        assert_eq!(gcp.ingress().to_string(), "127.33.0.1");
        assert_eq!(azure.added(15).unwrap().outbounds(), "127.28.240.0/20");
        assert!(azure.added(16).is_none());
        assert!(layout.zone(40).is_err());
    }

    #[test]
    fn a_long_path_puts_the_sockets_elsewhere() {
        let short = Layout { home: "/tmp/x/.lab".into(), offset: 0 };
        let long = Layout { home: PathBuf::from("/tmp").join("x".repeat(90)), offset: 0 };
        assert_eq!(short.sockets(), Path::new("/tmp/x/.lab/run"));
        assert!(long.control().as_os_str().len() < SOCKET_PATH_MAX);
    }
}
