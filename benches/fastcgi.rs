//! Requests per second behind nginx: the counter example against a C program that does the least
//! possible, and against php-fpm with its files handler.
//!
//! `cargo bench --bench fastcgi` prints one Markdown table. Rounds of all contestants are
//! interleaved, each number is a median, and each ratio is made of numbers of one run. It needs
//! nginx, wrk, gcc with libfcgi, and php-fpm; what is missing is left out and said so.
//! `FASTCGI_BENCH_SECONDS` (2) and `FASTCGI_BENCH_ROUNDS` (5) set the length.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const PORT: u16 = 18_099;
const CONNECTIONS: usize = 8;
const OURS: &str = "cgi-session";
/// With connections that nginx keeps. libfcgi and php-fpm hold a worker for each kept connection, and
/// with fewer workers than connections stand still.
const KEPT: &str = "cgi-session, kept connections";

fn main() {
    let Some(bench) = Bench::prepare() else {
        return;
    };
    let rows = bench.run();
    print_table(&rows);
}

/// Who answers, with how many workers.
struct Contestant {
    name: &'static str,
    workers: usize,
    location: String,
    processes: Vec<Child>,
    /// One for each connection of the load.
    cookies: Vec<String>,
}

impl Drop for Contestant {
    fn drop(&mut self) {
        for process in &mut self.processes {
            stop(process);
        }
    }
}

struct Bench {
    place: tempfile::TempDir,
    contestants: Vec<Contestant>,
    nginx: Child,
    seconds: u64,
    rounds: usize,
}

impl Drop for Bench {
    fn drop(&mut self) {
        stop(&mut self.nginx);
    }
}

/// Requests per second and microseconds of processor time per request.
type Sample = (f64, f64);
type Rows = BTreeMap<(usize, &'static str, &'static str), Vec<Sample>>;

impl Bench {
    fn prepare() -> Option<Self> {
        for program in ["nginx", "wrk"] {
            if !is_installed(program) {
                eprintln!("skipped: {program} not installed");
                return None;
            }
        }
        let number = |name: &str, default| {
            env::var(name)
                .ok()
                .and_then(|n| n.parse().ok())
                .unwrap_or(default)
        };
        let place = tempfile::tempdir().expect("a temporary directory");
        let mut contestants = Vec::new();
        for workers in [1, 4] {
            contestants.push(start_ours(place.path(), workers, false));
            contestants.push(start_ours(place.path(), workers, true));
            contestants.extend(start_floor(place.path(), workers));
            contestants.extend(start_php(place.path(), workers));
        }
        let nginx = start_nginx(place.path(), &contestants);
        for contestant in &mut contestants {
            contestant.cookies = (0..CONNECTIONS)
                .map(|_| first_visit(&contestant.location))
                .collect();
        }
        Some(Bench {
            place,
            contestants,
            nginx,
            seconds: number("FASTCGI_BENCH_SECONDS", 2),
            rounds: usize::try_from(number("FASTCGI_BENCH_ROUNDS", 5)).unwrap_or(5),
        })
    }

    fn run(&self) -> Rows {
        let mut rows = Rows::new();
        for _ in 0..self.rounds {
            for contestant in &self.contestants {
                for (sessions, count) in [("own", CONNECTIONS), ("one", 1)] {
                    let sample = self.load(contestant, &contestant.cookies[..count]);
                    rows.entry((contestant.workers, sessions, contestant.name))
                        .or_default()
                        .push(sample);
                }
            }
        }
        rows
    }

    fn load(&self, contestant: &Contestant, cookies: &[String]) -> Sample {
        let script = self.place.path().join("load.lua");
        let list: Vec<_> = cookies
            .iter()
            .map(|cookie| format!("\"{cookie}\""))
            .collect();
        let lua = format!(
            "local cookies = {{{}}}\nlocal n = 0\n\
             function setup(thread) thread:set('number', n); n = n + 1 end\n\
             function init() wrk.headers['Cookie'] = cookies[number % #cookies + 1] end\n\
             function done(s, l) io.write('failed ', s.errors.status + s.errors.read + s.errors.timeout, '\\n') end\n",
            list.join(",")
        );
        fs::write(&script, lua).expect("the script of wrk");
        let before = contestant.processor_time();
        let output = Command::new("wrk")
            .args([
                format!("-t{CONNECTIONS}"),
                format!("-c{CONNECTIONS}"),
                format!("-d{}", self.seconds),
            ])
            .arg("-s")
            .arg(&script)
            .arg(url(&contestant.location))
            .output()
            .expect("wrk");
        let report = String::from_utf8_lossy(&output.stdout);
        assert!(
            report.contains("failed 0\n"),
            "{}: {report}",
            contestant.name
        );
        let field = |name: &str| -> f64 {
            let line = report
                .lines()
                .find(|line| line.contains(name))
                .expect("a line of wrk");
            let digits = line.split_whitespace().find_map(|word| word.parse().ok());
            digits.expect("a number of wrk")
        };
        let spent = contestant
            .processor_time()
            .checked_sub(before)
            .unwrap_or_default();
        let requests = field("requests in");
        (field("Requests/sec"), spent.as_secs_f64() * 1e6 / requests)
    }
}

