//! [`Names`]: what the keys of a store are called.

use cgi_session::SessionDigest;

/// The names of the keys of one store. In a cluster the part in braces says which node has a key.
pub(super) struct Names {
    table: String,
}

/// What a key is for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Record(SessionDigest),
    Other,
    Foreign,
}

impl Names {
    pub(super) fn new(table: &str) -> Self {
        Names {
            table: table.to_owned(),
        }
    }

    pub(super) fn record(&self, session: &SessionDigest) -> String {
        format!("{}:{{{session}}}", self.table)
    }

    pub(super) fn user(&self, user: &str) -> String {
        format!("{}:user:{user}", self.table)
    }

    /// Where the lock of a user is.
    pub(super) fn lock(&self, user: &str) -> String {
        format!("{}:lock:{user}", self.table)
    }

    pub(super) fn sweep(&self) -> String {
        format!("{}:sweep", self.table)
    }

    /// Matches every record, and little else. A table's name holds nothing that means something here.
    pub(super) fn all_records(&self) -> String {
        format!("{}:{{*}}", self.table)
    }

    pub(super) fn all_users(&self) -> String {
        format!("{}:user:*", self.table)
    }

    /// Matches every key that begins as ours do.
    pub(super) fn all(&self) -> String {
        format!("{}:*", self.table)
    }

    /// Which session's record this is.
    pub(super) fn session(&self, key: &str) -> Option<SessionDigest> {
        let name = key.strip_prefix(&self.table)?.strip_prefix(":{")?;
        SessionDigest::parse(name.strip_suffix('}')?.as_bytes())
    }

    pub(super) fn kind(&self, key: &str) -> Kind {
        if let Some(session) = self.session(key) {
            return Kind::Record(session);
        }
        let is_of_user = [self.user(""), self.lock("")];
        let is_of_user = is_of_user.iter().any(|begin| key.starts_with(begin));
        if is_of_user || key == self.sweep() {
            Kind::Other
        } else {
            Kind::Foreign
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_keys_are_told_from_those_of_others() {
        let names = Names::new("Session");
        let session = SessionDigest::parse(&[b'a'; 64]).unwrap();
        assert_eq!(names.kind(&names.record(&session)), Kind::Record(session));
        for own in [names.user("a:b"), names.lock("a:b"), names.sweep()] {
            assert_eq!(names.kind(&own), Kind::Other, "{own}");
        }
        for other in [
            "Session:x",
            "Session:{a}",
            "Session:{a}:lock",
            "Sessions:user:a",
            "Session:users",
            "Session:locks",
            "",
        ] {
            assert_eq!(names.kind(other), Kind::Foreign, "{other}");
        }
    }
}
