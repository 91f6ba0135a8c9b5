//! Karrigell's warning turned round: a shop in two frames that write at the same moment.
//!
//! Karrigell told its users that nearly simultaneous requests of one browser, from frames for
//! instance, could spoil a session. Here one press makes both frames load, each is a request that
//! puts an article into the basket of the same session, and nothing is lost. Then come the pages of
//! an order, each of which stores its own fields (`save_fields`) and finds those of the others.

use std::process::ExitCode;

use cgi_session::{Request, Response, Result};
use html_escape::{encode_double_quoted_attribute, encode_text};
use http::Method;

#[path = "cart/basket.rs"]
mod basket;
#[path = "../site/mod.rs"]
mod site;

use basket::{SHELVES, Shelf, Shop};

/// What the order needs beside the basket: the field, its page, and what it is called.
const FIELDS: [(&str, &str, &str); 5] = [
    ("recipient", "address", "Recipient"),
    ("street", "address", "Street"),
    ("town", "address", "Town"),
    ("message", "present", "Message with the present"),
    ("card", "card", "Card"),
];

fn main() -> ExitCode {
    cgi_session::run(cart)
}

pub(crate) fn cart(request: &mut Request) -> Result<Response> {
    let page = request.query("page").unwrap_or_default();
    if request.method() == Method::POST {
        request.check_csrf_token()?;
        return act(request, &page);
    }
    if let Some(shelf) = Shelf::find(&page) {
        return frame(request, shelf);
    }
    match page.as_str() {
        "basket" => basket_page(request),
        "address" | "present" | "card" => step(request, &page),
        "confirm" => confirm(request),
        _ => shop(request),
    }
}

/// What a form asked for. Every form leads to a page that can be reloaded without doing it again.
fn act(request: &mut Request, page: &str) -> Result<Response> {
    let article = request.form("article")?.unwrap_or_default();
    let next = match page {
        "both" => {
            request
                .session()?
                .edit(|shop: &mut Shop| shop.basket.want_one_of_each())?;
            "cart"
        }
        "discs" | "books" => {
            if let Some(article) = Shelf::find(page).and_then(|shelf| shelf.article(&article)) {
                request
                    .session()?
                    .edit(|shop: &mut Shop| shop.basket.add(article))?;
            }
            return Ok(Response::redirect(&format!("cart?page={page}")));
        }
        "basket" => {
            request
                .session()?
                .edit(|shop: &mut Shop| shop.basket.remove(&article))?;
            "cart?page=basket"
        }
        "address" => {
            request.save_fields(&["recipient", "street", "town"])?;
            "cart?page=present"
        }
        "present" => {
            request.save_fields(&["message"])?;
            "cart?page=card"
        }
        "card" => {
            request.save_fields(&["card"])?;
            "cart?page=confirm"
        }
        "confirm" => return order(request),
        _ => "cart",
    };
    Ok(Response::redirect(next))
}

fn order(request: &mut Request) -> Result<Response> {
    if let Some(page) = missing(request)? {
        return Ok(Response::redirect(&format!("cart?page={page}")));
    }
    let session = request.session()?;
    let number = session.edit(|shop: &mut Shop| {
        let number = shop.basket.number();
        shop.basket.empty();
        number
    })?;
    let recipient: String = session.require("recipient")?;
    // A card is kept no longer than the order needs it.
    session.remove("card");
    session.remove("message");
    let notice = format!("Thank you. {} on the way to {recipient}.", articles(number));
    session.flash("order", notice)?;
    Ok(Response::redirect("cart"))
}

/// The page that still has to be filled in before the order can be confirmed.
fn missing(request: &mut Request) -> Result<Option<&'static str>> {
    let session = request.session()?;
    if session.to_struct::<Shop>()?.basket.number() == 0 {
        return Ok(Some("basket"));
    }
    for (field, page, _) in FIELDS {
        let text = session.get::<String>(field)?.unwrap_or_default();
        if text.trim().is_empty() && field != "message" {
            return Ok(Some(page));
        }
    }
    Ok(None)
}

