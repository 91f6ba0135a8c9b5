//! [`CustomFunctions`]: what a program brings to keep its sessions by.

use std::error::Error as StdError;

/// What a function of a custom store returns: its own error ends the request with 500, and nothing
/// that was stored is lost.
pub type CustomResult<T> = std::result::Result<T, Box<dyn StdError + Send + Sync>>;

/// The functions that keep sessions, as in CherryPy: save, load, clean up.
///
/// A function moves one row and needs to know no more: [`CustomStore`](crate::CustomStore) sees to the locks, and to
/// times and sizes. It never runs for one session in two places of one machine at once, except for `load`.
///
/// | column | holds | fits into |
/// |---|---|---|
/// | key | 40 digits `0-9a-f`, which do not lead back to the session's id | `varchar(50)`, primary key |
/// | data | one JSON text of up to `maxRecordBytes` and 64 | `text`, where that is large enough |
/// | expires | seconds since 1970, rounded up | `int unsigned` until 2106 |
///
/// ```
/// use std::collections::HashMap;
/// use std::sync::Mutex;
/// use cgi_session::{Config, CustomFunctions, CustomResult, CustomStore, SessionManager};
///
/// #[derive(Default)]
/// struct Rows(Mutex<HashMap<String, (String, u64)>>);
///
/// impl CustomFunctions for Rows {
///     fn save(&self, key: &str, data: &str, expires: u64) -> CustomResult<()> {
///         let mut rows = self.0.lock().map_err(|error| error.to_string())?;
///         rows.insert(key.to_owned(), (data.to_owned(), expires));
///         Ok(())
///     }
///
///     fn load(&self, key: &str) -> CustomResult<Option<(String, u64)>> {
///         let rows = self.0.lock().map_err(|error| error.to_string())?;
///         Ok(rows.get(key).cloned())
///     }
///
///     fn clean_up(&self, now: u64) -> CustomResult<u64> {
///         let mut rows = self.0.lock().map_err(|error| error.to_string())?;
///         let before = rows.len();
///         rows.retain(|_, (_, expires)| *expires >= now);
///         Ok(u64::try_from(before - rows.len())?)
///     }
/// }
///
/// # let directory = tempfile::tempdir()?;
/// let config = Config::new().set("storageType", "custom")?.set("storageFileDir", directory.path())?;
/// let store = CustomStore::new(&config, Rows::default())?;
/// let manager = SessionManager::with_store(config, store)?;
/// let mut session = manager.start(b"")?;
/// session.insert("counter", 1)?;
/// assert!(session.commit()?.is_some());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait CustomFunctions: Send + Sync {
    /// Puts a row in place, whether or not there is one of this key: in one atomic step.
    ///
    /// # Errors
    ///
    /// When it is not stored; the row before must then be untouched.
    fn save(&self, key: &str, data: &str, expires: u64) -> CustomResult<()>;

    /// The data and expiry of a row, as they were saved; `None` when there is no row. Expired ones
    /// may be returned: the library compares the time.
    ///
    /// # Errors
    ///
    /// When the row cannot be read. That there is none is no error.
    fn load(&self, key: &str) -> CustomResult<Option<(String, u64)>>;

    /// Deletes the rows whose `expires` is less than `now`, and returns how many; 0 if that is not
    /// known.
    ///
    /// # Errors
    ///
    /// When the rows cannot be deleted.
    fn clean_up(&self, now: u64) -> CustomResult<u64>;

    /// Puts a row in place only if that of this key is still the one that was loaded, in one atomic step, and
    /// tells whether it was. Rows that programs on several machines share need this; by default it is not there
    /// (`None`), and [`CustomFunctions::save`] is called.
    ///
    /// `version` stands for the new data (a number of 63 bits, which the library makes of it, and of the random white
    /// space in it that no two saves share) and is kept in a column of its own; `before` is that of the data that was
    /// loaded, `None` where there must be no row. In SQL:
    ///
    /// ```sql
    /// update session set data = ?, expires = ?, version = ?version where id = ?key and version = ?before
    /// -- without before; that the key is there already is no error, but `Some(false)`
    /// insert into session (id, data, expires, version) values (?, ?, ?, ?)
    /// ```
    ///
    /// Where it is `Some(false)` the request is answered 503 ([`Error::LeaseLost`](crate::Error::LeaseLost)), and nothing
    /// that another program has saved is lost. Every change comes this way then, that a session ends too:
    /// `save` is not called, and `delete` only where the whole store is removed.
    ///
    /// # Errors
    ///
    /// When it is not stored; the row before must then be untouched.
    fn save_if(
        &self,
        key: &str,
        before: Option<u64>,
        data: &str,
        expires: u64,
        version: u64,
    ) -> CustomResult<Option<bool>> {
        let _ = (key, before, data, expires, version);
        Ok(None)
    }

    /// Deletes a row; one that is gone already is no error. By default a record that has expired is
    /// saved in its place, for the clean-up to delete.
    ///
    /// # Errors
    ///
    /// When the row is still there.
    fn delete(&self, key: &str) -> CustomResult<()> {
        self.save(key, EMPTY, 0)
    }

    /// The keys of all rows, for a store that can be listed. By default it cannot.
    ///
    /// # Errors
    ///
    /// When the rows cannot be listed.
    fn keys(&self) -> CustomResult<Option<Vec<String>>> {
        Ok(None)
    }
}

/// A record without values, of 1970.
pub(super) const EMPTY: &str = r#"{"v":1,"created":0,"values":{}}"#;
