//! `cgi-session start`: a session for a program in any language.

pub(crate) mod child;
mod wrapper;

use std::ffi::OsString;
use std::path::Path;

use crate::report::{self, Ended};
use crate::sessions;
use crate::values_file::ValuesFile;

const EXAMPLES: &str = "\
Examples:
  # One command at a time, in a CGI program in sh
  set_cookie=$(cgi-session start) || exit
  [ -z \"$set_cookie\" ] || export HTTP_COOKIE=\"$set_cookie\"
  views=$(cgi-session set --add 1 pageViews)

  # A whole request: the first line of a CGI program
  #!/usr/bin/env -S cgi-session start sh
  #!/usr/bin/env -S cgi-session start python3
  #!/usr/bin/env -S cgi-session start --config /var/www/shop.ini python3

Without PROGRAM it opens or creates the session of HTTP_COOKIE, and prints the value of the
Set-Cookie header to send if one is due. The same text may be exported as HTTP_COOKIE, for the
commands that follow. Exit status: 0, 1 when the store fails or `allowCrossSiteStart` forbids a session, 75 when the session was held for
`lockTimeout`, 78 when the configuration cannot be used.

With PROGRAM it answers one CGI request by it, and no other request of the session runs meanwhile.
The values are handed over as a JSON object in the file that SESSION_VALUES names; PROGRAM
changes that file, or calls cgi-session get, set, unset and destroy, which then work on it. When
PROGRAM exits with 0 the values are stored, then its output is sent, with Set-Cookie and the cache
headers in place. Deleting the file ends the session; an empty array, as PHP writes it, is no values.
What a killed wrapper leaves of it is removed by the next one, if it is among the first 1000 entries of the
directory for temporary files, and by cgi-session-cleanup, which does not see into the /tmp that systemd gives a
server of its own (PrivateTmp). A cgi-session.ini beside a script that PROGRAM
runs is found by --config alone. When PROGRAM fails, is killed, prints no CGI
header block or more than 64 MiB, or leaves no JSON object, nothing is stored, and a complete page
with status 500 is sent; stderr has the reason. A value that cannot be stored, such as text that is
no valid Unicode, or a key that cannot, is named on a page with status 400, and nothing is stored
either. A page of PROGRAM's own with a status from 500 on
stores nothing either. A wrapper that gets SIGTERM or the like ends PROGRAM, stores and sends nothing.

A Set-Cookie of PROGRAM's own is sent, but none of the session's name: it is left out, with a line on stderr.

With --stream the values are stored when PROGRAM has printed its header block: set, unset and destroy fail from then on.
From then on other requests of the session run, and what PROGRAM writes is sent at once, without a limit. When
it fails later, or the wrapper gets SIGTERM, the response is cut off; when the client leaves, PROGRAM is ended, and for HEAD
when its header block has come.

Options come before PROGRAM: what follows it is PROGRAM's own.";

/// Open or create the session, alone or around a CGI program
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The application whose values are meant, in place of the configuration's `app`
    #[arg(long, value_name = "APP")]
    app: Option<String>,

    /// Pass PROGRAM's output on as it comes, once its header block is complete and the session is stored
    #[arg(long, requires = "program")]
    stream: bool,

    /// A CGI program in any language, and its arguments
    #[arg(
        value_name = "PROGRAM",
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    program: Vec<OsString>,
}

pub(crate) fn run(arguments: &Arguments, file: Option<&Path>) -> Result<(), Ended> {
    let app = arguments.app.as_deref();
    if let [program, own @ ..] = arguments.program.as_slice() {
        return wrapper::run(program, own, arguments.stream, app, file);
    }
    if ValuesFile::of_wrapper().is_some() {
        // The wrapper has the session, and sends its cookie.
        return Ok(());
    }
    let manager = sessions::manager_for_writing(file, app)?;
    let mut session = sessions::start(&manager)?;
    session.keep_empty();
    if let Some(cookie) = session.commit()? {
        let cookie = cookie.over_https(sessions::is_https(&manager));
        report::output(&format!("{cookie}\n"));
    }
    Ok(())
}
