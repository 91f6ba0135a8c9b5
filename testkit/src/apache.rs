//! Apache with the shipped sites: FastCGI by two modules, and CGI by threads and by processes.

use crate::prelude::*;
use http::StatusCode;

use crate::client::Client;
use crate::outside::user_of_root;
use crate::server::{Server, has_file, shipped};

pub(crate) const MODULES: &str = "/usr/lib/apache2/modules";
/// Settings for a cache as [`nginx::cache`](crate::nginx::cache) has them.
pub const CACHE: &str = "\
    LoadModule cache_module /usr/lib/apache2/modules/mod_cache.so\n\
    LoadModule cache_disk_module /usr/lib/apache2/modules/mod_cache_disk.so\n\
    CacheRoot ${CGI_SESSION_PAGES}/../run\nCacheEnable disk /\nCacheHeader on\n";
const OF_BOTH: [&str; 4] = ["authz_core", "alias", "dir", "mime"];

/// Starts Apache with threads, if it is installed with `mod_fcgid`; its first port is the FastCGI
/// site's, the second the CGI site's. `settings` are Apache's own, for both.
pub fn start(site: &Site, settings: &str) -> Option<Server> {
    if !is_installed("apache2") || !has_file(&format!("{MODULES}/mod_fcgid.so")) {
        return None;
    }
    let server = Server::start("apache", site, 2, |ports, directory| {
        let place = site.path().display();
        let modules = ["mpm_event", "cgid", "fcgid", "proxy", "proxy_fcgi"];
        let [fastcgi, cgi] = [
            ("apache-fastcgi.conf", ports[0]),
            ("apache-cgi.conf", ports[1]),
        ]
        .map(|(file, port)| site_on(directory, file, port));
        let own = format!(
            "StartServers 2\nThreadsPerChild 16\nMaxRequestWorkers 64\nScriptSock cgisock\n\
             FcgidIPCDir {place}/apache/fcgid\nFcgidProcessTableFile {place}/apache/fcgid_shm\n\
             Define CGI_SESSION_SOCKET {place}/run/app.sock\n\
             Define CGI_SESSION_FASTCGI_PROGRAMS {place}/cgi-bin\n{fastcgi}{cgi}{settings}"
        );
        command(site, directory, &modules, &own)
    });
    wait_until("Apache's CGI daemon runs programs", || {
        runs_programs(server.ports[1])
    });
    Some(server)
}

/// Starts Apache with processes that run CGI programs themselves, if it is installed; its port is that
/// of the CGI site.
pub fn start_prefork(site: &Site) -> Option<Server> {
    if !is_installed("apache2") {
        return None;
    }
    Some(Server::start("prefork", site, 1, |ports, directory| {
        let cgi = site_on(directory, "apache-cgi.conf", ports[0]);
        let own = format!("StartServers 16\nMaxSpareServers 32\nMaxRequestWorkers 32\n{cgi}");
        command(site, directory, &["mpm_prefork", "cgi"], &own)
    }))
}

/// The user whom a server that root started becomes.
pub fn web_user() -> Option<(u32, u32)> {
    user_of_root(&["www-data"])
}

/// A shipped site, as a part of the configuration that has it on this port.
fn site_on(directory: &Path, file: &str, port: u16) -> String {
    fs::write(directory.join(file), shipped(file, &[])).unwrap();
    format!("Listen 127.0.0.1:{port}\nDefine CGI_SESSION_PORT {port}\nInclude {file}\n")
}

/// Writes what Debian's own configuration would say, as far as the sites need it, and the rest.
pub(crate) fn command(site: &Site, directory: &Path, modules: &[&str], rest: &str) -> Command {
    let loaded = |module: &&str| format!("LoadModule {module}_module {MODULES}/mod_{module}.so\n");
    let modules: String = OF_BOTH.iter().chain(modules).map(loaded).collect();
    let user = if is_root() {
        "User www-data\nGroup www-data\n"
    } else {
        ""
    };
    let (place, own) = (site.path(), directory.display());
    let text = format!(
        "{modules}{user}ServerName localhost\nDefaultRuntimeDir {own}\nPidFile pid\n\
         ErrorLog error.log\nTypesConfig /dev/null\n\
         Define CGI_SESSION_PAGES {0}/pages\nDefine CGI_SESSION_PROGRAMS {0}/cgi-bin\n{rest}",
        place.display()
    );
    fs::write(directory.join("httpd.conf"), text).unwrap();
    let path = env::var_os("PATH").unwrap_or_default();
    let path = env::join_paths([site.tools()].into_iter().chain(env::split_paths(&path)));
    let mut command = Command::new("/usr/sbin/apache2");
    command.arg("-d").arg(directory).env("PATH", path.unwrap());
    command.args(["-f", "httpd.conf", "-D", "FOREGROUND"]);
    command
}

/// Whether a program is run. Apache accepts connections before its CGI daemon's socket belongs to
/// the user whom the workers become, and answers 503 until then.
fn runs_programs(port: u16) -> bool {
    let request = b"GET /cgi-bin/app/lookup HTTP/1.1\r\n";
    let answer = Client::new(port).try_request(request, b"");
    answer.is_ok_and(|answer| answer.status != StatusCode::SERVICE_UNAVAILABLE)
}
