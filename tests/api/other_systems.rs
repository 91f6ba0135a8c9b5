//! The faults of other session systems, class by class of the table in docs/internals/faults.md: a test whose name
//! begins with the letter of a class fails where this library has that fault. Other classes are
//! proved by tests that stand where their subject is.

mod answers;
mod files;
mod ids;
mod trace;
mod values;

use testkit::prelude::*;

/// Where a child process finds the directory that it works in.
const DIRECTORY: &str = "FAULTS_DIRECTORY";

/// The directory that this process works in, if it is a child of a test.
fn own_part() -> Option<PathBuf> {
    std::env::var_os(DIRECTORY).map(PathBuf::from)
}

fn manager(directory: &Path) -> SessionManager {
    let config = Config::new().set("storageFileDir", directory);
    SessionManager::new(config.unwrap()).unwrap()
}

/// Numbers that are the same in every run (xorshift).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 16).unwrap_or_default() % below
    }
}
