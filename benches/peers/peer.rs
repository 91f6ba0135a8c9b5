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

    /// What it is called in a table.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Peer::Ours => "cgi-session",
            Peer::C => "C, in place",
            Peer::Php => "PHP, files handler",
            Peer::Perl => "Perl, CGI::Session",
            Peer::CherryPy => "CherryPy, file sessions",
            Peer::Django => "Django, file sessions",
            Peer::Gorilla => "Go, gorilla/sessions",
            Peer::Tower => "Rust, tower-sessions",
            Peer::Unlocked => "control: C without its lock",
            Peer::Torn => "control: C, truncating first",
        }
    }

    /// What it is called in `PEERS_ONLY` and in the names of files.
    pub(crate) fn key(self) -> &'static str {
        match self {
            Peer::Ours => "ours",
            Peer::C => "c",
            Peer::Php => "php",
            Peer::Perl => "perl",
            Peer::CherryPy => "cherrypy",
            Peer::Django => "django",
            Peer::Gorilla => "gorilla",
            Peer::Tower => "tower",
            Peer::Unlocked => "unlocked",
            Peer::Torn => "torn",
        }
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