impl Contestant {
    /// The processor time of its processes and their children, in hundredths of a second.
    fn processor_time(&self) -> Duration {
        let ours: Vec<u32> = self.processes.iter().map(Child::id).collect();
        let mut ticks = 0;
        for entry in fs::read_dir("/proc").expect("/proc").flatten() {
            let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else {
                continue;
            };
            let Some((before, after)) = stat.rsplit_once(')') else {
                continue;
            };
            let fields: Vec<&str> = after.split_whitespace().collect();
            let pid = before
                .split(' ')
                .next()
                .and_then(|pid| pid.parse().ok())
                .unwrap_or(0);
            let parent = fields
                .get(1)
                .and_then(|parent| parent.parse().ok())
                .unwrap_or(0);
            if ours.contains(&pid) || ours.contains(&parent) {
                let spent = |at: usize| {
                    fields
                        .get(at)
                        .and_then(|n| n.parse::<u64>().ok())
                        .unwrap_or(0)
                };
                ticks += spent(11) + spent(12);
            }
        }
        Duration::from_millis(10 * ticks)
    }
}

fn start_ours(place: &Path, workers: usize, keeps: bool) -> Contestant {
    let program = env::current_exe()
        .expect("this program")
        .with_file_name("../examples/counter");
    assert!(
        program.exists(),
        "not built: cargo bench builds it, or cargo build --release --examples"
    );
    let name = format!("ours-{workers}-{keeps}");
    let process = Command::new(program)
        .arg("--listen")
        .arg(place.join(format!("{name}.sock")))
        .args(["--workers", &workers.to_string()])
        .env(
            "CGI_SESSION_STORAGE_FILE_DIR",
            place.join(format!("{name}-sessions")),
        )
        .spawn()
        .expect("the counter");
    contestant(
        if keeps { KEPT } else { OURS },
        workers,
        name,
        vec![process],
    )
}

fn start_floor(place: &Path, workers: usize) -> Option<Contestant> {
    let program = place.join("floor");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/fastcgi/floor.c");
    let built = Command::new("gcc")
        .args(["-O2", "-o"])
        .arg(&program)
        .arg(source)
        .arg("-lfcgi")
        .status();
    if !built.is_ok_and(|status| status.success()) {
        eprintln!("skipped: gcc or libfcgi not installed");
        return None;
    }
    let name = format!("floor-{workers}");
    let sessions = place.join(format!("{name}-sessions"));
    fs::create_dir(&sessions).expect("a directory");
    let listener = UnixListener::bind(place.join(format!("{name}.sock"))).expect("a socket");
    let processes = (0..workers).map(|_| {
        let stdin = listener.try_clone().expect("a descriptor");
        let mut command = Command::new(&program);
        command
            .env("FLOOR_DIRECTORY", &sessions)
            .stdin(Stdio::from(std::os::fd::OwnedFd::from(stdin)));
        command.spawn().expect("the floor")
    });
    Some(contestant(
        "C, libfcgi",
        workers,
        name.clone(),
        processes.collect(),
    ))
}

fn start_php(place: &Path, workers: usize) -> Option<Contestant> {
    let version = (1..=9).rev().map(|minor| format!("php-fpm8.{minor}"));
    let Some(program) = version
        .chain(["php-fpm".to_owned()])
        .find(|name| is_installed(name))
    else {
        eprintln!("skipped: php-fpm not installed");
        return None;
    };
    let name = format!("php-{workers}");
    let sessions = place.join(format!("{name}-sessions"));
    fs::create_dir(&sessions).expect("a directory");
    let config = place.join(format!("{name}.conf"));
    let text = format!(
        "[global]\nerror_log = {0}/{name}.log\ndaemonize = no\n[www]\nuser = root\ngroup = root\n\
         listen = {0}/{name}.sock\npm = static\npm.max_children = {workers}\n\
         php_admin_value[session.save_path] = {1}\nphp_admin_value[session.name] = sessionId\n\
         php_admin_value[session.gc_probability] = 0\n",
        place.display(),
        sessions.display()
    );
    fs::write(&config, text).expect("a configuration");
    let process = Command::new(program)
        .arg("-R")
        .arg("-y")
        .arg(&config)
        .stderr(Stdio::null())
        .spawn();
    Some(contestant(
        "php-fpm",
        workers,
        name,
        vec![process.expect("php-fpm")],
    ))
}

