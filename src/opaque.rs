//! `Debug` of public types whose insides are secret, or are closures and connections.

use std::fmt;

macro_rules! opaque {
    ($($name:ident $(<$life:lifetime>)?),+) => {$(
        impl fmt::Debug for crate::$name $(<$life>)? {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name)).finish_non_exhaustive()
            }
        }
    )+};
}

opaque!(
    BodyReader<'_>,
    Client,
    CustomStore,
    ErrorPage<'_>,
    MemoryStore,
    Request,
    RequestBuilder
);
opaque!(SessionManager, StreamWriter<'_>, Sweep<'_>);
#[cfg(feature = "cookie-store")]
opaque!(CookieStore);
#[cfg(feature = "multipart")]
opaque!(FilePart<'_>);
