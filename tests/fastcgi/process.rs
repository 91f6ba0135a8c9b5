//! The life of the process: how it gets its socket, how it ends, and what it survives.

use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::UnixDatagram;

use rustix::fs::OFlags;
use rustix::process::{Resource, Rlimit, prlimit};

use testkit::apache::web_user;
use testkit::fastcgi::client::{Address, Client, KEEP, STDIN, get, head, params, stream, visit};
use testkit::fastcgi::server::{Server, Setup, Socket, echo, until};
use testkit::prelude::*;
use testkit::responder::{self, as_web_user};

/// How much a program may grow over all its requests, in KiB.
const GROWTH: u64 = 2 << 10;

#[test]
fn every_kind_of_listening_socket_is_served() {
    use Socket::{ListenTcp, ListenUnix, StdinTcp, StdinUnix};
    for socket in [ListenUnix, ListenTcp, StdinUnix, StdinTcp] {
        let server = Server::new("counter", socket);
        let first = server.ask(&get(1, 0, ""));
        assert!(first.text().contains("been here 1 time"), "{socket:?}");
        let second = server.ask(&visit(1, 0, "", first.cookie().unwrap()));
        assert!(second.text().contains("been here 2 time"), "{socket:?}");
    }
}

/// The socket that a server listens on.
fn path_of(server: &Server) -> PathBuf {
    match &server.address {
        Address::Unix(path) => path.clone(),
        Address::Tcp(_) => unreachable!("it listens on a path"),
    }
}

/// Starts `counter` with a `--listen` that it cannot serve, and returns what it says.
fn refused(listen: &str) -> String {
    let mut command = Command::new(example("counter"));
    let output = command.args(["--listen", listen]).env_clear().output();
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn a_file_that_is_no_socket_is_never_replaced() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("precious");
    fs::write(&path, "data").unwrap();
    assert!(refused(&format!("unix:{}", path.display())).contains("precious"));
    assert_eq!(fs::read_to_string(&path).unwrap(), "data");
    let link = directory.path().join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    for (path, advice) in [
        (link.as_path(), "try: remove it"),
        (directory.path(), "name a socket in it"),
    ] {
        let said = refused(&format!("unix:{}", path.display()));
        assert!(said.contains(&format!("no socket; {advice}")), "{said}");
    }
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(fs::read_to_string(&path).unwrap(), "data");
}

#[test]
fn a_socket_that_somebody_listens_on_is_not_taken_away() {
    let server = Server::new("counter", Socket::ListenUnix);
    let path = path_of(&server);
    assert!(refused(&format!("unix:{}", path.display())).contains("in use"));
    server.answers_at_once("another program that wanted its socket");
}

#[test]
fn a_socket_of_another_kind_is_not_taken_away() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("log");
    let _log = UnixDatagram::bind(&path).unwrap();
    assert!(refused(&format!("unix:{}", path.display())).contains("in use"));
    assert!(fs::symlink_metadata(&path).unwrap().file_type().is_socket());
}

#[test]
fn a_name_that_is_another_socket_by_now_stays() {
    let mut server = echo(Socket::ListenUnix).start();
    let path = path_of(&server);
    fs::remove_file(&path).unwrap();
    let _other = UnixListener::bind(&path).unwrap();
    server.signal(Signal::TERM);
    assert!(server.end().success());
    assert!(Client::connect(&server.address).is_ok());
}

#[test]
fn who_may_connect_to_a_socket_is_said_on_the_command_line() {
    let group = rustix::process::getgid().as_raw();
    let groups = fs::read_to_string("/etc/group").unwrap();
    let field = format!(":{group}:");
    let line = groups.lines().find(|line| line.contains(&field));
    let name = line.and_then(|line| line.split(':').next());
    for group in [Some(&*group.to_string()), name].into_iter().flatten() {
        let setup = echo(Socket::ListenUnix);
        let server = setup.arguments(["--socket-mode", "606", "--socket-group", group]);
        let server = server.start();
        let found = fs::symlink_metadata(path_of(&server)).unwrap();
        assert_eq!(found.permissions().mode() & 0o777, 0o606);
    }
    let nobody = ("--socket-group", "no such group", 1);
    for (option, value, code) in [("--socket-mode", "9", 2), nobody] {
        let mut command = Command::new(example("counter"));
        command.args(["--listen", "unix:/tmp/never.sock", option, value]);
        let output = command.env_clear().output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{output:?}");
    }
}

