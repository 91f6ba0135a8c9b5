//! Counts page views with tower-sessions in files, as an HTTP server on descriptor 0, and its clean-up.

#[path = "../../visitor.rs"]
mod visitor;

use std::env;
use std::error::Error;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixListener;

use axum::Router;
use axum::http::StatusCode;
use axum::response::Html;
use time::Duration;
use tower_sessions::{ExpiredDeletion as _, Expiry, Session, SessionManagerLayer};
use tower_sessions_file_based_store::FileStore;
use visitor::VISITOR;

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let store = FileStore::new(env::var("SESSION_DIRECTORY")?, "", ".json")?;
    // TOKIO_WORKER_THREADS says how many threads it has.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    if env::args().any(|argument| argument == "clean-up") {
        return Ok(runtime.block_on(store.delete_expired())?);
    }
    runtime.block_on(serve(store))
}

async fn serve(store: FileStore) -> Outcome<()> {
    let minutes = env::var("SESSION_MINUTES").map_or(Ok(60), |minutes| minutes.parse())?;
    let sessions = SessionManagerLayer::new(store)
        .with_secure(false) // The page is asked for by plain HTTP.
        .with_expiry(Expiry::OnInactivity(Duration::minutes(minutes)));
    let socket = UnixListener::from(io::stdin().as_fd().try_clone_to_owned()?);
    socket.set_nonblocking(true)?;
    let listener = tokio::net::UnixListener::from_std(socket)?;
    let pages = Router::new().fallback(count).layer(sessions);
    Ok(axum::serve(listener, pages).await?)
}

async fn count(session: Session) -> Result<Html<String>, (StatusCode, String)> {
    let views = view(&session)
        .await
        .map_err(|error| (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    Ok(Html(format!(
        "<!doctype html>\n<title>Counter</title>\n<p>Hello, you've been here {views} time(s)</p>\n"
    )))
}

async fn view(session: &Session) -> Result<u64, tower_sessions::session::Error> {
    let views = session.get::<u64>("pageViews").await?.unwrap_or(0) + 1;
    if views == 1 {
        for (key, value) in VISITOR {
            session.insert(key, value).await?;
        }
    }
    session.insert("pageViews", views).await?;
    Ok(views)
}
