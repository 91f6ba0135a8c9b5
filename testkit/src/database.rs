//! A database server of a test's own, whichever it is.

pub trait DatabaseServer {
    /// The kind of the stores in it.
    fn kind(&self) -> &'static str;

    /// The database, as a configuration names it.
    fn url(&self) -> String;

    /// Starts the server again in the same place.
    fn run(&mut self);

    /// Ends the server as its administrator would.
    fn stop(&mut self);

    /// Ends the server as if the machine had stopped.
    fn kill(&mut self);

    /// Stops every step of the server, until it is resumed.
    fn freeze(&self);

    fn resume(&self);
}