#[test]
fn a_socket_whose_group_cannot_be_changed_is_removed_at_once() {
    let groups = fs::read_to_string("/proc/self/status").unwrap();
    let has_it = groups
        .lines()
        .any(|line| line.starts_with('G') && line.split_whitespace().any(|it| it == "0"));
    if web_user().is_none() && has_it {
        return;
    }
    let place = TempDir::new().unwrap();
    give(place.path(), web_user());
    let path = place.path().join("socket");
    let listen = format!("unix:{}", path.display());
    let mut command = as_web_user(&example("fastcgi_echo"));
    command.args(["--listen", &listen, "--socket-group", "0"]);
    let started = Instant::now();
    let output = command.env_clear().output().unwrap();
    // The wait for a program that uses the directory, too, and there is none.
    assert!(started.elapsed() < Duration::from_secs(5));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("cannot change the group of"), "{told}");
    assert!(!path.exists());
}

#[test]
fn an_address_that_others_reach_is_warned_of() {
    for (address, list, is_inherited, is_warned_of) in [
        ("0.0.0.0", "", false, true),
        ("0.0.0.0", "", true, true),
        ("[::]", "", false, true),
        ("127.0.0.1", "", false, false),
        ("127.0.0.1", "", true, false),
        ("0.0.0.0", "127.0.0.1", false, false),
    ] {
        let port = free_port();
        let listen = format!("{address}:{port}");
        let mut command = Command::new(example("fastcgi_echo"));
        command.env_clear().stderr(Stdio::piped());
        if is_inherited {
            let listener = TcpListener::bind(&listen).unwrap();
            command.stdin(rustix::fd::OwnedFd::from(listener));
        } else {
            command.args(["--listen", &listen]);
        }
        if !list.is_empty() {
            command.env("FCGI_WEB_SERVER_ADDRS", list);
        }
        let mut child = Killed(command.spawn().unwrap());
        let address = Address::Tcp(([127, 0, 0, 1], port).into());
        until("it listens", || Client::connect(&address).is_ok());
        let mut client = Client::connect(&address).unwrap();
        assert_eq!(client.ask(1, &get(1, 0, "")).text(), "ok");
        send(Signal::TERM, &child.0);
        let said = io::read_to_string(child.0.stderr.take().unwrap()).unwrap();
        let seen = said.contains("FCGI_WEB_SERVER_ADDRS");
        assert_eq!(seen, is_warned_of, "{said}");
    }
}

#[test]
fn a_command_line_that_an_inherited_socket_passes_over_is_told() {
    let server = echo(Socket::StdinUnix)
        .arguments("--workers 2 --unknown")
        .start();
    holds(server.log(), "--unknown");
    assert_eq!(server.ask(&get(1, 0, "")).text(), "ok");
}

#[test]
fn a_socket_left_by_a_killed_program_is_replaced_and_goes_with_its_program() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("left.sock");
    drop(UnixListener::bind(&path).unwrap());
    let listen = format!("unix:{}", path.display());
    let mut command = Command::new(example("fastcgi_echo"));
    command.args(["--listen", &listen]).env_clear();
    let mut child = Killed(command.spawn().unwrap());
    let address = Address::Unix(path.clone());
    until("it listens", || Client::connect(&address).is_ok());
    let found = fs::symlink_metadata(&path).unwrap();
    assert!(found.file_type().is_socket());
    assert_eq!(found.permissions().mode() & 0o777, 0o660);
    send(Signal::TERM, &child.0);
    assert!(child.0.wait().unwrap().success());
    assert!(!path.exists());
}

#[test]
fn systemd_hands_over_a_socket_as_descriptor_three() {
    let activate = "systemd-socket-activate";
    if Command::new(activate).arg("--version").output().is_err() {
        testkit::not_installed(activate);
        return;
    }
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("systemd.sock");
    let tcp = SocketAddr::from(([127, 0, 0, 1], free_port()));
    for (listen, address) in [
        (path.display().to_string(), Address::Unix(path)),
        (tcp.to_string(), Address::Tcp(tcp)),
    ] {
        let mut command = Command::new(activate);
        command.args(["-l", &listen]).arg(example("fastcgi_echo"));
        command.env_clear().stderr(Stdio::null());
        let _child = Killed(command.spawn().unwrap());
        let mut client = None;
        until("it listens", || {
            client = Client::connect(&address).ok();
            client.is_some()
        });
        assert_eq!(client.unwrap().ask(1, &get(1, 0, "")).text(), "ok");
    }
}

