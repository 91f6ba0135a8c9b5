//! nginx, with both shipped sites.

use crate::prelude::*;

use crate::copy;
use crate::server::{Server, shipped};

/// Starts nginx, if it is installed; its first port is the FastCGI site's, the second the CGI site's.
/// `settings` are nginx's own, for all sites.
pub fn start(site: &Site, settings: &str) -> Option<Server> {
    if !is_installed("nginx") {
        return None;
    }
    Some(Server::start("nginx", site, 2, |ports, directory| {
        let place = site.path().to_str().unwrap();
        let listen = |port| format!("listen 127.0.0.1:{port};");
        let socket = format!("{place}/run/app.sock");
        let pages = format!("{place}/pages");
        let fastcgi = [
            ("listen 8081;", &*listen(ports[0])),
            ("/run/cgi-session/app.sock", &socket),
            ("/var/www/cgi-session", &pages),
        ];
        let fcgiwrap = format!("{place}/run/fcgiwrap.sock");
        let script = format!("{place}$fastcgi_script_name");
        let cgi = [
            ("listen 8081;", &*listen(ports[1])),
            ("/run/fcgiwrap.socket", &fcgiwrap),
            ("/usr/lib$fastcgi_script_name", &script),
            ("/var/www/cgi-session", &pages),
        ];
        let write = |name: &str, text: String| fs::write(directory.join(name), text).unwrap();
        write("fastcgi.site", shipped("nginx-fastcgi.conf", &fastcgi));
        write("cgi.site", shipped("nginx-cgi.conf", &cgi));
        write("nginx.conf", configuration(settings));
        // Where Debian has them beside nginx.conf.
        for file in ["fastcgi_params", "mime.types"] {
            copy(&Path::new("/etc/nginx").join(file), directory);
        }
        let mut command = Command::new("nginx");
        command.arg("-p").arg(directory).args(["-c", "nginx.conf"]);
        command.args(["-e", "error.log"]);
        command
    }))
}

/// Settings for a cache that keeps what it may and asks again as soon as it must; `X-Cache` tells what it did.
pub fn cache() -> String {
    // The key is the one that the shipped file advises.
    let shipped = shipped("nginx-fastcgi.conf", &[]);
    let lines = shipped.lines();
    let mut lines = lines.map(|line| line.trim_start_matches([' ', '#']));
    let key = lines.find(|line| line.starts_with("fastcgi_cache_key "));
    format!(
        "fastcgi_cache_path cache keys_zone=pages:1m;\nfastcgi_cache pages;\n\
         fastcgi_cache_revalidate on;\nadd_header X-Cache $upstream_cache_status;\n{}\n",
        key.unwrap()
    )
}

/// What Debian's own configuration would say, as far as the sites need it.
pub(crate) fn configuration(settings: &str) -> String {
    let user = if is_root() { "user www-data;\n" } else { "" };
    format!(
        "{user}daemon off;\npid pid;\nworker_processes 2;\n\
         events {{ worker_connections 512; }}\n\
         http {{\n\
         include mime.types;\naccess_log off;\n\
         client_body_temp_path body;\nfastcgi_temp_path fastcgi;\nproxy_temp_path proxy;\n\
         scgi_temp_path scgi;\nuwsgi_temp_path uwsgi;\n\
         {settings}\n\
         include *.site;\n}}\n"
    )
}
