//! `cgi-session-cleanup`: deletes expired sessions, for cron.

fn main() {}
