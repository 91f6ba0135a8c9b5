//! [`Apache`]: peers as CGI programs, run by `mod_cgid`.

use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;
use testkit::apache::web_user;
use testkit::outside::give;

use crate::debian;
use crate::measured::Outcome;
use crate::nginx;
use crate::peer::Peer;
use crate::process::{self, Process};
use crate::visitor;
use crate::workshop::Installed;

const MODULES: &str = "/usr/lib/apache2/modules";

pub(crate) struct Apache {
    pub(crate) port: u16,
    _server: Process,
    // Fields are dropped in this order: nobody writes here any more.
    _place: TempDir,
}

impl Apache {
    pub(crate) fn start(installed: &[&Installed]) -> Outcome<Self> {
        debian::need(&[("apache2", "apache2")])?;
        let place = nginx::directory()?;
        let port = testkit::outside::free_port();
        for peer in installed {
            let sessions = place.path().join(peer.peer.key());
            fs::create_dir(&sessions)?;
            give(&sessions, web_user());
        }
        let file = place.path().join("httpd.conf");
        fs::write(&file, configuration(installed, port, place.path()))?;
        let mut command = Command::new(debian::find("apache2").ok_or("apache2 not installed")?);
        command.arg("-d").arg(place.path());
        command.args(["-f", "httpd.conf", "-D", "FOREGROUND"]);
        let mut server = Process::start(&mut command, place.path(), "error")?;
        // The daemon that starts programs is ready a little later than the port.
        let first = installed.first().ok_or("no CGI program")?.peer;
        process::wait_for("Apache", &mut server, || {
            let page = visitor::visit(port, "GET", &path(first), None);
            page.is_ok_and(|page| page.status != 503)
        })?;
        Ok(Apache {
            port,
            _server: server,
            _place: place,
        })
    }
}

pub(crate) fn path(peer: Peer) -> String {
    format!("/{}", peer.key())
}

fn configuration(installed: &[&Installed], port: u16, place: &Path) -> String {
    let modules = ["mpm_event", "cgid", "authz_core", "alias", "env"]
        .map(|module| format!("LoadModule {module}_module {MODULES}/mod_{module}.so\n"))
        .concat();
    let user = web_user().map_or("", |_| "User www-data\nGroup www-data\n");
    let programs: String = installed.iter().map(|peer| program(peer, place)).collect();
    format!(
        "{modules}{user}ScriptSock cgisock\nThreadsPerChild 16\nMaxRequestWorkers 32\n\
         ServerName localhost\nListen 127.0.0.1:{port}\nDefaultRuntimeDir {0}\n\
         PidFile httpd.pid\nErrorLog error.log\nKeepAlive On\nMaxKeepAliveRequests 0\n{programs}",
        place.display()
    )
}

fn program(installed: &Installed, place: &Path) -> String {
    let Some(cgi) = &installed.cgi else {
        return String::new();
    };
    let path = path(installed.peer);
    let sessions = place.join(installed.peer.key());
    format!(
        "ScriptAlias {path} {}\n<Location {path}>\nOptions ExecCGI\nRequire all granted\n\
         SetEnv CGI_SESSION_STORAGE_FILE_DIR {1}\nSetEnv SESSION_DIRECTORY {1}\n\
         SetEnv REDIRECT_STATUS 200\n</Location>\n",
        cgi.display(),
        sessions.display()
    )
}
