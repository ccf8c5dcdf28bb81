//! Hosts that a test makes: network namespaces of threads, so that nothing of this machine is touched.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    process::{Command, Output},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use nix::{
    sched::{CloneFlags, unshare},
    sys::socket::{getsockopt, sockopt::OriginalDst},
    unistd::{Uid, setfsuid},
};

type Task = Box<dyn FnOnce() + Send>;

/// A network of its own, which ends with it. What is run there, and every program started there, sees only it.
pub struct Host {
    tasks: mpsc::Sender<Task>,
    /// As `ip link set netns` wants it.
    namespace: String,
}

impl Host {
    pub fn new() -> Self {
        let (tasks, work) = mpsc::channel::<Task>();
        let (sender, namespace) = mpsc::channel();
        thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("these tests make network namespaces: run them as root");
            sender.send(format!("/proc/{}/task/{}/ns/net", std::process::id(), nix::unistd::gettid())).unwrap();
            while let Ok(task) = work.recv() {
                task();
            }
        });
        let host = Self { tasks, namespace: namespace.recv().expect("these tests make network namespaces: run them as root") };
        host.ip("link set lo up");
        host
    }

    /// Runs something there. A thread that it starts is there, too.
    pub fn run<T: Send + 'static>(&self, task: impl FnOnce() -> T + Send + 'static) -> T {
        let (sender, result) = mpsc::channel();
        // A thread of its own: one that hangs or panics must not take the host with it.
        let task = move || drop(thread::spawn(move || drop(sender.send(task()))));
        self.tasks.send(Box::new(task)).unwrap();
        result.recv_timeout(Duration::from_secs(60)).expect("what runs on the test's host ends well")
    }

    pub fn program(&self, program: &str, arguments: &[&str]) -> Output {
        let mut command = Command::new(program);
        command.args(arguments);
        let name = program.to_owned();
        self.run(move || command.output().unwrap_or_else(|error| panic!("these tests need {name}: {error}")))
    }

    pub fn ip(&self, line: &str) {
        let output = self.program("ip", &line.split(' ').collect::<Vec<_>>());
        assert!(output.status.success(), "ip {line}: {}", String::from_utf8_lossy(&output.stderr));
    }

    pub fn nft(&self, line: &str) -> String {
        let output = self.program("nft", &[line]);
        assert!(output.status.success(), "nft {line}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    pub fn ruleset(&self) -> String {
        self.nft("list ruleset")
    }

    /// With the numbers that the kernel gives anew to whatever is made anew.
    pub fn ruleset_with_handles(&self) -> Vec<u8> {
        self.program("nft", &["-a", "list", "ruleset"]).stdout
    }

    /// Two hosts on one wire: 10.9.0.1 and 10.9.0.2, fd09::1 and fd09::2. The first one sends everything else to the second.
    pub fn pair() -> (Self, Self) {
        let (here, there) = (Self::new(), Self::new());
        here.ip(&format!("link add wire type veth peer name wire netns {}", there.namespace));
        for (host, number) in [(&here, 1), (&there, 2)] {
            host.ip("link set wire up");
            host.ip(&format!("addr add 10.9.0.{number}/24 dev wire"));
            host.ip(&format!("addr add fd09::{number}/64 dev wire nodad"));
        }
        here.ip("route add default via 10.9.0.2");
        here.ip("-6 route add default via fd09::2");
        (here, there)
    }

    /// A server that says its name and where the client meant to go. It runs as `uid`.
    pub fn listen(&self, at: &str, name: &'static str, uid: u32) {
        let at: SocketAddr = at.parse().unwrap();
        let listener = self.run(move || {
            setfsuid(Uid::from_raw(uid));
            TcpListener::bind(at).unwrap()
        });
        thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                thread::spawn(move || greet(stream, name));
            }
        });
    }

    /// A server that says who its peer is, and ends the connection.
    pub fn tell_peers(&self, at: &str) {
        let at: SocketAddr = at.parse().unwrap();
        let listener = self.run(move || TcpListener::bind(at).unwrap());
        thread::spawn(move || {
            while let Ok((mut stream, peer)) = listener.accept() {
                let _ = stream.write_all(format!("{}\n", peer.ip()).as_bytes());
            }
        });
    }

    /// Dials every 5 ms until told to end; who answered, and how often.
    pub fn dial_often(&self, uid: u32, to: &str, end: Arc<AtomicBool>) -> mpsc::Receiver<BTreeMap<String, usize>> {
        let to: SocketAddr = to.parse().unwrap();
        let (sender, receiver) = mpsc::channel();
        self.run(move || {
            thread::spawn(move || {
                setfsuid(Uid::from_raw(uid));
                let mut answers = BTreeMap::new();
                while !end.load(Ordering::Relaxed) {
                    let answer = match TcpStream::connect_timeout(&to, Duration::from_secs(5)) {
                        Ok(stream) => line(&stream),
                        Err(error) => format!("{:?}", error.kind()),
                    };
                    *answers.entry(answer).or_default() += 1;
                    thread::sleep(Duration::from_millis(5));
                }
                let _ = sender.send(answers);
            });
        });
        receiver
    }

    /// A DNS server of sorts: says its name to whatever it is asked.
    pub fn answer(&self, at: &str, name: &'static str, uid: u32) {
        let at: SocketAddr = at.parse().unwrap();
        let socket = self.run(move || {
            setfsuid(Uid::from_raw(uid));
            UdpSocket::bind(at).unwrap()
        });
        thread::spawn(move || {
            let mut buffer = [0; 64];
            while let Ok((_, from)) = socket.recv_from(&mut buffer) {
                let _ = socket.send_to(name.as_bytes(), from);
            }
        });
    }

    /// Who answers a connection of that user: `name` and where it was meant to go, or the error's kind.
    pub fn dial(&self, uid: u32, to: &str) -> String {
        let to = to.parse().unwrap();
        self.run(move || {
            setfsuid(Uid::from_raw(uid));
            match TcpStream::connect_timeout(&to, Duration::from_secs(2)) {
                Ok(stream) => line(&stream),
                Err(error) => format!("{:?}", error.kind()),
            }
        })
    }

    /// As [`Self::dial`], from an address of this host.
    pub fn dial_from(&self, from: &str, uid: u32, to: &str) -> String {
        let (from, to) = (SocketAddr::new(from.parse().unwrap(), 0), to.parse().unwrap());
        self.run(move || {
            setfsuid(Uid::from_raw(uid));
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let socket = tokio::net::TcpSocket::new_v4().unwrap();
                socket.bind(from).unwrap();
                let stream = socket.connect(to).await.unwrap().into_std().unwrap();
                stream.set_nonblocking(false).unwrap();
                line(&stream)
            })
        })
    }

    /// An open connection.
    pub fn connect(&self, uid: u32, to: &str) -> TcpStream {
        let to: SocketAddr = to.parse().unwrap();
        self.run(move || {
            setfsuid(Uid::from_raw(uid));
            TcpStream::connect(to).unwrap()
        })
    }

    /// Who answers a datagram of that user, sent from that port (0: any).
    pub fn ask(&self, uid: u32, from: u16, to: &str) -> String {
        let to: SocketAddr = to.parse().unwrap();
        self.run(move || {
            setfsuid(Uid::from_raw(uid));
            let any: IpAddr = if to.is_ipv4() { "0.0.0.0" } else { "::" }.parse().unwrap();
            let socket = UdpSocket::bind((any, from)).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
            // Connected: only an answer from where the question went counts.
            socket.connect(to).unwrap();
            socket.send(b"?").unwrap();
            let mut buffer = [0; 64];
            match socket.recv(&mut buffer) {
                Ok(length) => String::from_utf8(buffer[..length].to_vec()).unwrap(),
                Err(error) => format!("{:?}", error.kind()),
            }
        })
    }
}

/// The next line of an open connection.
pub fn line(mut stream: &TcpStream) -> String {
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let (mut text, mut byte) = (String::new(), [0]);
    loop {
        match stream.read(&mut byte) {
            Ok(1) if byte[0] == b'\n' => return text,
            Ok(1) => text.push(byte[0].into()),
            Ok(_) => return "closed".to_owned(),
            Err(error) => return format!("{:?}", error.kind()),
        }
    }
}

/// Greets, and then sends back every byte.
fn greet(mut stream: TcpStream, name: &str) {
    let meant = getsockopt(&stream, OriginalDst).ok().map(|address| {
        let ip = IpAddr::from(u32::from_be(address.sin_addr.s_addr).to_be_bytes());
        SocketAddr::new(ip, u16::from_be(address.sin_port))
    });
    let local = stream.local_addr().unwrap();
    let local = SocketAddr::new(local.ip().to_canonical(), local.port());
    let greeting = match meant {
        Some(meant) if meant != local => format!("{name} for {meant}\n"),
        Some(_) | None => format!("{name}\n"),
    };
    let _ = stream.write_all(greeting.as_bytes());
    let mut buffer = [0; 256];
    while let Ok(length @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(&buffer[..length]).is_err() {
            return;
        }
    }
}
