//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use clap::builder::RangedU64ValueParser;

use crate::sessions::time;

const EXAMPLES: &str = "\
Examples:
  # What would be deleted?
  cgi-session-cleanup --dry-run

  # /etc/cron.d/cgi-session, twice an hour, as the user of the web server
  09,39 * * * * www-data /usr/local/bin/cgi-session-cleanup --config /etc/cgi-session.ini

  # The same in your own crontab (crontab -e), which names no user
  09,39 * * * * ~/bin/cgi-session-cleanup --config ~/site/cgi-session.ini

  # Delete now what was unused for half an hour, though its program keeps it longer
  cgi-session-cleanup --idle 30m

  # Hand the values of each expired session to a program, and then delete it
  cgi-session-cleanup --each /usr/local/bin/return-basket

  # Your own directory, a minute at most, with one line about it
  cgi-session-cleanup --storage-file-dir /home/me/sessions --max-seconds 60 -v

Exit status:
  0   done, or nothing to do, or another clean-up is running
  1   something could not be removed; stderr has one line for each
  2   wrong usage
  75  another clean-up is running, with --fail-if-running
  78  the configuration cannot be used

A session expires when it was unused for the time in its record: the longest timeout of the programs that
saved it. The timeout of the configuration counts for records without one. With --idle its `touchAfter` is allowed for,
in which a use may not have been noted: it must be as long as that of the programs.

PROGRAM of --each is started once for each expired session, one after the other, without a shell and as the
owner of the directory. Its stdin is the session's values as one JSON object, those of the application that
`app` names; SESSION_DIGEST and SESSION_USER say which session it is and whose. The session is locked meanwhile,
and deleted when PROGRAM exits with 0. When it fails or takes longer than --each-timeout, the session is
kept for the next clean-up, and deleted at the last of --each-tries. A PROGRAM that cannot be started ends the
clean-up with 2, and is no try. A clean-up that is killed starts PROGRAM
again for the session that PROGRAM was running for. While PROGRAM runs, another clean-up may take other
sessions, also with --fail-if-running. PROGRAM is not started for a session that was destroyed (a logout) or
evicted (`maxSessions`), nor for one that something else deletes: set `expiredBy = cleanup`, so that the
programs of the site delete no expired session.

Started by root it acts as the owner of the directory or the database file. A session that a request holds is left for
the next time, and files that are not sessions are never touched. `find -delete` is no substitute:
it takes no lock, and so deletes sessions in use.";

/// Deletes expired sessions, and files that processes left behind when they died.
///
/// Prints nothing when all is well, so that cron sends no mail. The configuration is found as the
/// programs of the site find it: the environment names a file, or it is cgi-session.ini beside
/// this program, or /etc/cgi-session.ini.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES)]
pub(crate) struct Program {
    /// The configuration file
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) arguments: Arguments,
}

/// Delete expired sessions
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a switch of the command line"
)]
pub(crate) struct Arguments {
    /// The directory of the session files, an absolute path, whatever the configuration says; needs no
    /// configuration
    #[arg(long, value_name = "DIR")]
    pub(crate) storage_file_dir: Option<PathBuf>,

    /// Delete nothing; list what would be deleted: name, age, size, reason, and a total
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// Print one line about what was done
    #[arg(short, long)]
    pub(crate) verbose: bool,

    /// Print what was done as one JSON object
    #[arg(long)]
    pub(crate) json: bool,

    /// Stop after this time; later runs reach the rest
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<u64>::new().range(1..))]
    pub(crate) max_seconds: Option<u64>,

    /// Stop after this many deleted files; the next run continues
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<u64>::new().range(1..))]
    pub(crate) max_files: Option<u64>,

    /// Delete sessions that were unused for this time (30m, 2h, 1d), whatever their records say: also those with a longer
    /// timeout of their own, as of a remembered login
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) idle: Option<Duration>,

    /// Run this program for each expired session before it is deleted, with the session's values on stdin
    #[arg(long, value_name = "PROGRAM", conflicts_with = "idle")]
    pub(crate) each: Option<PathBuf>,

    /// Delete a session all the same when PROGRAM has failed for it in this many clean-ups
    #[arg(long, value_name = "N", requires = "each", default_value_t = 3,
        value_parser = RangedU64ValueParser::<u64>::new().range(1..))]
    pub(crate) each_tries: u64,

    /// End PROGRAM when it runs longer, which is a failure
    #[arg(long, value_name = "TIME", requires = "each", default_value = "30s", value_parser = time)]
    pub(crate) each_timeout: Duration,

    /// Exit with 75 when another clean-up is running, instead of 0
    #[arg(long)]
    pub(crate) fail_if_running: bool,
}
