//! [`ErrorPage`]: the page for a request that failed.

use std::ffi::{OsStr, OsString};
use std::panic::{self, AssertUnwindSafe};

use http::header::{CACHE_CONTROL, CONTENT_LENGTH, RETRY_AFTER, SET_COOKIE};
use http::{HeaderName, HeaderValue, StatusCode};

use crate::http::params::Params;
use crate::http::response::Response;

/// A page of the program's own, by [`Program::error_page`](crate::Program::error_page).
pub(crate) type Page = dyn Fn(&ErrorPage<'_>) -> Response + Send + Sync;

/// The error that a page of [`Program::error_page`](crate::Program::error_page) is made for.
pub struct ErrorPage<'a> {
    status: StatusCode,
    text: &'static str,
    params: Option<&'a Params>,
}

impl ErrorPage<'_> {
    /// The status of the response.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The sentence of the library's own page, in English: one of a few, by which a translation can be found.
    #[must_use]
    pub fn text(&self) -> &'static str {
        self.text
    }

    /// A header field of the request, such as `accept-language`; `None` also where the request could not be read.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<OsString> {
        self.params?.field(name)
    }

    /// A variable of the gateway, as [`Request::param`](crate::Request::param).
    #[must_use]
    pub fn param(&self, name: &str) -> Option<&OsStr> {
        self.params?.get(name)
    }
}

/// Why a request is answered by a page of the library's.
#[derive(Clone, Copy)]
pub(crate) enum Reason {
    /// 503 is sent with `Retry-After`.
    Status(StatusCode),
    /// Its session has another id by now, which the client has or is about to get.
    Replaced { is_get: bool },
}

impl Reason {
    pub(crate) const BUSY: Self = Reason::Status(StatusCode::SERVICE_UNAVAILABLE);

    /// The page of the program's own, if it has one and that does not fail; else the library's.
    #[cold]
    pub(crate) fn page(self, own: Option<&Page>, params: Option<&Params>) -> Response {
        let (status, text) = self.words();
        let page = self.built_in();
        let Some(own) = own else { return page };
        let told = ErrorPage {
            status,
            text,
            params,
        };
        // The panic hook says why.
        let own = panic::catch_unwind(AssertUnwindSafe(|| own(&told)));
        let Ok(Some(mut own)) = own.map(Response::in_memory) else {
            return page;
        };
        let headers = own.headers_mut();
        for name in [CONTENT_LENGTH, SET_COOKIE] {
            headers.remove(name);
        }
        for (name, value) in page.headers() {
            if !headers.contains_key(name) {
                headers.insert(name.clone(), value.clone());
            }
        }
        own.with_status(status)
    }

    /// The library's own page, complete, which tells nothing about the inside.
    fn built_in(self) -> Response {
        let (status, text) = self.words();
        let page = Response::html(format!(
            "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{status}</title>\
             <h1>{status}</h1><p>{text}</p></html>\n"
        ));
        let page = page
            .with_status(status)
            .with_header(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        let after = |seconds| HeaderValue::from_static(seconds);
        match self {
            Reason::Status(StatusCode::SERVICE_UNAVAILABLE) => {
                page.with_header(RETRY_AFTER, after("5"))
            }
            Reason::Status(_) => page,
            Reason::Replaced { is_get } => {
                let page = page.with_header(RETRY_AFTER, after("1"));
                if is_get {
                    page.with_header(HeaderName::from_static("refresh"), after("1"))
                } else {
                    page
                }
            }
        }
    }

    fn words(self) -> (StatusCode, &'static str) {
        match self {
            Reason::Replaced { .. } => (
                StatusCode::SERVICE_UNAVAILABLE,
                "Your session was changed by another request meanwhile. Please reload the page.",
            ),
            Reason::Status(status) => (status, text_of(status)),
        }
    }
}

fn text_of(status: StatusCode) -> &'static str {
    match status {
        StatusCode::SERVICE_UNAVAILABLE => {
            "The server is busy, or cannot reach your session at the moment. Please try again."
        }
        StatusCode::FORBIDDEN => {
            "The form has expired, or was sent from another site. Please go back, reload the page and send it again."
        }
        StatusCode::CONFLICT => {
            "You are logged in as often as is allowed. Please log out in another browser first."
        }
        _ if status.is_client_error() => "The server cannot use this request.",
        _ => "The server could not answer this request. Please try again later.",
    }
}