#[test]
fn only_the_web_servers_that_are_named_may_connect() {
    for (list, is_served) in [("127.0.0.1", true), ("10.0.0.1, 127.0.0.1", true)] {
        let setup = echo(Socket::StdinTcp);
        let server = setup.variable("FCGI_WEB_SERVER_ADDRS", list).start();
        assert_eq!(server.ask(&get(1, 0, "")).status() == 200, is_served);
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = Address::Tcp(listener.local_addr().unwrap());
    let mut command = Command::new(example("fastcgi_echo"));
    command.env_clear().env("FCGI_WEB_SERVER_ADDRS", "10.0.0.1");
    command.stdin(rustix::fd::OwnedFd::from(listener));
    let _child = Killed(command.spawn().unwrap());
    let mut client = Client::connect(&address).unwrap();
    let refused = client.send(&get(1, 0, "")).and_then(|()| client.reply(1));
    assert!(refused.is_err() || refused.is_ok_and(|reply| reply.end.is_none()));
}

#[test]
fn a_list_of_web_servers_that_makes_no_sense_ends_the_program() {
    use std::os::unix::ffi::OsStrExt as _;
    for list in [&b"somewhere"[..], b"127.0.0.1,", b"127.0.0.1\xff"] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut command = Command::new(example("fastcgi_echo"));
        command.env_clear();
        command.env("FCGI_WEB_SERVER_ADDRS", std::ffi::OsStr::from_bytes(list));
        command.stdin(rustix::fd::OwnedFd::from(listener));
        let mut child = Killed(command.stderr(Stdio::null()).spawn().unwrap());
        let mut status = None;
        until("it ends", || {
            status = child.0.try_wait().unwrap();
            status.is_some()
        });
        assert_eq!(status.unwrap().code(), Some(1));
    }
}

#[test]
fn a_signal_ends_an_idle_program_with_success() {
    let common = [Signal::TERM, Signal::INT, Signal::HUP, Signal::USR1];
    for signal in common.into_iter().chain([Signal::QUIT, Signal::USR2]) {
        let mut server = echo(Socket::ListenUnix).start();
        let mut kept = server.connect();
        kept.ask(1, &get(1, KEEP, ""));
        server.signal(signal);
        assert!(server.end().success());
        assert!(kept.is_closed());
    }
}

#[test]
fn a_program_that_nohup_started_survives_its_terminal() {
    let path = TempDir::new().unwrap();
    let socket = path.path().join("socket");
    let mut command = Command::new("nohup");
    command.arg(example("fastcgi_echo"));
    command.arg("--listen").arg(&socket);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let child = Killed(command.spawn().unwrap());
    let address = Address::Unix(socket);
    until("it listens", || Client::connect(&address).is_ok());
    send(Signal::HUP, &child.0);
    let mut client = Client::connect(&address).unwrap();
    assert_eq!(client.ask(1, &get(1, 0, "")).text(), "ok");
}

#[test]
fn a_program_takes_the_place_of_one_that_is_to_end_while_that_finishes() {
    for socket in [Socket::ListenUnix, Socket::ListenTcp] {
        for signal in [Signal::TERM, Signal::HUP, Signal::USR1] {
            let mut old = echo(socket).start();
            let mut running = old.send(&get(1, 0, "mode=wait"));
            until("the handler runs", || old.started() == 1);
            old.signal(signal);
            let is_free = || Client::connect(&old.address).is_err();
            until("the place is free", is_free);
            let new = Setup::in_the_place_of(&old).start();
            old.go();
            assert_eq!(running.reply(1).unwrap().text(), "waited", "{socket:?}");
            assert!(old.end().success());
            assert_eq!(old.log(), "");
            new.answers_at_once("the end of the one before");
        }
    }
}

#[test]
fn a_request_that_was_sent_in_time_is_answered_on_a_new_connection_and_on_a_kept_one() {
    for socket in [Socket::ListenUnix, Socket::ListenTcp] {
        let mut server = echo(socket).arguments("--workers 1").start();
        let mut waiting: Vec<_> = (0..20).map(|_| server.connect()).collect();
        for client in &mut waiting {
            assert_eq!(client.ask(1, &get(1, KEEP, "")).text(), "ok");
        }
        // The one worker has left all others by now.
        assert_eq!(server.ask(&get(1, 0, "")).text(), "ok");
        server.signal(Signal::STOP);
        waiting.extend((0..20).map(|_| server.connect()));
        for client in &mut waiting {
            client.send(&get(1, KEEP, "")).unwrap();
        }
        server.signal(Signal::TERM);
        server.signal(Signal::CONT);
        for client in &mut waiting {
            assert_eq!(client.reply(1).unwrap().text(), "ok", "{socket:?}");
        }
        assert!(server.end().success());
    }
}

