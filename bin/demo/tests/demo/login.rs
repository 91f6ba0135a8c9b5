//! The login on the demo site, whose programs may stay.

use crate::server::{Page, Server, Visitor};

const LOGIN: &str = "/cgi-bin/login";

#[track_caller]
fn send(visitor: &Visitor, fields: &[(&str, &str)]) -> Page {
    visitor.submit(LOGIN, LOGIN, fields)
}

fn log_in_and_out(server: &Server) {
    let password = ("password", "lovelace");
    let ada = [("name", "ada"), password, ("remember", "on")];
    let visitors = [(); 3].map(|()| server.visitor());
    for visitor in &visitors {
        send(visitor, &ada).says("ada is logged in.");
    }
    let [one, two, three] = &visitors;
    send(one, &[("do", "here")]).says("You are logged out here.");
    send(two, &[("do", "others")]).says("Your other session is ended.");
    three.get(LOGIN).says("<h1>Log in</h1>");
    send(three, &ada);
    send(two, &[("do", "everywhere")]).says("All your sessions are ended");
    for visitor in &visitors {
        visitor.get(LOGIN).says("<h1>Log in</h1>");
    }
}

#[test]
fn sessions_of_a_user_end_here_elsewhere_and_everywhere_in_programs_and_in_responders() {
    log_in_and_out(&Server::start());
    log_in_and_out(&Server::with_fastcgi());
}