fn contestant(
    name: &'static str,
    workers: usize,
    location: String,
    processes: Vec<Child>,
) -> Contestant {
    Contestant {
        name,
        workers,
        location,
        processes,
        cookies: Vec::new(),
    }
}

fn start_nginx(place: &Path, contestants: &[Contestant]) -> Child {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/fastcgi/counter.php");
    let (mut upstreams, mut locations) = (Vec::new(), Vec::new());
    for contestant in contestants {
        let name = &contestant.location;
        let socket = place.join(format!("{name}.sock"));
        upstreams.push(format!(
            "upstream {name} {{ server unix:{}; keepalive 16; }}",
            socket.display()
        ));
        locations.push(format!(
            "location /{name} {{ include /etc/nginx/fastcgi_params; fastcgi_param SCRIPT_FILENAME {};\n\
             fastcgi_pass {name}; fastcgi_keep_conn {}; }}",
            script.display(),
            if contestant.name == KEPT { "on" } else { "off" }
        ));
        wait_for(&socket);
    }
    let (upstreams, locations) = (upstreams.join("\n"), locations.join("\n"));
    let config = place.join("nginx.conf");
    let text = format!(
        "daemon off; worker_processes 1; pid {0}/nginx.pid; error_log {0}/nginx.log; user root;\n\
         events {{ worker_connections 1024; }}\nhttp {{ access_log off; keepalive_requests 1000000000;\n\
         client_body_temp_path {0}/a; fastcgi_temp_path {0}/b; proxy_temp_path {0}/c;\n\
         {upstreams}server {{ listen 127.0.0.1:{PORT}; {locations} }} }}\n",
        place.display()
    );
    fs::write(&config, text).expect("a configuration");
    let nginx = Command::new("nginx")
        .arg("-c")
        .arg(&config)
        .stderr(Stdio::null())
        .spawn()
        .expect("nginx");
    let deadline = Instant::now() + Duration::from_secs(10);
    while TcpStream::connect(("127.0.0.1", PORT)).is_err() {
        assert!(
            Instant::now() < deadline,
            "nginx does not listen on port {PORT}"
        );
        thread::sleep(Duration::from_millis(10));
    }
    nginx
}

/// Visits a page without a cookie and returns the one that comes back.
fn first_visit(location: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", PORT)).expect("nginx");
    let request =
        format!("GET /{location} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("a request");
    let mut response = String::new();
    stream.read_to_string(&mut response).expect("a response");
    let cookie = response
        .lines()
        .find_map(|line| line.strip_prefix("Set-Cookie: "));
    cookie
        .and_then(|cookie| cookie.split(';').next())
        .unwrap_or_else(|| panic!("{response}"))
        .to_owned()
}

fn print_table(rows: &Rows) {
    println!(
        "| workers | sessions | program | requests/s (quartiles) | processor µs/request | ours to it |"
    );
    println!("|---|---|---|---|---|---|");
    for ((workers, sessions, name), samples) in rows {
        let ours = rows
            .get(&(*workers, *sessions, OURS))
            .map(|samples| quartiles(samples, |s| s.0)[1]);
        let [low, middle, high] = quartiles(samples, |s| s.0);
        let cost = quartiles(samples, |s| s.1)[1];
        let ratio = ours.unwrap_or_default() / middle;
        println!(
            "| {workers} | {sessions} | {name} | {middle:.0} ({low:.0}–{high:.0}) | {cost:.1} | {ratio:.2} |"
        );
    }
}

fn quartiles(samples: &[Sample], field: impl Fn(&Sample) -> f64) -> [f64; 3] {
    let mut values: Vec<f64> = samples.iter().map(field).collect();
    values.sort_by(f64::total_cmp);
    [1, 2, 3].map(|quarter| values[(values.len() - 1) * quarter / 4])
}

fn url(location: &str) -> String {
    format!("http://127.0.0.1:{PORT}/{location}")
}

fn is_installed(program: &str) -> bool {
    let places = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&places)
        .chain([PathBuf::from("/usr/sbin")])
        .any(|place| place.join(program).exists())
}

fn wait_for(path: &Path) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !path.exists() {
        assert!(
            Instant::now() < deadline,
            "{} does not appear",
            path.display()
        );
        thread::sleep(Duration::from_millis(10));
    }
}

fn stop(process: &mut Child) {
    let terminated = i32::try_from(process.id())
        .ok()
        .and_then(rustix::process::Pid::from_raw);
    if let Some(pid) = terminated {
        // It may have ended by itself.
        let _: Result<(), _> = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    }
    let _: io::Result<_> = process.wait();
}