#[test]
fn a_long_body_of_a_connection_that_was_made_in_time_is_read_and_answered() {
    let mut server = echo(Socket::ListenUnix).arguments("--workers 1").start();
    let mut running = server.send(&get(1, 0, "mode=wait"));
    until("the handler runs", || server.started() == 1);
    let mut client = server.connect();
    let length = [("CONTENT_LENGTH", &b"2000000"[..])];
    let head = head(1, 0, &params("POST", "mode=body", &length));
    let body = stream(STDIN, 1, &vec![b'b'; 2_000_000], 60_000);
    // As much as the socket holds while nothing is read.
    let (beginning, rest) = body.split_at(100_000);
    client.send(&[&head[..], beginning].concat()).unwrap();
    server.signal(Signal::TERM);
    let name = path_of(&server);
    until("the socket's name is given up", || !name.exists());
    server.go();
    assert_eq!(running.reply(1).unwrap().text(), "waited");
    client.send(rest).unwrap();
    let reply = client.reply(1).unwrap();
    assert_eq!((reply.status(), reply.end), (200, Some(0)));
    assert!(server.end().success());
}

#[test]
fn sigterm_lets_what_runs_finish_and_answers_nothing_new() {
    let mut server = echo(Socket::StdinUnix).start();
    let cookie = server.ask(&get(1, 0, "mode=count"));
    let cookie = cookie.cookie().unwrap().to_owned();
    let mut running = server.connect();
    let both = [
        visit(1, KEEP, "mode=count-and-wait", &cookie),
        visit(2, KEEP, "mode=count", &cookie),
    ];
    running.send(&both.concat()).unwrap();
    until("the handler runs", || server.started() == 1);
    let mut idle = server.connect();
    idle.ask(1, &get(1, KEEP, ""));
    server.signal(Signal::TERM);
    assert!(idle.is_closed());
    let mut new = server.connect();
    let _ = new.send(&get(1, 0, ""));
    server.go();
    let reply = running.reply(1).unwrap();
    assert_eq!((reply.text().as_str(), reply.end), ("2", Some(0)));
    // The request sent ahead is not answered.
    assert!(running.is_closed());
    assert!(server.end().success());
    assert!(new.reply(1).map_or(true, |reply| reply.end.is_none()));
    let file = fs::read_to_string(server.session_file()).unwrap();
    assert!(file.contains(r#""count":2"#), "{file}");
}

#[test]
fn sigterm_ends_a_program_whose_workers_are_all_busy_for_too_long() {
    let mut server = echo(Socket::ListenUnix).arguments("--workers 1").start();
    let first = server.ask(&get(1, 0, "mode=count"));
    let cookie = first.cookie().unwrap().to_owned();
    let mut stuck = server.connect();
    let waiting = visit(1, 0, "mode=count-and-wait", &cookie);
    stuck.send(&waiting).unwrap();
    until("the handler runs", || server.started() == 1);
    server.signal(Signal::TERM);
    assert!(server.end().success());
    assert!(server.log().contains("longer than 10 s"));
    let file = fs::read_to_string(server.session_file()).unwrap();
    assert!(!file.contains(r#""count":2"#), "{file}");
}

#[test]
fn sigterm_does_not_wait_for_each_of_many_bodies_that_do_not_come() {
    let mut server = echo(Socket::StdinUnix).start();
    let unread = head(1, 0, &params("POST", "", &[("CONTENT_LENGTH", b"0")]));
    let ask = |_| {
        let mut client = server.connect();
        assert_eq!(client.ask(1, &unread).text(), "ok");
        client
    };
    let waiting: Vec<_> = (0..100).map(ask).collect();
    let told = Instant::now();
    server.signal(Signal::TERM);
    assert!(server.end().success());
    // Half a second for each would be longer.
    assert!(told.elapsed() < Duration::from_secs(40));
    drop(waiting);
}

#[test]
fn a_program_that_was_stopped_goes_on() {
    let server = echo(Socket::StdinUnix).start();
    let mut kept = server.connect();
    kept.ask(1, &get(1, KEEP, ""));
    server.signal(Signal::STOP);
    let mut new = server.send(&get(1, 0, ""));
    kept.send(&get(2, KEEP, "")).unwrap();
    server.signal(Signal::CONT);
    assert_eq!(new.reply(1).unwrap().status(), 200);
    assert_eq!(kept.reply(2).unwrap().status(), 200);
    server.answers_at_once("SIGSTOP and SIGCONT");
}

#[test]
fn of_several_processes_on_one_socket_those_that_are_stopped_or_killed_hold_nothing_up() {
    let directory = TempDir::new().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let path = directory.path().join("app.sock");
    let socket = responder::Socket::bind(&path);
    let start = |_| socket.start(&example("fastcgi_echo"));
    let mut programs: Vec<_> = (0..4).map(start).collect();
    let address = Address::Unix(path);
    let answers = |number: usize| {
        let connect = |_| Client::connect(&address).unwrap();
        let mut clients: Vec<_> = (0..number).map(connect).collect();
        for client in &mut clients {
            client.send(&get(1, 0, "")).unwrap();
        }
        for client in &mut clients {
            assert_eq!(client.reply(1).unwrap().status(), 200);
        }
    };
    answers(100);
    for program in &programs[..2] {
        program.signal(Signal::STOP);
    }
    // One at a time: each may be told to a program that is stopped.
    (0..10).for_each(|_| answers(1));
    answers(100);
    for program in programs.drain(..2) {
        program.signal(Signal::KILL);
        program.end();
    }
    answers(100);
}

#[test]
fn files_that_may_not_grow_are_an_error_of_one_request_and_end_no_program() {
    let mut server = Server::new("counter", Socket::StdinUnix);
    let first = server.ask(&get(1, 0, ""));
    let limit = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    let pid = Pid::from_raw(i32::try_from(server.pid()).unwrap());
    prlimit(pid, Resource::Fsize, limit).unwrap();
    for _ in 0..3 {
        let refused = server.ask(&visit(1, 0, "", first.cookie().unwrap()));
        assert_eq!(refused.status(), 500, "{}", refused.text());
    }
    assert!(server.is_running());
}

#[test]
fn no_socket_is_left_to_the_programs_that_a_handler_starts() {
    for socket in [Socket::ListenUnix, Socket::StdinUnix, Socket::StdinTcp] {
        let server = echo(socket).start();
        let mut kept = server.connect();
        kept.ask(1, &get(1, KEEP, ""));
        let process = PathBuf::from(format!("/proc/{}", server.pid()));
        let mut sockets = 0;
        for open in fs::read_dir(process.join("fd")).unwrap() {
            // What a worker had open for a moment may be gone.
            let Ok(open) = open.map(|it| it.path()) else {
                continue;
            };
            let Ok(target) = fs::read_link(&open) else {
                continue;
            };
            if !target.to_string_lossy().starts_with("socket:") {
                continue;
            }
            sockets += 1;
            let info = process.join("fdinfo").join(open.file_name().unwrap());
            let info = fs::read_to_string(info).unwrap();
            let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
            let flags = u32::from_str_radix(flags.unwrap().trim(), 8).unwrap();
            assert_ne!(flags & OFlags::CLOEXEC.bits(), 0, "{socket:?}: {open:?}");
        }
        assert!(sockets >= 2, "{sockets}");
    }
}

#[test]
fn the_soft_limit_of_descriptors_is_raised_to_what_the_connections_need() {
    let directory = TempDir::new().unwrap();
    let socket = directory.path().join("socket");
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -S -n 100 && exec \"$0\" --listen \"$1\""]);
    command.arg(example("fastcgi_echo")).arg(&socket);
    command.stderr(Stdio::null());
    let child = Killed(command.spawn().unwrap());
    let address = Address::Unix(socket);
    until("it listens", || Client::connect(&address).is_ok());
    let mut client = Client::connect(&address).unwrap();
    assert_eq!(client.ask(1, &get(1, 0, "")).text(), "ok");
    let limit = prlimit_of(&child.0);
    assert!(limit.current.unwrap_or(u64::MAX) >= limit.maximum.unwrap_or(u64::MAX).min(2048));
}

/// The limit of descriptors of a process.
fn prlimit_of(process: &Child) -> Rlimit {
    let limits = fs::read_to_string(format!("/proc/{}/limits", process.id())).unwrap();
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"));
    let numbers = line.unwrap();
    let mut numbers = numbers.split_ascii_whitespace().map(|it| it.parse().ok());
    Rlimit {
        current: numbers.next().unwrap(),
        maximum: numbers.next().unwrap(),
    }
}

#[test]
fn having_no_descriptors_left_is_survived() {
    let mut server = echo(Socket::StdinUnix).descriptors(64).start();
    let held: Vec<_> = (0..200).map(|_| server.connect()).collect();
    server.answers_at_once("200 connections under a limit of 64");
    let first = server.ask(&get(1, 0, "mode=count"));
    assert!(first.cookie().is_some() || first.status() == 503);
    // Those that workers have for a moment leave no more for a session.
    until("a session has a descriptor", || {
        let first = server.ask(&get(1, 0, "mode=count"));
        first.cookie().is_some()
    });
    drop(held);
    assert!(server.is_running());
}

#[test]
fn idle_connections_leave_descriptors_to_sessions() {
    let server = echo(Socket::StdinUnix).descriptors(256).start();
    let _held: Vec<_> = (0..400).map(|_| server.connect()).collect();
    for _ in 0..30 {
        let counted = server.ask(&get(1, 0, "mode=count"));
        assert_eq!(counted.status(), 200);
    }
}

#[test]
#[cfg_attr(target_pointer_width = "32", ignore = "there are not enough addresses")]
fn a_handler_has_as_much_stack_as_in_a_cgi_program() {
    let server = echo(Socket::ListenUnix).start();
    assert_eq!(server.ask(&get(1, 0, "mode=deep")).text(), "2048");
}

#[test]
fn a_port_that_is_taken_is_told_and_so_is_a_second_socket() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let said = refused(&taken.local_addr().unwrap().to_string());
    assert!(said.contains("another program listens there"), "{said}");
    let mut command = Command::new("/bin/sh");
    let script = "export LISTEN_PID=$$ LISTEN_FDS=2; exec \"$0\" 3<&0 4<&0 </dev/null";
    command.args(["-c", script]).arg(example("fastcgi_echo"));
    let output = command.stdin(std::os::fd::OwnedFd::from(taken)).output();
    let said = String::from_utf8(output.unwrap().stderr).unwrap();
    assert!(said.contains("LISTEN_FDS has 2 sockets"), "{said}");
}

#[test]
fn a_descriptor_three_that_does_not_listen_is_refused() {
    for given in ["3<&-", "3</dev/null", "3<&0"] {
        let script = format!("export LISTEN_PID=$$ LISTEN_FDS=1; exec \"$0\" {given}");
        let (one, _other) = UnixStream::pair().unwrap();
        let mut command = Command::new("/bin/sh");
        command.args(["-c", &script]).arg(example("fastcgi_echo"));
        let output = command.stdin(std::os::fd::OwnedFd::from(one)).output();
        let output = output.unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{given}");
        assert!(said.contains("LISTEN_FDS"), "{given}: {said}");
    }
}

/// Opens as many connections as asked, or as the test's own limit allows.
fn idle_connections(server: &Server, wanted: usize) -> Vec<Client> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let limit = limit.current.and_then(|limit| usize::try_from(limit).ok());
    // Other tests of this process need some too.
    let most = wanted.min(limit.unwrap_or(usize::MAX) / 2);
    if most < wanted {
        eprintln!("{most} connections instead of {wanted}: the limit of descriptors is low");
    }
    let mut clients = Vec::with_capacity(most);
    while clients.len() < most {
        match Client::connect(&server.address) {
            Ok(client) => clients.push(client),
            // The backlog is full for a moment.
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::yield_now(),
            Err(error) => panic!("after {} connections: {error}", clients.len()),
        }
    }
    clients
}

