//! What a session can do beside keeping values: each with a small form of its own.
//!
//! Messages for one page, values that end, the test cookie, an idle time of one's own, several
//! applications in one session and names that only a module reaches, a form over several pages, and
//! ids in links where the configuration allows them.

use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use cgi_session::{Error, Request, Response, Result, Session};
use html_escape::{encode_double_quoted_attribute, encode_text};
use http::Method;

mod site;

/// How long the code of the demonstration lives, in seconds.
const CODE_LIFE: u64 = 10;
/// What the idle time can be set to, and what it is called.
const TIMEOUTS: [(&str, Option<u64>); 3] = [
    ("1 minute", Some(60)),
    ("2 hours", Some(7200)),
    ("the site’s", None),
];
const APPLICATIONS: [&str; 2] = ["shop", "forum"];

fn main() -> ExitCode {
    cgi_session::run(features)
}

/// What all forms of the page have in common.
struct Forms {
    action: String,
    /// The session's token, and its id where links carry it.
    hidden: String,
}

pub(crate) fn features(request: &mut Request) -> Result<Response> {
    if request.method() == Method::POST {
        request.check_csrf_token()?;
        act(request)?;
        let next = request.link("features")?;
        return Ok(Response::redirect(&next));
    }
    let forms = Forms::new(request)?;
    // First of all others, so that no application can take the name.
    let ticket = request.session()?.reserve("ticket")?;
    let asked = request.session()?.application(ticket.name()).err();
    let session = request.session()?;
    let mut sections = vec![
        flash(session, &forms)?,
        ending(session, &forms)?,
        test_cookie(session, &forms),
        idle_time(session, &forms),
        applications(session, &forms, asked.as_ref())?,
    ];
    sections.push(pages(request, &forms)?);
    sections.push(links(request)?);
    let body = format!(
        r#"<p>Every form on this page posts, carries the session’s token (<code>csrf_field</code>), and is refused with
403 without it. Each leads back here.</p>
<div class="parts">{}</div>"#,
        sections.join("\n")
    );
    Ok(site::page("Features", &body))
}

/// What a form asked for.
fn act(request: &mut Request) -> Result<()> {
    let wanted = request.form("do")?.unwrap_or_default();
    let text = request.form("text")?.unwrap_or_default();
    let choice = request.form("choice")?.unwrap_or_default();
    let session = request.session()?;
    match wanted.as_str() {
        "flash" => session.flash("notice", "This message was left for one page."),
        "ending" => {
            let end = now() + CODE_LIFE;
            session.insert_for("codeUntil", end, Duration::from_secs(CODE_LIFE))
        }
        "test" => {
            session.delete_test_cookie();
            Ok(())
        }
        "idle" => {
            let chosen = TIMEOUTS.iter().find(|(name, _)| *name == choice);
            if let Some((_, seconds)) = chosen {
                session.set_timeout(seconds.map(Duration::from_secs));
            }
            Ok(())
        }
        "application" if APPLICATIONS.contains(&&*choice) => {
            session.application(&choice)?.insert("name", text)
        }
        "pages" => {
            // Boxes without a tick are not sent at all.
            if request.form("step")?.is_some_and(|next| next == "done") {
                request.session()?.remove("drinks");
            }
            request.save_fields(&["dish", "drinks", "step"])
        }
        _ => Ok(()),
    }
}

