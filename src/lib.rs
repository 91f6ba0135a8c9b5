//! Sessions for CGI and FastCGI programs: no update is lost, and nothing half-written is read.
//!
//! Each visitor's session is one JSON file under `storageFileDir`, protected by a file lock, so that any number of
//! short-lived processes behind Apache, nginx or lighttpd share it safely. The settings come from an INI file or the
//! environment ([`Config::find`]); only `storageFileDir` must be set.
//!
//! ```no_run
//! use std::process::ExitCode;
//! use cgi_session::{Request, Response, Result};
//!
//! fn main() -> ExitCode {
//!     cgi_session::run(counter)
//! }
//!
//! fn counter(request: &mut Request) -> Result<Response> {
//!     let session = request.session()?; // opened or new; held until the response is ready
//!     let views = session.get::<u64>("pageViews")?.unwrap_or(0) + 1;
//!     session.insert("pageViews", views)?;
//!     Ok(Response::html(format!("Hello, you've been here {views} time(s)")))
//! }
//! ```
//!
//! # The way of a request
//!
//! ```text
//! request -> cookies -> SessionId -> store (lock, load) -> Session -> store (commit, unlock) -> SetCookie -> response
//! ```
//!
//! [`run`] does all of this for a handler. [`Request::session`] opens the session for the rest of the
//! request, [`Request::read_session`] takes a snapshot without waiting, and
//! [`Request::update_session`] locks it only while a closure runs. Under any other transport
//! [`SessionManager`] needs no more than the Cookie header.
//!
//! [`Client`] sends requests to a handler in a test, without a server.
//!
//! # Stores
//!
//! [`FileStore`] is the default; `storageType` chooses another. [`MemoryStore`] is for one FastCGI
//! process, [`CustomStore`] for a store of the program's own behind three functions, `CookieStore` keeps a session,
//! encrypted, at its client.
//!
//! Others are crates, which a program adds in one line ([`Program::store`]): `cgi-session-sqlite` and, for several
//! machines, `cgi-session-redis` and `cgi-session-sql` (`PostgreSQL`, `MySQL`). All implement [`Store`] and
//! [`Lease`]; the module [`store`] has what one of your own needs.
//!
//! # The session's cookie
//!
//! It is decided when the response is built, by what the client sent and by the store at that moment:
//!
//! | the client's cookies show | the session is | the response |
//! |---|---|---|
//! | nothing, or ids that lead nowhere | new, or has a new id | sets the cookie |
//! | the session's id | live | leaves the cookie alone, but for a Max-Age that is to be renewed |
//! | any id | destroyed | removes the cookie |
//! | anything | ended by another request, or given another id by one | leaves the cookie alone |
//!
//! * Of several cookies of the session's name the first of eight well-formed ids that leads to a live session
//!   counts; [`Request::destroy_session`] ends all of them.
//! * A change of id leaves a marker without data under the old id for 60 s. A request with that alone reads no session,
//!   and is answered 503 and a page that reloads ([`Error::Replaced`]) where it asks for one to change. It gets no
//!   cookie, so that it cannot log out the visitor who has just logged in. A handler
//!   that has checked a password uses [`Request::fresh_session`] then.
//! * Max-Age (`cookieMaxAge`) is renewed at most once in a tenth of it, by a page that a browser shows as a document
//!   (`Sec-Fetch-Dest: document`, or GET from a browser that does not send it), also when that only reads.
//! * A browser keeps the cookie that arrives last: two responses that both set one may overtake each other.
//!
//! # Features
//!
//! | feature | adds | default |
//! |---|---|---|
//! | `fastcgi` | the FastCGI responder, on Linux; a program that is CGI alone starts faster without it | yes |
//! | `cookie-store` | `CookieStore` (`storageType = cookie`), with a cipher | no |
//! | `dlmalloc` | an allocator for programs built for musl, with which a CGI request takes a tenth less; no effect elsewhere | no |
//! | `multipart` | forms with files, `Request::next_file` | no |
//! | `store-contract` | `store_contract`, the suite of tests that every store has to pass, for tests of stores | no |
//!
//! # Guarantees
//!
//! * **No update is lost.** Requests of one session that may write run one after the other, across
//!   processes and threads of one machine.
//! * **Nothing half-written is read**, whenever a process is killed.
//! * **A response goes out only after its session is committed.** A commit that fails, on a full
//!   disk for instance, gives an error page and keeps the old session.
//! * **A handler that fails or panics saves nothing**, and the client gets a complete error page; for a stream
//!   ([`Response::stream`]) until its head is sent.
//! * **A destroyed session never comes back**, and clean-up never deletes one that is in use.
//! * **No request waits for ever**: after `lockTimeout` it is answered 503.
//! * **Nothing is stored, and no cookie sent, before the program puts something in.**
//! * **Ids are secrets**: 160 bits from the operating system, never logged, never on disk.
//!
//! Not guaranteed: network file systems; protection from other programs of the same user; exactly-once for a
//! request that was killed between its commit and its response; survival of a power failure unless
//! `durability = data`. While `whenFull = evictOldest` is set, a session can end early.
//! With `storageType = cookie` the first two do not hold, and a client can send an old state of its session.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod config;
mod cookies;
mod error;
mod gateway;
pub mod http;
mod id;
mod mutex;
mod opaque;
mod record;
mod session;
pub mod store;
#[cfg(feature = "store-contract")]
#[path = "../tests/contract/mod.rs"]
pub mod store_contract;

pub use self::http::body::BodyReader;
pub use self::http::request::Request;
pub use self::http::request::builder::RequestBuilder;
#[cfg(feature = "multipart")]
pub use self::http::request::multipart::FilePart;
pub use self::http::response::Response;
pub use self::http::stream::StreamWriter;
pub use config::{Config, MAX_KEY_LENGTH, Origin};
pub use cookies::SetCookie;
#[doc(hidden)]
pub use error::shell_word;
pub use error::{Error, Result, one_line, printable};
#[cfg(all(fuzzing, target_os = "linux", feature = "fastcgi"))]
pub use gateway::fuzzing;
pub use gateway::{Client, ErrorPage, Program, run};
#[doc(hidden)]
pub use gateway::{report_everything, start_by_c};
pub use id::{SessionDigest, SessionId};
pub use record::{Device, Record, RecordError, Reservation, Values};
pub use session::{Session, SessionManager, Snapshot, UserSession};
#[cfg(feature = "cookie-store")]
pub use store::CookieStore;
#[cfg(feature = "cookie-store")]
#[doc(hidden)]
pub use store::holds_keys;
#[doc(hidden)]
pub use store::is_dedicated;
pub use store::{
    CustomFunctions, CustomResult, CustomStore, EachExpired, Examination, FileStore, Lease,
    MemoryStore, Store, StoreKind, Stored, Sweep, SweepEvent, SweepReport, Uninstalled, Visitor,
};