#[test]
fn thousands_of_idle_connections_starve_nobody() {
    let server = echo(Socket::StdinUnix).start();
    let before = server.memory();
    let some = idle_connections(&server, 500);
    server.answers_at_once("500 idle connections");
    let more = idle_connections(&server, 3500);
    for _ in 0..20 {
        server.answers_at_once("4,000 idle connections");
    }
    let grown = server.memory().saturating_sub(before);
    assert!(grown <= 2 * GROWTH, "grown by {grown} KiB");
    drop((some, more));
    server.answers_at_once("4,000 idle connections that are gone");
}

#[test]
fn memory_does_not_grow_with_the_number_of_requests() {
    let requests = env::var("FASTCGI_REQUESTS").ok();
    let requests: u32 = requests.map_or(20_000, |text| text.parse().unwrap());
    let server = echo(Socket::StdinUnix).start();
    let first = server.ask(&get(1, 0, "mode=count"));
    let cookie = first.cookie().unwrap().to_owned();
    let ask = |number: u32| {
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let mut client = server.connect();
                    let plain = get(1, KEEP, "").repeat(49);
                    let counted = visit(1, KEEP, "mode=count", &cookie);
                    let batch = [plain, counted].concat();
                    for _ in 0..number / 200 {
                        client.send(&batch).unwrap();
                        for _ in 0..50 {
                            assert_eq!(client.reply(1).unwrap().end, Some(0));
                        }
                    }
                });
            }
        });
    };
    ask(4_000);
    let before = server.memory();
    ask(requests);
    let grown = server.memory().saturating_sub(before);
    assert!(grown <= GROWTH, "grown by {grown} KiB");
}

