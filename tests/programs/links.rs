//! A CGI program whose links and forms carry the session's id to clients that keep no cookie.

use std::process::ExitCode;

use cgi_session::{Request, Response, Result, SessionId};

fn main() -> ExitCode {
    cgi_session::run(links)
}

fn links(request: &mut Request) -> Result<Response> {
    let given = request.header("x-given-id");
    if let Some(id) = given.and_then(|id| SessionId::parse(id.as_encoded_bytes())) {
        request.use_session_id(id)?;
    }
    let mode = request.query("mode").unwrap_or_default();
    match mode.as_str() {
        "read" => {
            let snapshot = request.read_session()?;
            let views = snapshot.map(|snapshot| snapshot.get::<u64>("pageViews"));
            let views = views.transpose()?;
            return page(request, &format!("read {views:?}"));
        }
        "none" => return page(request, "untouched"),
        "empty" => {
            request.session()?;
            return page(request, "empty");
        }
        "destroy" | "commit and destroy" => {
            if mode != "destroy" {
                request.session()?;
                request.commit_session()?;
            }
            request.destroy_session()?;
            return page(request, "destroyed");
        }
        "new id" => request.session()?.regenerate_id(),
        "fields" => {
            let wanted: &[_] = match request.query("all") {
                Some(_) => &[],
                None => &["name", "colour"],
            };
            request.save_fields(wanted)?;
            request.load_fields(&[])?;
            let (name, colours) = (request.field("name")?, request.fields("colour")?);
            let keys: Vec<_> = request.session()?.keys().map(str::to_owned).collect();
            return page(request, &format!("{name:?} {colours:?} {keys:?}"));
        }
        "token" => {
            let field = request.session()?.csrf_field()?;
            return page(request, &field);
        }
        // The id alone on the first line, then the link to whatever address.
        "link" => {
            request.session()?.insert("pageViews", 1)?;
            let address = request.query("address").unwrap_or_default();
            let (link, own) = (request.link(&address)?, request.link("?")?);
            let id = own.split('=').next_back().unwrap_or_default();
            return Ok(Response::text(format!("{id}\n{link}")));
        }
        "order" => request.check_csrf_token()?,
        _ => {}
    }
    let session = request.session()?;
    let views = session.get::<u64>("pageViews")?.unwrap_or(0) + 1;
    session.insert("pageViews", views)?;
    page(request, &format!("views {views}"))
}

fn page(request: &mut Request, text: &str) -> Result<Response> {
    let (link, field) = (request.link("next?a=1#end")?, request.id_field()?);
    let other = request.link("https://example.org/")?;
    Ok(Response::text(format!(
        "{text}\n{link}\n{field}\n{other}\n"
    )))
}
