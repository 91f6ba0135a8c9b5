//! Apache with both shipped sites: FastCGI by two modules, and CGI.

use std::fs;
use std::process::Command;

use crate::server::{Server, has_file, shipped};
use crate::site::Site;
use crate::{is_installed, is_root};

const MODULES: &str = "/usr/lib/apache2/modules";

/// Starts Apache, if it is installed with `mod_fcgid`; its first port is the FastCGI site's, the
/// second the CGI site's. `settings` are Apache's own, for both.
pub fn start(site: &Site, settings: &str) -> Option<Server> {
    if !is_installed("apache2") || !has_file(&format!("{MODULES}/mod_fcgid.so")) {
        return None;
    }
    Some(Server::start("apache", site, 2, |ports, directory| {
        for file in ["apache-fastcgi.conf", "apache-cgi.conf"] {
            fs::write(directory.join(file), shipped(file, &[])).unwrap();
        }
        fs::write(
            directory.join("httpd.conf"),
            configuration(ports, site) + settings,
        )
        .unwrap();
        let mut command = Command::new("/usr/sbin/apache2");
        command.arg("-d").arg(directory);
        command.args(["-f", "httpd.conf", "-D", "FOREGROUND"]);
        command
    }))
}

/// What Debian's own configuration would say, as far as the sites need it.
fn configuration(ports: &[u16], site: &Site) -> String {
    let loaded = |module: &&str| format!("LoadModule {module}_module {MODULES}/mod_{module}.so\n");
    let modules = [
        "mpm_event",
        "authz_core",
        "alias",
        "dir",
        "mime",
        "cgid",
        "fcgid",
        "proxy",
        "proxy_fcgi",
    ];
    let modules: String = modules.iter().map(loaded).collect();
    let user = if is_root() {
        "User www-data\nGroup www-data\n"
    } else {
        ""
    };
    let (place, fastcgi, cgi) = (site.path().display(), ports[0], ports[1]);
    format!(
        "{modules}{user}\
         StartServers 2\nThreadsPerChild 16\nMaxRequestWorkers 64\n\
         ServerName localhost\nListen 127.0.0.1:{fastcgi}\nListen 127.0.0.1:{cgi}\n\
         DefaultRuntimeDir {place}/apache\nPidFile pid\nErrorLog error.log\nTypesConfig /dev/null\n\
         ScriptSock cgisock\nFcgidIPCDir {place}/apache/fcgid\n\
         FcgidProcessTableFile {place}/apache/fcgid_shm\n\
         Define CGI_SESSION_PAGES {place}/pages\n\
         Define CGI_SESSION_SOCKET {place}/run/app.sock\n\
         Define CGI_SESSION_FASTCGI_PROGRAMS {place}/cgi-bin\n\
         Define CGI_SESSION_PROGRAMS {place}/cgi-bin\n\
         Define CGI_SESSION_PORT {fastcgi}\nInclude apache-fastcgi.conf\n\
         Define CGI_SESSION_PORT {cgi}\nInclude apache-cgi.conf\n"
    )
}
