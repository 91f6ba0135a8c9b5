//! [`Config`]: the `[session]` section, key by key, and where each value came from.

mod check;
mod choice;
mod database;
mod ini;
mod networks;
pub(crate) mod secret;
pub(crate) mod secret_file;
mod settings;
mod source;
mod value;

pub use settings::{Config, Origin};
pub use value::MAX_KEY_LENGTH;

pub(crate) use choice::{
    CacheLimiter, ClearSiteData, Durability, FreeSpace, IdFrom, ProxyHeader, Secure, StorageType,
    WhenFull,
};
pub(crate) use networks::Networks;
pub(crate) use settings::{BODY_BUFFER, BODY_TIMEOUT, MAX_FORM_FIELDS, MIN_RATE};
pub(crate) use source::is_setting;
pub(crate) use value::{MAX_TIME, RESERVED, invalid_name_reason};
