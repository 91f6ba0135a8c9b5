//! Several applications in one session, and names that only a module reaches.

use super::Session;
use crate::error::Result;
use crate::record::{Reservation, Values};

impl Session {
    /// The values of another application in this session (lemon.session's `app`); an empty set when
    /// it has none. Of the application that `app` names in the configuration they are the
    /// session's own.
    ///
    /// ```
    /// # use cgi_session::{Config, SessionManager};
    /// # let manager = SessionManager::new(Config::new().set("storageType", "ram")?)?;
    /// let mut session = manager.start(b"")?;
    /// session.insert("name", "the page's")?;
    /// session.application("shop")?.insert("name", "the shop's")?;
    /// assert_eq!(session.require::<String>("name")?, "the page's");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Reserved`](crate::Error::Reserved) when a module has reserved the name; [`Error::Key`](crate::Error::Key) for a name longer than
    /// 255 bytes, with control characters, or with `@` at its beginning.
    pub fn application(&mut self, name: &str) -> Result<&mut Values> {
        self.contents.namespaces.namespace(name)
    }

    /// The names of the applications that have values here, without reserved ones.
    pub fn applications(&self) -> impl Iterator<Item = &str> {
        self.contents.namespaces.names()
    }

    /// Reserves a name for a module, such as one that keeps who is logged in: what is stored under
    /// it ([`Session::reserved`]) no [`Session::application`] can reach, neither in this request nor
    /// in a later one, until the module gives the name up.
    ///
    /// lemon.session's `reserve(name)`. A module does this in each request before any other code can.
    ///
    /// # Errors
    ///
    /// [`Error::Reserved`](crate::Error::Reserved) when the name is reserved in this request already or is the
    /// application's own; [`Error::Key`](crate::Error::Key) as for [`Session::application`].
    pub fn reserve(&mut self, name: &str) -> Result<Reservation> {
        self.contents.namespaces.reserve(name)
    }

    /// The values under a reserved name.
    pub fn reserved(&mut self, reservation: &Reservation) -> &mut Values {
        self.contents.namespaces.reserved(reservation)
    }

    /// Gives a reserved name up, with what is stored under it: lemon.session's `release(name)`. Any
    /// application may then use the name.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a name that was given up can no longer be used"
    )]
    pub fn unreserve(&mut self, reservation: Reservation) {
        self.contents.namespaces.unreserve(&reservation);
    }
}
