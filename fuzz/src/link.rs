//! Addresses that a page wants to link to, with the session's id in those of its own site.
//!
//! Tries to get the id to another site, or to change where a link leads. Wherever a browser would go by the
//! address (as the crate `url` reads it, which is how browsers do), the id is carried only to the same
//! site, as the last parameter, and everything else stays what it was.

use url::Url;

const PAGE: &str = "https://site.example/shop/page?old=1#top";
/// The name of the parameter and the id.
pub const PARAMETER: (&str, &str) = ("sessionId", "2f1c0e5d9a8b7c6d5e4f30213243546576879800");

/// Looks at the link that `link` makes of an address.
///
/// # Panics
///
/// When it leads elsewhere than the address, or carries the id to another site.
pub fn check(address: &str, link: impl Fn(&str) -> String) {
    let link = link(address);
    let page = Url::parse(PAGE).expect("an address");
    let (name, id) = PARAMETER;
    let Ok(target) = page.join(address) else {
        assert_eq!(link, address, "what is no address is left alone");
        return;
    };
    let carries = link != address;
    if !carries {
        assert!(
            target.origin() != page.origin() || !is_plain(address),
            "{address:?} carries no id"
        );
        return;
    }
    let with_id = page.join(&link).expect("a link that can be followed");
    assert_eq!(
        with_id.origin(),
        page.origin(),
        "{address:?} carries the id to another site"
    );
    assert_eq!(target.origin(), page.origin());
    // An address without a query keeps that of the page only when it is empty or a fragment.
    let is_same_page = address.is_empty() || address.starts_with('#');
    let before: Vec<_> = if is_same_page {
        Vec::new()
    } else {
        let others = target.query_pairs();
        others.filter(|(other, _)| other != name).collect()
    };
    let mut after: Vec<_> = with_id.query_pairs().collect();
    let last = after.pop().expect("a parameter");
    assert_eq!((&*last.0, &*last.1), (name, id), "in {link:?}");
    assert_eq!(after, before, "parameters of {link:?}");
    assert_eq!(
        (with_id.path(), with_id.fragment()),
        (target.path(), target.fragment())
    );
}

/// Whether an address is so simple that it must carry the id: a path and parameters.
fn is_plain(address: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/?&=#.-_".contains(&byte);
    address.bytes().all(is_plain) && !address.starts_with("//")
}
