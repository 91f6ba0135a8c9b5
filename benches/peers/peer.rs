//! [`Peer`]: the systems that are compared.

/// One of the systems.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Peer {
    Ours,
    /// The floor: C, a lock, and the number written in place.
    C,
    Php,
    Perl,
    CherryPy,
    Django,
    Gorilla,
    Tower,
    /// The floor without its lock.
    Unlocked,
    /// The floor, truncating the file before it writes.
    Torn,
}

impl Peer {
    /// All but the broken ones, which serve as negative controls.
    pub(crate) const ALL: [Peer; 8] = [
        Peer::Ours,
        Peer::C,
        Peer::Php,
        Peer::Perl,
        Peer::CherryPy,
        Peer::Django,
        Peer::Gorilla,
        Peer::Tower,
    ];

    /// What it is called in `PEERS_ONLY` and in the names of files, and what in a table.
    fn names(self) -> [&'static str; 2] {
        match self {
            Peer::Ours => ["ours", "cgi-session"],
            Peer::C => ["c", "C, in place"],
            Peer::Php => ["php", "PHP, files handler"],
            Peer::Perl => ["perl", "Perl, CGI::Session"],
            Peer::CherryPy => ["cherrypy", "CherryPy, file sessions"],
            Peer::Django => ["django", "Django, file sessions"],
            Peer::Gorilla => ["gorilla", "Go, gorilla/sessions"],
            Peer::Tower => ["tower", "Rust, tower-sessions"],
            Peer::Unlocked => ["unlocked", "control: C without its lock"],
            Peer::Torn => ["torn", "control: C, truncating first"],
        }
    }

    pub(crate) fn key(self) -> &'static str {
        self.names()[0]
    }

    pub(crate) fn name(self) -> &'static str {
        self.names()[1]
    }

    /// Whether its server is asked by HTTP; by FastCGI if not.
    pub(crate) fn speaks_http(self) -> bool {
        matches!(self, Peer::CherryPy | Peer::Django | Peer::Tower)
    }

    /// Whether it serves more connections than it has workers. libfcgi, FCGI.pm and php-fpm hold a worker for
    /// each connection that nginx keeps, gunicorn's workers close each one.
    pub(crate) fn keeps_connections(self) -> bool {
        matches!(self, Peer::Ours | Peer::Gorilla | Peer::Tower)
    }
}
