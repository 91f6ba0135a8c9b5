//! `cgi-session`: the administrator's tool and the try-out server.

fn main() {}
