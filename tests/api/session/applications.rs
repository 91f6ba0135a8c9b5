//! Values: typed, by application, and as a struct of one's own.

use serde::{Deserialize, Serialize};

use testkit::prelude::*;
use testkit::sessions::{Site, cookie, given_id};

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Visit {
    page_views: u64,
    name: Option<String>,
    basket: Vec<(String, u32)>,
}

#[test]
fn a_struct_of_ones_own_is_edited_in_place() {
    let (site, id, mut session) = Site::opened();
    session.insert("other", true).unwrap();
    let views = session.edit(|visit: &mut Visit| {
        visit.page_views += 1;
        visit.name = Some("Ada".to_owned());
        visit.basket.push(("disc".to_owned(), 2));
        visit.page_views
    });
    assert_eq!(views.unwrap(), 2);
    session.commit().unwrap();

    let snapshot = site.manager().read(cookie(&id)).unwrap().unwrap();
    let visit: Visit = snapshot.to_struct().unwrap();
    assert_eq!(visit.name.as_deref(), Some("Ada"));
    assert_eq!(visit.basket, [("disc".to_owned(), 2)]);
    assert!(snapshot.keys().eq(["basket", "name", "other", "pageViews"]));
}

#[test]
fn two_applications_share_a_session_without_treading_on_each_other() {
    let site = Site::new();
    let shop = site.manager_with(&[("app", "shop")]);
    let login = site.manager_with(&[("app", "auth")]);
    let mut session = shop.start(b"").unwrap();
    session.insert("started", "by the shop").unwrap();
    let id = given_id(session.commit().unwrap());

    let mut session = login.start(cookie(&id)).unwrap();
    assert!(!session.is_new() && session.is_empty());
    session.insert("started", "by the login").unwrap();
    session.commit().unwrap();

    let mut session = shop.start(cookie(&id)).unwrap();
    assert_eq!(session.require::<String>("started").unwrap(), "by the shop");
    session.clear();
    session.commit().unwrap();
    let session = login.start(cookie(&id)).unwrap();
    let seen = session.require::<String>("started").unwrap();
    assert_eq!(seen, "by the login");
    session.destroy().unwrap();
    assert!(shop.existing(cookie(&id)).unwrap().is_none());
}

#[test]
fn values_that_cannot_be_read_are_an_error_and_stay() {
    let (site, mut session) = Site::begun();
    session.insert("n", "text").unwrap();
    let id = given_id(session.commit().unwrap());
    let before = fs::read(site.path(&id)).unwrap();
    let mut session = site.open(&id);
    assert!(matches!(session.get::<u64>("n"), Err(Error::Value { .. })));
    assert!(session.edit(|n: &mut Vec<u8>| n.push(1)).is_err());
    session.commit().unwrap();
    assert_eq!(fs::read(site.path(&id)).unwrap(), before);
}