fn shop(request: &mut Request) -> Result<Response> {
    let session = request.session()?;
    let notice = session.flashed::<String>("order")?;
    let notice = notice.map(|text| format!(r#"<p class="answer">{}</p>"#, encode_text(&text)));
    let token = session.csrf_field()?;
    let frames = SHELVES.each_ref().map(|shelf| {
        let Shelf { name, title, .. } = shelf;
        format!(r#"<iframe title="{title}" src="cart?page={name}"></iframe>"#)
    });
    let body = format!(
        r#"{notice}<p>Two frames, two requests, one basket. The first button loads both frames at the same moment, and
each of them puts an article in while it loads.</p>
<form class="actions" method="post" action="cart?page=both">{token}
<button>One of each, at the same moment</button>
<a class="button second" href="cart?page=basket">To the basket</a></form>
<div class="frames">{frames}</div>
<p class="note">Karrigell’s manual warned of pages like this one: frames that write at once could spoil the
session. Here the second frame waits until the first has saved, so the later of the two knows one article
more. Nothing of this needs JavaScript.</p>"#,
        notice = notice.unwrap_or_default(),
        frames = frames.join("\n"),
    );
    Ok(site::page("Shop", &body))
}

/// One shelf. Loading it puts in what the shop page's button has asked for, and only that: a link
/// from elsewhere, or loading it again, buys nothing.
fn frame(request: &mut Request, shelf: &Shelf) -> Result<Response> {
    let session = request.session()?;
    let (put_in, number) =
        session.edit(|shop: &mut Shop| (shop.basket.take_wanted(shelf), shop.basket.number()))?;
    let token = session.csrf_field()?;
    let says = match put_in {
        0 => format!("The basket holds {}.", articles(number)),
        _ => format!(
            "Put in: {put_in} × {}. The basket holds {}.",
            shelf.articles[0],
            articles(number)
        ),
    };
    let buttons = shelf.articles.map(|article| {
        format!(
            r#"<li>{article} <button class="second" name="article" value="{article}"
aria-label="Put {article} into the basket">Add</button></li>"#
        )
    });
    let Shelf { name, title, .. } = shelf;
    let body = format!(
        r#"<h2>{title}</h2>
<p role="status">{says}</p>
<form method="post" action="cart?page={name}">{token}
<ul class="rows">{buttons}</ul></form>
<p class="note">Process {process} answered.</p>"#,
        buttons = buttons.join("\n"),
        process = std::process::id(),
    );
    Ok(site::frame(title, &body))
}

fn basket_page(request: &mut Request) -> Result<Response> {
    let session = request.session()?;
    let Shop { basket } = session.to_struct()?;
    let token = session.csrf_field()?;
    let rows: Vec<_> = basket
        .articles()
        .map(|(article, number)| {
            let article = encode_double_quoted_attribute(article);
            format!(
                r#"<li>{number} × {article} <button class="second" name="article" value="{article}"
aria-label="Remove one {article}">Remove one</button></li>"#
            )
        })
        .collect();
    if rows.is_empty() {
        let body = r#"<p class="answer">The basket is empty.</p>
<p class="actions"><a class="button" href="cart">To the shop</a></p>"#;
        return Ok(site::page("Basket", body));
    }
    let body = format!(
        r#"<p class="answer">The basket holds {number}.</p>
<form method="post" action="cart?page=basket">{token}
<ul class="rows">{rows}</ul></form>
<p class="actions"><a class="button" href="cart?page=address">Order</a>
<a class="button second" href="cart">Back to the shop</a></p>"#,
        number = articles(basket.number()),
        rows = rows.join("\n"),
    );
    Ok(site::page("Basket", &body))
}

/// One page of the order, filled in with what an earlier visit to it stored.
fn step(request: &mut Request, page: &str) -> Result<Response> {
    let token = request.session()?.csrf_field()?;
    request.load_fields(&FIELDS.map(|(field, ..)| field))?;
    let mut inputs = String::new();
    for (field, _, label) in FIELDS.iter().filter(|(_, known, _)| *known == page) {
        let text = request.field(field)?.unwrap_or_default();
        inputs.push_str(&input(field, label, &text));
    }
    let title = match page {
        "address" => "Address",
        "present" => "A message with the present",
        _ => "Card",
    };
    let body = format!(
        r#"<form method="post" action="cart?page={page}">{token}
{inputs}
<p class="actions"><button>Go on</button>
<a class="button second" href="cart?page=basket">Back to the basket</a></p></form>
<p class="note">What you write here goes into the session when you go on. Come back to this page, and it
knows it.</p>"#
    );
    Ok(site::page(title, &body))
}

fn input(field: &str, label: &str, text: &str) -> String {
    match field {
        "message" => format!(
            r#"<label>{label}, if there is one <textarea name="message" rows="3">
{}</textarea></label>"#,
            encode_text(text)
        ),
        "card" => format!(
            r#"<label>Number, anything but a real one <input name="card" inputmode="numeric" autocomplete="off"
value="{}" required></label>"#,
            encode_double_quoted_attribute(text)
        ),
        _ => format!(
            r#"<label>{label} <input name="{field}" value="{}" required></label>"#,
            encode_double_quoted_attribute(text)
        ),
    }
}

fn confirm(request: &mut Request) -> Result<Response> {
    if let Some(page) = missing(request)? {
        return Ok(Response::redirect(&format!("cart?page={page}")));
    }
    let session = request.session()?;
    let Shop { basket } = session.to_struct()?;
    let mut rows: Vec<_> = basket
        .articles()
        .map(|(article, number)| row("Article", &format!("{number} × {article}")))
        .collect();
    for (field, _, label) in FIELDS {
        let text = session.get::<String>(field)?.unwrap_or_default();
        let shown = if field == "card" { hidden(&text) } else { text };
        if !shown.is_empty() {
            rows.push(row(label, &shown));
        }
    }
    let token = session.csrf_field()?;
    let body = format!(
        r#"<p>This is everything that you chose on the pages before.</p>
<dl class="answer">{rows}</dl>
<form class="actions" method="post" action="cart?page=confirm">{token}
<button>Confirm the order</button>
<a class="button second" href="cart?page=address">Change something</a></form>
<p class="note">The form above carries none of it. Its one hidden field is the session’s token, which tells
your order from one that another site sends in your name.</p>"#,
        rows = rows.join("\n"),
    );
    Ok(site::page("Is everything right?", &body))
}

fn row(label: &str, text: &str) -> String {
    format!("<dt>{label}</dt><dd>{}</dd>", encode_text(text))
}

/// A card's number as it may be shown: its end.
fn hidden(card: &str) -> String {
    let digits: Vec<char> = card.chars().filter(|c| !c.is_whitespace()).collect();
    let shown = digits.iter().skip(digits.len().saturating_sub(4).max(1));
    format!("…{}", shown.collect::<String>())
}

fn articles(number: u64) -> String {
    match number {
        0 => "nothing".to_owned(),
        1 => "1 article".to_owned(),
        _ => format!("{number} articles"),
    }
}