#[test]
fn the_number_of_workers_is_read_from_the_command_line_under_a_socket_of_the_server_too() {
    let server = echo(Socket::StdinUnix).arguments("--workers 3").start();
    assert_eq!(server.ask(&get(1, 0, "")).status(), 200);
    // A thread gives itself its name.
    until("three workers have begun", || workers(&server) >= 3);
    assert_eq!(workers(&server), 3);
}

#[test]
fn no_more_workers_are_started_than_connections_keep_busy_and_one() {
    let arguments = "--workers 30 --connections 2";
    let server = echo(Socket::StdinUnix).arguments(arguments).start();
    assert_eq!(server.ask(&get(1, 0, "")).status(), 200);
    until("three workers have begun", || workers(&server) >= 3);
    assert_eq!(workers(&server), 3);
}

fn workers(server: &Server) -> usize {
    let names = server.threads().into_iter();
    names.filter(|name| name.starts_with("worker")).count()
}

#[test]
fn a_program_that_stays_cleans_up_by_itself() {
    let setup = echo(Socket::StdinUnix);
    let server = setup.variable("CGI_SESSION_CLEAN_UP_DELAY", "1s").start();
    assert_eq!(server.ask(&get(1, 0, "mode=count")).text(), "1");
    let file = server.session_file();
    let long_ago = SystemTime::now() - Duration::from_secs(3 * 3600);
    let opened = fs::File::open(&file).unwrap();
    opened.set_modified(long_ago).unwrap();
    until("the expired session is deleted", || !file.exists());
    assert_eq!(server.ask(&get(1, 0, "mode=count")).text(), "1");
}

