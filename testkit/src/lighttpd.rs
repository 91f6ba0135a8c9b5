//! lighttpd, with the shipped settings.

use crate::prelude::*;

use crate::server::{Server, shipped};

/// Starts lighttpd, if it is installed. `settings` are lighttpd's own; `SITE` is the site's directory.
pub fn start(site: &Site, settings: &str) -> Option<Server> {
    if !is_installed("lighttpd") {
        return None;
    }
    Some(Server::start("lighttpd", site, 1, |ports, directory| {
        let place = site.path().to_str().unwrap();
        let here = |path| format!("{place}/{path}");
        let replaced = [
            ("/run/cgi-session/app.sock", &*here("run/app.sock")),
            ("/run/lighttpd/cgi-session.sock", &here("run/lighttpd.sock")),
            ("/usr/lib/cgi-session/app", &here("cgi-bin/app")),
            ("\"/usr/lib/cgi-bin/\"", &format!("\"{place}/cgi-bin/\"")),
        ];
        let text = configuration(ports[0], site, settings);
        let text = text + &shipped("lighttpd.conf", &replaced);
        let file = directory.join("lighttpd.conf");
        fs::write(&file, text).unwrap();
        let mut command = Command::new("/usr/sbin/lighttpd");
        command.arg("-D").arg("-f").arg(file);
        command
    }))
}

/// What Debian's own configuration says, as far as the programs need it.
pub(crate) fn configuration(port: u16, site: &Site, settings: &str) -> String {
    let user = if is_root() {
        "server.username = \"www-data\"\nserver.groupname = \"www-data\"\n"
    } else {
        ""
    };
    let place = site.path().display();
    let settings = settings.replace("SITE", &place.to_string());
    format!(
        "server.modules = ( \"mod_indexfile\", \"mod_access\", \"mod_alias\", \"mod_redirect\" )\n\
         server.document-root = \"{place}/pages\"\nserver.upload-dirs = ( \"{place}/run\" )\n\
         server.pid-file = \"{place}/lighttpd/pid\"\n\
         server.bind = \"127.0.0.1\"\nserver.port = {port}\n{user}{settings}\n"
    )
}
