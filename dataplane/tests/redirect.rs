//! Redirection of hosts that the test makes. They are network namespaces: the tests run as root, with nft and ip.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    io::Write,
    net::TcpStream,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::json;
use support::net::{Host, line};

const PROXY: u32 = 5678;
const PROGRAM: u32 = 1000;

/// A host with a proxy, what it redirects, and a host beside it that has servers.
struct Scene {
    here: Host,
    there: Host,
    folder: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let scene = Self::without_proxy();
        scene.start_proxy();
        scene
    }

    fn without_proxy() -> Self {
        let (here, there) = Host::pair();
        there.ip("addr add 10.9.0.3/24 dev wire");
        for (at, name) in [("[::]:80", "elsewhere"), ("0.0.0.0:443", "elsewhere")] {
            there.listen(at, name, 0);
        }
        there.answer("10.9.0.2:53", "resolver", 0);
        there.answer("10.9.0.3:53", "resolver", 0);
        for (at, name) in [("[::]:8080", "application"), ("0.0.0.0:22", "ssh"), ("0.0.0.0:9000", "metrics")] {
            here.listen(at, name, PROGRAM);
        }
        let folder = tempfile::Builder::new().prefix("redirect").tempdir().unwrap();
        std::fs::write(folder.path().join("resolv.conf"), RESOLV_CONF).unwrap();
        Self { here, there, folder }
    }

    fn start_proxy(&self) {
        self.here.listen("0.0.0.0:15001", "outbound", PROXY);
        self.here.listen("0.0.0.0:15006", "inbound", PROXY);
        self.here.answer("127.0.0.1:15053", "names", PROXY);
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn state(&self) -> PathBuf {
        self.path("run/state.json")
    }

    fn command(&self, words: &str, user: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_atoll-dp"));
        command.args(words.split_whitespace()).arg("--state-file").arg(self.state()).args(["--log-level", "warn"]);
        if !words.starts_with("uninstall") {
            command.args(["--dp-user", user, "--resolv-conf"]).arg(self.path("resolv.conf"));
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Whether it succeeded, and all that it said.
    fn try_run(&self, words: &str) -> (bool, String) {
        self.try_run_as(words, "5678")
    }

    fn try_run_as(&self, words: &str, user: &str) -> (bool, String) {
        let mut command = self.command(words, user);
        let output = self.here.run(move || command.output().unwrap());
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(text).unwrap())
    }

    fn run(&self, words: &str) -> String {
        self.run_as(words, "5678")
    }

    fn run_as(&self, words: &str, user: &str) -> String {
        let (success, text) = self.try_run_as(words, user);
        assert!(success, "{words}: {text}");
        text
    }

    fn refused(&self, words: &str, reason: &str) {
        let before = self.here.ruleset();
        let (success, text) = self.try_run(words);
        assert!(!success && text.contains(reason), "{words}: {text}");
        assert_eq!(self.here.ruleset(), before, "nothing is changed");
    }

    fn install(&self, options: &str) -> String {
        self.run(&format!("install transparent-proxy {options}"))
    }

    fn uninstall(&self) -> String {
        self.run("uninstall transparent-proxy --drain-time 0s")
    }

    fn spawn(&self, words: &str) -> Child {
        let mut command = self.command(words, "5678");
        self.here.run(move || command.spawn().unwrap())
    }
}

const RESOLV_CONF: &str = "# of the machine\nnameserver 10.9.0.2\noptions edns0\n";

/// What a host may have already.
const RULES: &str = "add table ip filter; add chain ip filter input { type filter hook input priority 0; policy accept; }; \
    add rule ip filter input tcp dport 25 counter drop; add table inet nat; \
    add chain inet nat post { type nat hook postrouting priority 100; }; add rule inet nat post ip saddr 10.77.0.0/16 masquerade";

#[test]
fn connections_are_led_to_the_proxy_and_what_is_excluded_is_not() {
    let scene = Scene::new();
    let (here, there) = (&scene.here, &scene.there);
    here.nft(RULES);
    let before = here.ruleset();
    scene.install(
        "--redirect-dns --exclude-inbound-ports 9000-9100,9050 --exclude-outbound-ports 443 --exclude-outbound-ips 10.9.0.3 \
         --exclude-outbound-uids 2000",
    );

    assert_eq!(here.dial(PROGRAM, "10.9.0.2:80"), "outbound for 10.9.0.2:80");
    assert_eq!(here.dial(0, "241.3.4.5:80"), "outbound for 241.3.4.5:80", "a virtual address");
    assert_eq!(here.dial(PROXY, "10.9.0.2:80"), "elsewhere", "the proxy itself");
    assert_eq!(here.dial(2000, "10.9.0.2:80"), "elsewhere", "an excluded user");
    assert_eq!(here.dial(PROGRAM, "10.9.0.2:443"), "elsewhere", "an excluded port");
    assert_eq!(here.dial(PROGRAM, "10.9.0.3:80"), "elsewhere", "an excluded address");
    assert_eq!(here.dial(PROGRAM, "127.0.0.1:8080"), "application", "loopback");
    assert_eq!(here.dial(PROGRAM, "[fd09::2]:80"), "elsewhere", "IPv6");

    assert_eq!(there.dial(0, "10.9.0.1:8080"), "inbound for 10.9.0.1:8080");
    assert_eq!(there.dial(0, "10.9.0.1:22"), "ssh");
    assert_eq!(there.dial(0, "10.9.0.1:9000"), "metrics");
    assert_eq!(there.dial(0, "[fd09::1]:8080"), "application", "IPv6");

    assert_eq!(here.dial(PROXY, "10.9.0.1:8080"), "inbound for 10.9.0.1:8080", "the proxy that calls its own service");
    assert_eq!(here.dial_from("127.0.0.6", PROXY, "10.9.0.1:8080"), "application", "the proxy that passes on to it");
    assert_eq!(here.dial(PROXY, "10.9.0.1:15001"), "ConnectionRefused", "never itself");
    assert_eq!(there.dial(0, "10.9.0.1:15006"), "TimedOut", "nobody from outside dials its ports");

    assert_eq!(here.ask(PROGRAM, 0, "10.9.0.2:53"), "names");
    assert_eq!(here.ask(PROXY, 0, "10.9.0.2:53"), "resolver");
    assert_eq!(here.ask(PROGRAM, 0, "10.9.0.3:53"), "resolver", "not in resolv.conf");
    assert_eq!(here.ask(PROGRAM, 40_000, "10.9.0.2:53"), "names");
    assert_eq!(here.ask(PROXY, 40_000, "10.9.0.2:53"), "resolver", "a port that a program used just before");

    let said = scene.uninstall();
    assert!(said.contains("byte for byte"), "{said}");
    assert_eq!(here.ruleset(), before);
    assert_eq!(std::fs::read_to_string(scene.path("resolv.conf")).unwrap(), RESOLV_CONF);
    assert_eq!(std::fs::read_dir(scene.path("run")).unwrap().count(), 0, "no file is left");
    assert_eq!(here.dial(PROGRAM, "10.9.0.2:80"), "elsewhere");
    assert_eq!(there.dial(0, "10.9.0.1:8080"), "application");
    assert_eq!(here.ask(PROGRAM, 0, "10.9.0.2:53"), "resolver");
}

#[test]
fn ipv6_is_redirected_when_asked() {
    let scene = Scene::without_proxy();
    let (here, there) = (&scene.here, &scene.there);
    here.listen("0.0.0.0:15001", "outbound", PROXY);
    here.listen("[::]:15006", "inbound", PROXY);
    scene.refused("install transparent-proxy --ip-family-mode dualstack", "nothing listens for IPv6 on loopback at port 15001");
    here.listen("[::1]:15001", "outbound", PROXY);
    let before = here.ruleset();
    scene.install("--ip-family-mode dualstack --exclude-outbound-ips fd09:1::/32,fd09::3");
    assert_eq!(here.dial(PROGRAM, "[fd09::2]:80"), "outbound");
    assert_eq!(here.dial(PROXY, "[fd09::2]:80"), "elsewhere");
    assert_eq!(there.dial(0, "[fd09::1]:8080"), "inbound");
    assert_eq!(here.dial(PROGRAM, "10.9.0.2:80"), "outbound for 10.9.0.2:80");
    scene.uninstall();
    assert_eq!(here.ruleset(), before);
    assert_eq!(here.dial(PROGRAM, "[fd09::2]:80"), "elsewhere");
}

#[test]
fn all_dns_is_redirected_when_asked() {
    let scene = Scene::new();
    scene.install("--redirect-all-dns-traffic --redirect-inbound false");
    assert_eq!(scene.here.ask(PROGRAM, 0, "10.9.0.3:53"), "names");
    assert_eq!(scene.here.ask(PROXY, 0, "10.9.0.3:53"), "resolver");
    assert_eq!(scene.there.dial(0, "10.9.0.1:8080"), "application", "inbound is left alone");
    scene.uninstall();
    std::fs::write(scene.path("resolv.conf"), "nameserver 127.0.0.53\n").unwrap();
    scene.refused("install transparent-proxy --redirect-all-dns-traffic", "would come back to it");
}

#[test]
fn a_dry_run_and_a_check_change_nothing() {
    let scene = Scene::new();
    scene.here.nft(RULES);
    let before = scene.here.ruleset();
    let said = scene.run("install transparent-proxy --dry-run --redirect-dns");
    assert!(said.contains("redirect to :15001") && said.contains("Nothing is changed"), "{said}");
    let open = scene.there.connect(0, "10.9.0.1:8080");
    let said = scene.run("check --redirect-dns --exclude-inbound-ports 9000");
    for expected in [
        "not installed",
        "[::]:8080 redirect-",
        "0.0.0.0:22 ",
        "excluded port",
        "to port 8080 ",
        "name server 10.9.0.2: questions would go to the proxy",
        "IPv6 is not redirected",
    ] {
        assert!(said.contains(expected), "{expected}: {said}");
    }
    let (intercepted, rest) = said.split_once("Listeners that stay as they are").unwrap();
    assert!(!intercepted.contains("0.0.0.0:9000") && rest.contains("0.0.0.0:9000"), "{said}");
    assert_eq!(scene.here.ruleset(), before);
    assert!(!scene.path("run").exists(), "no file is made");
    drop(open);
    let said = scene.run("uninstall transparent-proxy");
    assert!(said.contains("not installed"), "{said}");
    assert_eq!(scene.here.ruleset(), before);
}

#[test]
fn a_repeated_install_changes_nothing_and_another_one_replaces() {
    let scene = Scene::new();
    let before = scene.here.ruleset();
    scene.install("");
    let (first, state) = (scene.here.ruleset_with_handles(), std::fs::read(scene.state()).unwrap());
    assert!(scene.install("").contains("already"));
    assert_eq!(scene.here.ruleset_with_handles(), first);
    assert_eq!(std::fs::read(scene.state()).unwrap(), state);
    let through = scene.here.connect(PROGRAM, "10.9.0.2:80");
    assert_eq!(line(&through), "outbound for 10.9.0.2:80");
    scene.install("--exclude-outbound-ports 80");
    assert_eq!(scene.here.dial(PROGRAM, "10.9.0.2:80"), "elsewhere");
    assert!(still_open(&through), "what was open through the proxy is open");
    scene.uninstall();
    assert_eq!(scene.here.ruleset(), before, "as before the first one");
}

#[test]
fn conflicts_are_named_and_nothing_is_changed() {
    let scene = Scene::without_proxy();
    let install = "install transparent-proxy";
    scene.refused(install, "nothing listens for IPv4 on all addresses at port 15006");
    assert!(!scene.state().exists());
    scene.here.listen("0.0.0.0:15001", "outbound", PROGRAM);
    scene.refused(install, "is of uid 1000");
    scene.refused(&format!("{install} --before-proxy"), "would come back to it");

    let scene = Scene::new();
    let nft = |line: &str| scene.here.nft(line);
    nft("add table ip nat; add chain ip nat pre { type nat hook prerouting priority -100; }; \
         add rule ip nat pre tcp dport 8443 dnat to 10.9.0.2:443");
    scene.refused(install, "--exclude-inbound-ports 8443");
    let (success, said) = scene.try_run("check");
    assert!(!success && said.contains("8443"), "{said}");
    scene.install("--exclude-inbound-ports 8443");
    assert_eq!(scene.there.dial(0, "10.9.0.1:8080"), "inbound for 10.9.0.1:8080");

    nft("add rule inet atoll_redirect outbound tcp dport 99 accept");
    scene.refused("uninstall transparent-proxy", "was changed after it was installed");
    scene.refused(&format!("{install} --exclude-inbound-ports 8443"), "was changed after");
    scene.run("uninstall transparent-proxy --force --drain-time 0s");
    nft("delete table ip nat; add table inet atoll_redirect; add table ip mesh; add chain ip mesh KUMA_MESH_INBOUND");
    scene.refused("uninstall transparent-proxy", "does not know it");
    scene.refused(install, "does not know it");
    nft("delete table inet atoll_redirect");
    scene.refused(install, "another mesh");
    scene.install("--force");
    nft("flush ruleset");
    assert!(scene.run("uninstall transparent-proxy").contains("gone already"));
    assert!(!scene.state().exists());
}

#[test]
fn open_connections_outlive_install_and_end_before_the_table_does() {
    let scene = Scene::new();
    let (here, there) = (&scene.here, &scene.there);
    let (out, into) = (here.connect(PROGRAM, "10.9.0.2:80"), there.connect(0, "10.9.0.1:8080"));
    assert_eq!((line(&out), line(&into)), ("elsewhere".to_owned(), "application".to_owned()));
    scene.install("");
    assert!(still_open(&out) && still_open(&into), "connections from before go on");
    let (through, into_proxy) = (here.connect(PROGRAM, "10.9.0.2:80"), there.connect(0, "10.9.0.1:8080"));
    assert_eq!(line(&through), "outbound for 10.9.0.2:80");
    assert_eq!(line(&into_proxy), "inbound for 10.9.0.1:8080");

    let began = Instant::now();
    let mut uninstall = scene.spawn("uninstall transparent-proxy --drain-time 30s");
    while here.dial(PROGRAM, "10.9.0.2:80") != "elsewhere" {
        assert!(began.elapsed() < Duration::from_secs(20), "new connections go their own way");
    }
    assert!(still_open(&through) && still_open(&into_proxy), "those through the proxy may finish");
    assert!(uninstall.try_wait().unwrap().is_none());
    drop((through, into_proxy));
    let status = uninstall.wait().unwrap();
    assert!(status.success() && began.elapsed() < Duration::from_secs(25), "no longer than they need");
    assert!(!here.ruleset().contains("atoll"));
    assert!(still_open(&out) && still_open(&into), "the others never noticed");
}

/// With a real Envoy: it listens before redirection begins, and serves until what came through it has ended.
#[test]
fn no_request_fails_while_redirection_comes_and_goes() {
    let scene = Scene::without_proxy();
    let (here, there) = (&scene.here, &scene.there);
    here.tell_peers("0.0.0.0:8081");
    there.tell_peers("0.0.0.0:8082");
    std::fs::write(scene.path("envoy.json"), passthrough().to_string()).unwrap();
    let mut envoy = Command::new(support::envoy());
    envoy.args(["--disable-hot-restart", "--concurrency", "2", "--log-level", "error", "-c"]).arg(scene.path("envoy.json"));
    let envoy = here.run(move || Ended(envoy.stdin(Stdio::null()).spawn().unwrap()));
    let began = Instant::now();
    while here.dial(PROGRAM, "127.0.0.1:15006") == "ConnectionRefused" {
        assert!(began.elapsed() < Duration::from_secs(20), "Envoy listens");
        std::thread::sleep(Duration::from_millis(50));
    }
    let before = here.ruleset();
    let end = Arc::new(AtomicBool::new(false));
    let (into, out) = (there.dial_often(0, "10.9.0.1:8081", end.clone()), here.dial_often(PROGRAM, "10.9.0.2:8082", end.clone()));
    for _ in 0..10 {
        scene.run_as("install transparent-proxy", "0");
        std::thread::sleep(Duration::from_millis(200));
        scene.run("uninstall transparent-proxy --drain-time 10s");
        assert_eq!(here.ruleset(), before);
    }
    end.store(true, Ordering::Relaxed);
    let (into, out) = (into.recv().unwrap(), out.recv().unwrap());
    println!("inbound by peer: {into:?}; outbound: {out:?}");
    assert_eq!(into.keys().collect::<Vec<_>>(), ["10.9.0.2", "127.0.0.6"], "directly and through Envoy, and nothing failed");
    assert_eq!(out.keys().collect::<Vec<_>>(), ["10.9.0.1"], "nothing failed");
    assert!(into["127.0.0.6"] > 50, "much went through Envoy: {into:?}");
    drop(envoy);
}

/// The listeners that a zone gives to the Envoy of a redirected host.
fn passthrough() -> serde_json::Value {
    let address = |ip: &str, port: u16| json!({"socket_address": {"address": ip, "port_value": port}});
    let listener = |name: &str, port: u16| {
        let proxy = json!({"@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
            "stat_prefix": name, "cluster": name});
        json!({"name": name, "address": address("0.0.0.0", port), "use_original_dst": true,
            "filter_chains": [{"filters": [{"name": "envoy.filters.network.tcp_proxy", "typed_config": proxy}]}]})
    };
    let cluster = |name: &str| {
        json!({"name": name, "type": "ORIGINAL_DST", "lb_policy": "CLUSTER_PROVIDED",
        "connect_timeout": "5s"})
    };
    let mut inbound = cluster("inbound");
    inbound["upstream_bind_config"] = json!({"source_address": {"address": "127.0.0.6", "port_value": 0}});
    json!({"static_resources": {"listeners": [listener("outbound", 15001), listener("inbound", 15006)],
        "clusters": [cluster("outbound"), inbound]}})
}

/// A program that ends with the test.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// It sends back what it gets.
fn still_open(mut stream: &TcpStream) -> bool {
    stream.write_all(b"ping\n").is_ok() && line(stream) == "ping"
}
