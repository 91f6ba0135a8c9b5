//! Sessions in axum, by `SessionManager`: it takes the Cookie header, and returns the Set-Cookie header.
//!
//! The address to listen on is the first argument: `127.0.0.1:3000` without one.

use std::env;
use std::error::Error;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use cgi_session::SessionManager;
use tokio::net::TcpListener;
use tokio::task::spawn_blocking;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let address = env::args().nth(1);
    let listener = TcpListener::bind(address.as_deref().unwrap_or("127.0.0.1:3000")).await?;
    println!("http://{}/", listener.local_addr()?);
    let site = Router::new()
        .route("/", get(counter))
        .with_state(SessionManager::find()?);
    Ok(axum::serve(listener, site).await?)
}

async fn counter(State(manager): State<SessionManager>, headers: HeaderMap) -> Response {
    // A browser may send several by HTTP/2.
    let cookies = headers.get_all(header::COOKIE).iter();
    let cookies: Vec<_> = cookies.map(HeaderValue::as_bytes).collect();
    let cookies = cookies.join(&b"; "[..]);
    // A session may have to wait for its lock: that is for a thread that may block.
    let counted = spawn_blocking(move || {
        manager.update(cookies, |session| {
            let views = session.get::<u64>("pageViews")?.unwrap_or(0) + 1;
            session.insert("pageViews", views)?;
            Ok(views)
        })
    });
    // The response comes after the commit.
    match counted.await {
        Ok(Ok((views, set_cookie))) => {
            // Behind a proxy that speaks TLS: `over_https(true)`, for the cookie's `Secure`.
            let set_cookie = set_cookie.map(|cookie| cookie.over_https(false).to_string());
            let set_cookie = set_cookie.map(|cookie| [(header::SET_COOKIE, cookie)]);
            (set_cookie, format!("Hello, visit {views}\n")).into_response()
        }
        Ok(Err(error)) => {
            eprintln!("{}", error.one_line());
            error.status().into_response()
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(), // the closure panicked
    }
}
