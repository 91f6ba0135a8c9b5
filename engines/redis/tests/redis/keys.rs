//! What lies in a server: its sessions until they have expired, what a clean-up takes away, and the keys of
//! others.

use crate::store::store;
use cgi_session::store_contract::{WAIT, counted, create, later, record};
use testkit::prelude::*;

#[test]
fn the_server_deletes_what_has_expired_and_not_what_is_in_use() {
    let Some(server) = redis() else { return };
    let quick = store(&server, &[("timeout", "4s"), ("lockLease", "1s")]);
    let store = store(&server, &[("timeout", "4s")]);
    let now = SystemTime::now();
    let (in_use, mut lease) = create(&store, 1, now);
    drop(create(&quick, 2, now));
    wait_until("one is deleted", || server.tell("DBSIZE") == "1");
    lease.commit(&record(3, now), SystemTime::now()).unwrap();
    assert_eq!(counted(&store, &in_use.digest()), Some(3));
}

#[test]
fn a_clean_up_forgets_the_ended_sessions_of_a_user_and_no_others() {
    let Some(server) = redis() else { return };
    let store = store(&server, &[("timeout", "600")]);
    let now = SystemTime::now();
    let [ended, live] = [1, 2].map(|number| {
        let (id, mut lease) = create(&store, number, now);
        let record = record(number, now).with_user(Some("ada"));
        lease.commit(&record, now).unwrap();
        (id, lease)
    });
    ended.1.destroy().unwrap();
    drop(live.1);
    assert_eq!(server.tell("ZCARD Session:user:ada"), "2");
    // Somebody could be about to save the one that is not there.
    store.delete_expired(&Sweep::new(), now).unwrap();
    assert_eq!(server.tell("ZCARD Session:user:ada"), "2");
    store.delete_expired(&Sweep::new(), later(now, 61)).unwrap();
    assert_eq!(server.tell("ZCARD Session:user:ada"), "1");
    assert_eq!(store.sessions_of("ada", now).unwrap(), [live.0.digest()]);
}

#[test]
fn a_clean_up_that_stops_has_counted_what_it_looked_at() {
    let Some(server) = redis() else { return };
    let store = store(&server, &[]);
    let (before, now) = (SystemTime::now(), later(SystemTime::now(), 600));
    for number in 0..8 {
        drop(create(&store, number, before));
        drop(create(&store, number, now));
    }
    let report = store.delete_expired(&Sweep::new().max_files(1), now);
    let report = report.unwrap();
    assert!(report.stopped_early, "{report:?}");
    let counted = (report.examined, report.live, report.deleted);
    assert_eq!(counted, (16, 8, 1));
}

#[test]
fn of_two_clean_ups_one_does_nothing_unless_the_other_has_died() {
    let Some(server) = redis() else { return };
    let store = store(&server, &[]);
    let now = SystemTime::now();
    let sweep = || store.delete_expired(&Sweep::new(), now);
    let is_running = || sweep().unwrap().already_running;
    assert!(!is_running());
    let until = "99999999999999";
    let id = server.tell("CLIENT ID");
    let run = server.tell("INFO server");
    let run = run.lines().find_map(|line| line.strip_prefix("run_id:"));
    let holder = |id: &str| format!("{:032}:{}:{id}:process 1 on a host", 0, run.unwrap().trim());
    // The program that asked for this number is gone.
    let dead = holder(&id);
    server.tell(["HSET", "Session:sweep", "lock", &dead, "until", until]);
    assert!(!is_running());
    let client = redis::Client::open(server.url()).unwrap();
    let mut connection = client.get_connection().unwrap();
    let id: u64 = redis::cmd("CLIENT")
        .arg("ID")
        .query(&mut connection)
        .unwrap();
    let living = holder(&id.to_string());
    server.tell(["HSET", "Session:sweep", "lock", &living, "until", until]);
    assert!(is_running());
    assert_eq!(server.tell("HGET Session:sweep lock"), living);
}

#[test]
fn the_keys_of_others_are_neither_shown_nor_removed() {
    let Some(server) = redis() else { return };
    let store = store(&server, &[]);
    let now = SystemTime::now();
    let _ = stored(&store, 1);
    for key in ["Session:x", "Session:{y}", "Sessions:user:z", "other"] {
        server.tell(["SET", key, "1"]);
    }
    let report = store.delete_expired(&Sweep::new(), now).unwrap();
    assert_eq!((report.live, report.deleted), (1, 0));
    let done = store.uninstall();
    assert_eq!(done.sessions, 1);
    assert_eq!(done.foreign, ["key Session:x", "key Session:{y}"]);
    assert_eq!(server.tell("DBSIZE"), "4");
}

#[test]
fn what_somebody_else_wrote_under_the_name_of_a_session_is_neither_served_nor_changed() {
    let Some(server) = redis() else { return };
    let store = store(&server, &[]);
    let now = SystemTime::now();
    let session = SessionId::generate().unwrap().digest();
    let key = format!("Session:{{{session}}}");
    server.tell(["SET", &key, "1"]);
    for outcome in [
        store.read(&session, now).map(drop),
        store.lock(&session, WAIT, now).map(drop),
        store.create(&session, &record(1, now), now).map(drop),
    ] {
        fails(outcome, 500, "WRONGTYPE*choose another table");
    }
    server.tell(["DEL", &key]);

    let text = record(1, now).to_json();
    let text = std::str::from_utf8(&text).unwrap();
    let end = "99999999999";
    for fields in [
        &["name", "ada"][..],
        &["record", "no json", "end", end, "used", "1", "version", "1"],
        &["record", text, "end", "soon", "used", "1", "version", "1"],
        &["record", text, "end", end, "used", "1"],
    ] {
        server.tell([&["HSET", key.as_str()], fields].concat());
        let all = || {
            let all = server.tell(["HGETALL", &key]);
            let mut lines: Vec<_> = all.lines().map(str::to_owned).collect();
            lines.sort();
            lines
        };
        let before = all();
        assert!(store.read(&session, now).unwrap().is_none(), "{fields:?}");
        assert!(store.lock(&session, WAIT, now).unwrap().is_none());
        let taken = store.create(&session, &record(1, now), now);
        assert!(taken.unwrap().is_none(), "{fields:?}");
        store
            .delete_expired(&Sweep::new(), later(now, 600))
            .unwrap();
        assert_eq!(all(), before);
        server.tell(["DEL", &key]);
    }
}