fn section(title: &str, text: &str, body: &str) -> String {
    format!(r#"<section class="part"><h2>{title}</h2> <p>{text}</p> {body}</section>"#)
}

impl Forms {
    fn new(request: &mut Request) -> Result<Self> {
        let token = request.session()?.csrf_field()?;
        Ok(Forms {
            action: request.link("features")?,
            hidden: token + &request.id_field()?,
        })
    }

    fn form(&self, wanted: &str, fields: &str, button: &str) -> String {
        format!(
            r#"<form method="post" action="{}">{}{fields}
<p class="actions"><button name="do" value="{wanted}">{button}</button></p></form>"#,
            encode_double_quoted_attribute(&self.action),
            self.hidden
        )
    }
}

fn says(text: &str) -> String {
    format!(r#"<p class="says" role="status">{}</p>"#, encode_text(text))
}

fn flash(session: &Session, forms: &Forms) -> Result<String> {
    let notice = session.flashed::<String>("notice")?;
    let notice = notice
        .as_deref()
        .unwrap_or("There is no message for this page.");
    let body = says(notice) + &forms.form("flash", "", "Leave a message");
    let text =
        "A flash message is for the next page and for that one only: reload, and it is gone.";
    Ok(section("A message for one page", text, &body))
}

fn ending(session: &Session, forms: &Forms) -> Result<String> {
    let left = session
        .get::<u64>("codeUntil")?
        .map(|end| end.saturating_sub(now()));
    let state = match left {
        None => "There is no code.".to_owned(),
        Some(0) => "The code ends now.".to_owned(),
        Some(1) => "The code ends in 1 second.".to_owned(),
        Some(left) => format!("The code ends in {left} seconds."),
    };
    let button = format!("Keep a code for {CODE_LIFE} seconds");
    let body = says(&state) + &forms.form("ending", "", &button);
    let text = "A value can end before its session does. Reload to see the time run out.";
    Ok(section("A value that ends", text, &body))
}

fn test_cookie(session: &mut Session, forms: &Forms) -> String {
    let state = if session.test_cookie_worked() {
        "Your browser sent the cookie back."
    } else {
        session.set_test_cookie();
        "A cookie is on its way to your browser. Load this page again to see whether it came back."
    };
    let body = says(state) + &forms.form("test", "", "Ask again");
    let text = "Before a program relies on cookies it can ask whether the browser keeps them.";
    section("Test cookie", text, &body)
}

fn idle_time(session: &Session, forms: &Forms) -> String {
    let seconds = session.timeout().as_secs();
    let state = match seconds {
        0..120 => format!("Unused, this session lives for {seconds} seconds."),
        _ => format!("Unused, this session lives for {} minutes.", seconds / 60),
    };
    let choices = TIMEOUTS.map(|(name, _)| format!("<option>{name}</option>"));
    let fields = format!(
        r#"<label>Idle time <select name="choice">{}</select></label>"#,
        choices.join("")
    );
    let body = says(&state) + &forms.form("idle", &fields, "Set");
    let text = "One session can have an idle time of its own: shorter at a cash desk, longer on your own machine.";
    section("Own idle time", text, &body)
}

fn applications(session: &mut Session, forms: &Forms, refusal: Option<&Error>) -> Result<String> {
    let mut rows = Vec::new();
    for application in APPLICATIONS {
        let name = session.application(application)?.get::<String>("name")?;
        let name = name.unwrap_or_else(|| "nothing".to_owned());
        rows.push(format!(
            "<dt>{application}</dt><dd>{}</dd>",
            encode_text(&name)
        ));
    }
    let choices = APPLICATIONS.map(|name| format!("<option>{name}</option>"));
    let fields = format!(
        r#"<label>Name <input name="text" required></label>
<label>Application <select name="choice">{}</select></label>"#,
        choices.join("")
    );
    let refusal = refusal.map(ToString::to_string).unwrap_or_default();
    let body = format!(
        r#"<dl class="says">{}</dl>
{}
<p class="note">A module can reserve a name. Asked for <code>ticket</code>,
which this page has reserved, the session says: {}.</p>"#,
        rows.join("\n"),
        forms.form("application", &fields, "Store under name"),
        encode_text(&refusal)
    );
    let text = "Two applications use the same key, <code>name</code>, in one session and do not disturb each other.";
    Ok(section("Applications and reserved names", text, &body))
}

/// A form in three steps. Each stores what it was sent, and finds what the others stored.
fn pages(request: &mut Request, forms: &Forms) -> Result<String> {
    request.load_fields(&["dish", "drinks", "step"])?;
    let step = request.field("step")?.unwrap_or_default();
    let dish = request.field("dish")?.unwrap_or_default();
    let drinks = request.fields("drinks")?.join(" and ");
    let next = |step: &str| format!(r#"<input type="hidden" name="step" value="{step}">"#);
    let body = match step.as_str() {
        "drinks" => {
            let boxes = ["water", "wine"].map(|drink| {
                format!(
                    r#"<label class="choice"><input type="checkbox" name="drinks" value="{drink}"> {drink}</label>"#
                )
            });
            let fields = format!("{}{}", boxes.join(""), next("done"));
            says(&format!("Step 2: what do you drink with {dish}?"))
                + &forms.form("pages", &fields, "Go on")
        }
        "done" => {
            let drinks = if drinks.is_empty() {
                "no drink"
            } else {
                &drinks
            };
            says(&format!("You ordered {dish} with {drinks}."))
                + &forms.form("pages", &next("dish"), "Start again")
        }
        _ => {
            let fields = format!(
                r#"<label>Dish <input name="dish" value="{}" required></label>{}"#,
                encode_double_quoted_attribute(&dish),
                next("drinks")
            );
            says("Step 1: what do you eat?") + &forms.form("pages", &fields, "Go on")
        }
    };
    let text =
        "Each step stores its own fields in the session, and no step passes on those of another.";
    Ok(section("A form over several pages", text, &body))
}

fn links(request: &mut Request) -> Result<String> {
    let plain = "features#links";
    let link = request.link(plain)?;
    let field = request.id_field()?;
    let state = if link == plain && field.is_empty() {
        "The link below carries nothing."
    } else {
        "The link below carries your session’s id. With that id, another person has your session."
    };
    let body = format!(
        r#"{}<p class="actions" id="links"><a class="button second" href="{}">This page by a link</a></p>"#,
        says(state),
        encode_double_quoted_attribute(&link)
    );
    let text = "A link or form carries the id only if the configuration says so (<code>idFrom = cookie, query</code>) \
         and the cookie has not come back: for browsers that keep none.";
    Ok(section("Ids in links", text, &body))
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}
