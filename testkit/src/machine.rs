//! This machine as it is after some commands of an administrator: a copy of its directories in namespaces of
//! their own, gone when the commands have ended.

use std::process::Output;

use crate::copy;
use crate::prelude::*;

/// Where the commands expect what a release build makes.
const BUILT: &str = "target/x86_64-unknown-linux-musl/release";
const EXAMPLES: [&str; 8] = [
    "counter", "begin", "follow", "visit", "lookup", "cart", "login", "features",
];

/// What the namespaces begin with: no directory of the machine is written to, the network is a
/// loopback of its own, and systemd is a script that restarts Apache.
const PRELUDE: &str = r#"
set -euo pipefail
mount -t tmpfs tmpfs "$layers"
for directory in etc usr var; do
    mkdir -p "$layers/upper/$directory" "$layers/spare/$directory"
    mount -t overlay overlay \
        -o "lowerdir=/$directory,upperdir=$layers/upper/$directory,workdir=$layers/spare/$directory" "/$directory"
done
mount -t tmpfs tmpfs /run
mkdir -p /run/lock /etc/cron.d /etc/systemd/system
PATH="$PATH:/usr/sbin:/sbin"
ip link set lo up

sudo() { "$@"; }
rustup() { :; }
# The programs are built.
cargo() { :; }
# Another one of the machine has another file system.
apache2_runs() {
    local name own
    own=$(readlink /proc/self/ns/mnt)
    for name in $(grep -lsx apache2 /proc/[0-9]*/comm); do
        [ "$(readlink "${name%comm}ns/mnt")" != "$own" ] || return 0
    done
    return 1
}
systemctl() {
    case "$*" in
    'restart apache2')
        apache2ctl stop 2>/dev/null || :
        # As systemd does, until the last process is gone: the CGI daemon holds the sockets, too.
        while apache2_runs; do sleep 0.05; done
        apache2ctl start
        # Its CGI daemon may need a moment.
        for _ in $(seq 1000); do
            curl -s -f -o /dev/null http://localhost:8081/cgi-bin/lookup && break
            curl -s -f -o /dev/null http://localhost/cgi-bin/hello && break
            sleep 0.05
        done
        ;;
    'enable --now '*)
        test -e "/etc/systemd/system/$3"
        ;;
    *)
        echo "no such command in this test: systemctl $*" >&2
        return 1
        ;;
    esac
}
"#;

/// Runs a script as root in a checkout with built programs; `None` where that cannot be done.
#[track_caller]
pub fn run(script: &str) -> Option<Output> {
    let programs = ["apache2", "curl", "ip", "unshare"];
    if !may_act_as_root() || !programs.into_iter().all(is_installed) {
        return None;
    }
    let place = tempfile::tempdir().unwrap();
    let checkout = place.path().join("checkout");
    let built = checkout.join(BUILT);
    fs::create_dir_all(built.join("examples")).unwrap();
    for part in ["examples", "www"] {
        symlink(repository(part), checkout.join(part)).unwrap();
    }
    for name in EXAMPLES {
        copy(&example(name), &built.join("examples"));
    }
    for name in ["cgi-session", "cgi-session-cleanup"] {
        copy(&tool(name), &built);
    }
    // A project as `cgi-session new` makes it, and tools of a debug build.
    let debug = checkout.join("target/debug");
    symlink("x86_64-unknown-linux-musl/release", debug).unwrap();
    let project = place.path().join("hello");
    let built = project.join(BUILT);
    fs::create_dir_all(&built).unwrap();
    copy(&example("counter"), &built);
    fs::rename(built.join("counter"), built.join("hello")).unwrap();
    copy(&repository("examples/deploy/cgi-session.ini"), &project);
    let layers = place.path().join("layers");
    fs::create_dir(&layers).unwrap();
    let mut command = Command::new("unshare");
    command.args("--mount --net --pid --fork --kill-child --mount-proc".split(' '));
    command.args(["bash", "-c", &format!("{PRELUDE}\n{script}")]);
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"CGI_SESSION_") {
            command.env_remove(name);
        }
    }
    command.env("layers", &layers).current_dir(&checkout);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() && (said.starts_with("unshare: ") || said.starts_with("mount: ")) {
        skip(&format!("no machine of its own can be made here: {said}"));
        return None;
    }
    Some(output)
}

/// The fenced block of a document that holds these words.
#[track_caller]
pub fn block_in(document: &str, words: &str) -> String {
    let page = fs::read_to_string(repository(document)).unwrap();
    let mut blocks = page.split("\n```").skip(1).step_by(2);
    let block = blocks.find(|block| block.contains(words));
    let block = block.unwrap_or_else(|| panic!("no block with {words}"));
    // Behind the name of its language.
    block.split_once('\n').unwrap().1.to_owned()
}

/// The commands in the comment at the head of a shipped file.
pub fn commands_of(file: &str) -> String {
    let text = fs::read_to_string(repository("examples/deploy").join(file)).unwrap();
    let head = text.lines().take_while(|line| line.starts_with('#'));
    let commands = head.filter_map(|line| line.strip_prefix("#     "));
    let commands: Vec<_> = commands.collect();
    commands.join("\n")
}
