//! The login example: ids that change with the visitor's rights, values that nobody else reaches,
//! logins that end here or everywhere, and browsers that are remembered.

mod browser;
mod race;
mod remembered;
mod visitor;

use browser::ADA;
use testkit::client::Client;
use testkit::servers::by_every_way;

const WRONG: &str = "The name or the password is wrong.";

#[test]
fn a_visitor_logs_in_is_remembered_and_logs_out_by_every_way() {
    by_every_way(|_, way| {
        let login = way.path("/login");
        let mut visitor = way.client();
        let post = |visitor: &mut Client, form: &str| {
            let page = visitor.get(&login).expect(200, "csrfToken").body;
            let (_, rest) = page.split_once("name=\"csrfToken\" value=\"").unwrap();
            let form = format!("csrfToken={}&{form}", &rest[..40]);
            visitor.post(&login, &form)
        };
        post(&mut visitor, "name=ada&password=wrong").expect(403, WRONG);
        let answer = post(&mut visitor, &format!("{ADA}&remember=on"));
        answer.expect(303, "").expect_cookies(2);
        visitor.get(&login).expect(200, "ada is logged in.");
        post(&mut visitor, "do=here")
            .expect(303, "")
            .expect_cookies(2);
        visitor.get(&login).expect(200, "<h1>Log in</h1>");
        let answer = post(&mut visitor, ADA);
        answer.expect(303, "").expect_cookies(1);
        let page = post(&mut visitor, "do=everywhere");
        page.expect(200, "All your sessions are ended");
        visitor.get(&login).expect(200, "<h1>Log in</h1>");
    });
}
