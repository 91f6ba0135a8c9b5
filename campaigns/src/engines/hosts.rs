//! [`Network`]: hosts of the test's own, which are network namespaces behind a bridge.

use testkit::prelude::*;

/// How many this process has made: each has a name of its own.
static NETWORKS: AtomicU32 = AtomicU32::new(0);

/// A bridge, and the hosts that it connects with this one.
pub(crate) struct Network {
    bridge: String,
    address: String,
    hosts: Vec<Host>,
}

/// A host that programs can run on.
pub(crate) struct Host {
    namespace: String,
    /// Its end of the cable is in it, this one at the bridge.
    cable: String,
}

impl Network {
    /// As many hosts; `None` where there can be none.
    #[track_caller]
    pub(crate) fn open(hosts: u8) -> Option<Self> {
        if !is_installed("ip") || !may_act_as_root() {
            return None;
        }
        let number = NETWORKS.fetch_add(1, Ordering::Relaxed);
        let id = (16 * std::process::id() + number) % 0x4000;
        let net = format!("10.{}.{}", 64 + id / 256, id % 256);
        let mut network = Network {
            bridge: format!("cgis{id:x}"),
            address: format!("{net}.1"),
            hosts: Vec::new(),
        };
        if !try_ip(&["link", "add", &network.bridge, "type", "bridge"]) {
            testkit::skip("no network of its own can be made here");
            return None;
        }
        let own = format!("{}/24", network.address);
        ip(&["addr", "add", &own, "dev", &network.bridge]);
        ip(&["link", "set", &network.bridge, "up"]);
        for number in 0..hosts {
            let address = format!("{net}.{}/24", 2 + number);
            let host = Host {
                namespace: format!("{}h{number}", network.bridge),
                cable: format!("{}c{number}", network.bridge),
            };
            host.connect(&network.bridge, &address);
            network.hosts.push(host);
        }
        Some(network)
    }

    /// This host's address, as the others see it.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn hosts(&self) -> &[Host] {
        &self.hosts
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for host in &self.hosts {
            try_ip(&["netns", "del", &host.namespace]);
        }
        try_ip(&["link", "del", &self.bridge]);
    }
}

impl Host {
    fn connect(&self, bridge: &str, address: &str) {
        let (inside, namespace) = (format!("{}i", self.cable), self.namespace.as_str());
        ip(&["netns", "add", namespace]);
        let cable = ["link", "add", &self.cable, "type", "veth"];
        ip(&[&cable[..], &["peer", "name", &inside, "netns", namespace]].concat());
        ip(&["link", "set", &self.cable, "master", bridge, "up"]);
        ip(&["-n", namespace, "addr", "add", address, "dev", &inside]);
        ip(&["-n", namespace, "link", "set", &inside, "up"]);
        ip(&["-n", namespace, "link", "set", "lo", "up"]);
    }

    /// The words before a command that let it run on this host.
    pub(crate) fn prefix(&self) -> Vec<String> {
        ["ip", "netns", "exec", &self.namespace]
            .map(str::to_owned)
            .into()
    }

    /// Pulls the cable.
    pub(crate) fn cut_off(&self) {
        ip(&["link", "set", &self.cable, "down"]);
    }

    pub(crate) fn reconnect(&self) {
        ip(&["link", "set", &self.cable, "up"]);
    }
}

#[track_caller]
fn ip(arguments: &[&str]) {
    assert!(try_ip(arguments), "ip {}", arguments.join(" "));
}

fn try_ip(arguments: &[&str]) -> bool {
    let mut command = Command::new("ip");
    command.args(arguments).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
