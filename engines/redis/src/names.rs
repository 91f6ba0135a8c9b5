//! [`Names`]: what the keys of a store are called.

use cgi_session::SessionDigest;

/// The names of the keys of one store. In a cluster the part in braces says which node has a key.
pub(super) struct Names {
    table: String,
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

    /// Whether a key is ours, and no record.
    pub(super) fn is_beside_records(&self, key: &str) -> bool {
        let mut of_users = [self.user(""), self.lock("")].into_iter();
        key == self.sweep() || of_users.any(|begin| key.starts_with(&begin))
    }
}