#[test]
fn a_clean_up_that_panics_is_tried_again_and_the_program_ends_in_order() {
    let setup = echo(Socket::StdinUnix).variable("CGI_SESSION_STORAGE_TYPE", "custom");
    let mut server = setup.variable("CGI_SESSION_CLEAN_UP_DELAY", "1s").start();
    fs::write(server.directory().join("clean-up"), "").unwrap();
    assert_eq!(server.ask(&get(1, 0, "mode=count")).text(), "1");
    let told = "as the file clean-up asks";
    until("it panics again", || server.log().matches(told).count() > 1);
    server.signal(Signal::TERM);
    assert!(server.end().success());
}

#[test]
fn a_store_that_is_away_at_the_start_is_used_when_it_is_there() {
    let directory = TempDir::new().unwrap();
    let sign = directory.path().join("store");
    let setup = echo(Socket::StdinUnix);
    let started = Instant::now();
    let server = setup.variable("ECHO_STORE", sign.display()).start();
    for _ in 0..100 {
        let reply = server.ask(&get(1, 0, "mode=count"));
        assert_eq!(reply.status(), 503, "{reply:?}");
        assert!(reply.head.contains("Retry-After: "), "{reply:?}");
        assert_eq!(server.ask(&get(1, 0, "")).status(), 200);
    }
    let tries = || fs::metadata(sign.with_extension("tries")).unwrap().len();
    until("it was looked for again", || tries() > 2);
    // Once a second, and at the start.
    let number = tries();
    let at_most = started.elapsed().as_secs() + 3;
    assert!(number <= at_most, "{number} tries");
    fs::write(&sign, "").unwrap();
    until("a session is counted", || {
        server.ask(&get(1, 0, "mode=count")).status() == 200
    });
}
