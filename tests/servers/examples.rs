//! The examples behind every server, with the settings that are shipped: the same program as CGI and
//! as FastCGI.

use std::io::Seek as _;

use testkit::client::Client;
use testkit::prelude::*;
use testkit::servers::by_every_way;

#[test]
fn a_visitor_is_counted_and_gets_one_cookie() {
    by_every_way(|servers, way| {
        let before = servers.site.files().len();
        let (mut visitor, mut other) = (way.client(), way.client());
        let counter = way.path("/counter");
        let first = visitor.get(&counter).expect(200, "here 1 time");
        first.expect_cookies(1);
        let second = visitor.get(&counter).expect(200, "here 2 time");
        second.expect_cookies(0);
        let others = other.get(&counter).expect(200, "here 1 time");
        others.expect_cookies(1);
        let third = visitor.get(&counter).expect(200, "here 3 time");
        third.expect_cookies(0);
        assert_eq!(servers.site.files().len(), before + 2);
    });
}

#[test]
fn the_cookie_and_the_cache_headers_are_those_of_the_settings() {
    let servers = Servers::start("cookiePath = /here\ncookieMaxAge = 2h\n");
    for way in servers.ways() {
        let answer = way.client().get(&way.path("/counter")).expect_cookies(1);
        let cookie = &answer.set_cookies()[0];
        holds(cookie, "HttpOnly*SameSite=Lax*Path=/here*Max-Age=7200");
        assert!(!cookie.contains("Secure"), "{way:?}: {cookie}");
        let cache = answer.header("cache-control");
        let expected = "no-store, no-cache, must-revalidate";
        assert_eq!(cache.as_deref(), Some(expected), "{way:?}");
        assert_eq!(answer.header("vary").as_deref(), Some("Cookie"), "{way:?}");
    }
}

#[test]
fn the_sessions_belong_to_the_servers_user_and_to_nobody_else() {
    let servers = Servers::start("");
    for way in servers.ways() {
        let before = servers.site.files();
        way.client().get(&way.path("/counter")).expect_cookies(1);
        let after = servers.site.files();
        let name = after.iter().find(|name| !before.contains(name)).unwrap();
        let directory = servers.site.sessions();
        let owner = directory.metadata().unwrap().uid();
        let file = directory.join(name).metadata().unwrap();
        let seen = (file.mode() & 0o7777, file.uid());
        assert_eq!(seen, (0o600, owner), "{way:?}");
    }
}

#[test]
fn the_form_is_begun_followed_and_closed() {
    by_every_way(|servers, way| {
        let before = servers.site.files().len();
        let follow = way.path("/follow");
        let mut visitor = way.client();
        let form = "myname=O%27Neil+%26+Sons&firstname=J%C3%BCrgen";
        let begun = visitor.post(&way.path("/begin"), form);
        let begun = begun.expect(200, "Your name is O'Neil &amp; Sons");
        begun.expect_cookies(1);
        let followed = visitor.get(&follow);
        let followed = followed.expect(200, "first name is Jürgen");
        followed.expect_cookies(0);
        let closed = visitor.get(&way.path("/follow?close=1"));
        closed.expect(200, "Jürgen").expect_cookies(1);
        assert_eq!((visitor.id(), servers.site.files().len()), (None, before));
        let missing = visitor.get(&follow);
        missing.expect(404, "no value for \"firstname\"");
        visitor.get(&way.path("/begin?myname=Doe&firstname=Jo"));
        visitor.get(&follow).expect(200, "first name is Jo");
    });
}

#[cfg(feature = "cookie-store")]
#[test]
fn a_session_of_four_kilobytes_in_its_cookie_passes_every_server() {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;
    use testkit::apache::web_user;
    use testkit::outside::give;

    let place = tempfile::tempdir_in("/tmp").unwrap();
    fs::set_permissions(place.path(), Permissions::from_mode(0o755)).unwrap();
    let keys = place.path().join("keys");
    fs::write(&keys, "5a".repeat(64)).unwrap();
    fs::set_permissions(&keys, Permissions::from_mode(0o600)).unwrap();
    give(&keys, web_user());
    let settings = format!("storageType = cookie\nsecretKeyFile = {}\n", keys.display());
    let servers = Servers::start(&settings);
    for way in servers.ways() {
        let mut longest = 0;
        for length in (1500..2800).step_by(50) {
            let mut visitor = way.client();
            let first_name = "x".repeat(length);
            let page = format!("/begin?myname=Doe&firstname={first_name}");
            let begun = visitor.get(&way.path(&page));
            if begun.status == 500 {
                // No browser would keep it.
                break;
            }
            let begun = begun.expect(200, "Your name is");
            longest = begun.header("set-cookie").unwrap().len();
            visitor.get(&way.path("/follow")).expect(200, &first_name);
        }
        assert!((3900..=4096).contains(&longest), "{way:?}: {longest}");
    }
}

#[test]
fn two_cookie_headers_are_understood_unless_the_server_makes_one_value_of_them() {
    by_every_way(|_, way| {
        let mut visitor = way.client();
        let counter = way.path("/counter");
        visitor.get(&counter).expect(200, "here 1 time");
        // nginx hands over two variables, lighttpd one with a semicolon.
        let head = format!("GET {counter} HTTP/1.1\r\nCookie: a=1; b=\"2\r\n");
        let second = visitor.request(head, b"");
        if way.joins_cookies_by_a_comma() {
            second.expect(200, "here 1 time").expect_cookies(1);
        } else {
            second.expect(200, "here 2 time").expect_cookies(0);
        }
    });
}

#[test]
fn head_is_answered_without_a_body_and_counts_like_get() {
    by_every_way(|_, way| {
        let mut visitor = way.client();
        let answer = visitor.head(&way.path("/counter")).expect_cookies(1);
        assert_eq!((answer.status.as_u16(), answer.body.as_str()), (200, ""));
        let second = visitor.get(&way.path("/counter"));
        second.expect(200, "here 2 time");
    });
}

#[test]
fn a_page_tells_its_length() {
    by_every_way(|_, way| {
        let page = way.client().get(&way.path("/counter"));
        // Without it nginx and lighttpd would show a page that was cut off as a whole one. Apache
        // sends chunks, of which the last one tells the end.
        let length = page.header("content-length");
        if !way.is_server("Apache") {
            assert_eq!(length, Some(page.body.len().to_string()), "{page:?}");
        }
    });
}

#[test]
fn bytes_that_are_not_utf_8_disturb_nobody() {
    by_every_way(|_, way| {
        let mut visitor = way.client();
        let counter = way.path("/counter");
        visitor.get(&counter).expect(200, "here 1 time");
        let mut before = 1;
        for field in [
            &b"Cookie: x=\xff\r\n"[..],
            b"X-Odd: \xff\xfe\r\n",
            b"User-Agent: caf\xe9\r\n",
        ] {
            if field.starts_with(b"Cookie") && way.joins_cookies_by_a_comma() {
                continue;
            }
            let head = format!("GET {counter} HTTP/1.1\r\n").into_bytes();
            let answer = visitor.request([&head, field].concat(), b"");
            before += 1;
            let page = format!("here {before} time");
            answer.expect(200, &page).expect_cookies(0);
        }
        let head = b"/caf%e9?q=%ff&\xff HTTP/1.1\r\n";
        let head = [format!("GET {counter}").as_bytes(), head].concat();
        let answer = visitor.request(head, b"");
        // These two refuse such a URL themselves.
        if !["lighttpd", "Caddy"].iter().any(|name| way.is_server(name)) {
            let page = format!("here {} time", before + 1);
            answer.expect(200, &page).expect_cookies(0);
        }
    });
}

#[test]
fn a_redirect_reaches_the_client() {
    by_every_way(|_, way| {
        let answer = way.client().get(&way.path("/misbehave?mode=redirect"));
        let answer = answer.expect(303, "See").expect_cookies(1);
        let location = answer.header("location").unwrap();
        assert!(
            location.ends_with("/elsewhere?a=b%20c%0D%0AX:%20y"),
            "{location}"
        );
    });
}

#[test]
fn a_panic_is_answered_completely_and_saves_nothing() {
    by_every_way(|_, way| {
        let mut visitor = way.client();
        let counter = way.path("/counter");
        visitor.get(&counter).expect(200, "here 1 time");
        for mode in ["panic", "error"] {
            let answer = visitor.get(&way.path(&format!("/misbehave?mode={mode}")));
            answer.expect(500, "</html>").expect_cookies(0);
        }
        let head = format!("{} HTTP/1.1\r\n", way.path("/misbehave?mode=panic"));
        let answer = visitor.request(format!("HEAD {head}"), b"");
        assert_eq!((answer.status.as_u16(), answer.body.as_str()), (500, ""));
        visitor.get(&counter).expect(200, "here 2 time");
    });
}

#[test]
fn the_servers_error_log_has_the_errors_of_requests() {
    by_every_way(|servers, way| {
        let server = match way.prefix() {
            "/app" | "/kept" | "/fcgid/app" | "/started" => way.server(servers),
            "/cgi-bin/app" if way.is_server("Apache") => way.server(servers),
            _ => return,
        };
        // Caddy drops what it does not know where to log.
        if way.is_server("Caddy") {
            return;
        }
        let lines = || server.said().matches("app: an error of two lines").count();
        for method in ["GET", "HEAD"] {
            let before = lines();
            let path = way.path("/misbehave?mode=error");
            let head = format!("{method} {path} HTTP/1.1\r\n");
            way.client().request(head, b"").expect(500, "");
            wait_until("the line is in the log", || lines() > before);
        }
    });
}

#[test]
fn a_program_that_is_asked_to_authorize_lets_nothing_through() {
    let guard = "server.modules += ( \"mod_fastcgi\" )\n\
                 fastcgi.server += ( \"/guarded\" => (( \"mode\" => \"authorizer\", \
                 \"socket\" => \"SITE/run/app.sock\", \"check-local\" => \"disable\" )) )";
    let servers = Servers::start_with("", "", "", guard);
    let Some(lighttpd) = &servers.lighttpd else {
        return;
    };
    let pages = servers.site.path().join("pages");
    for name in ["guarded.txt", "open.txt"] {
        std::fs::write(pages.join(name), "a page").unwrap();
    }
    let mut client = Client::new(lighttpd.ports[0]);
    client.get("/open.txt").expect(200, "a page");
    let answer = client.get("/guarded.txt");
    assert_eq!(answer.status.as_u16(), 403);
    assert!(!answer.body.contains("a page"));
}

#[test]
fn a_large_answer_arrives_whole() {
    by_every_way(|_, way| {
        let answer = way.client().get(&way.path("/misbehave?mode=large"));
        assert_eq!(answer.body.len(), 4 << 20);
    });
}

#[test]
fn a_body_that_nobody_reads_never_costs_the_answer() {
    by_every_way(|_, way| {
        let mut visitor = way.client();
        // Often, because a server that takes the answer before the body could do it by luck.
        for (before, size) in [3, 300 << 10].repeat(5).into_iter().enumerate() {
            let body = vec![b'x'; size];
            let head = format!("POST {} HTTP/1.1\r\n", way.path("/counter"));
            let head = format!("{head}Content-Length: {size}\r\n");
            let page = format!("here {} time", before + 1);
            visitor.request(head, &body).expect(200, &page);
        }
    });
}

#[test]
fn a_body_that_the_server_makes_longer_than_announced_never_costs_the_answer() {
    if !is_installed("apache2") {
        return;
    }
    let inflating = "LoadModule deflate_module /usr/lib/apache2/modules/mod_deflate.so\n\
                     <Location />\nSetInputFilter DEFLATE\n</Location>\n";
    let servers = Servers::start_with("", "", inflating, "");
    for module in ["mod_cgid", "mod_fcgid", "mod_proxy_fcgi"] {
        let Some(way) = servers.way(&format!("Apache, {module}")) else {
            continue;
        };
        for numbers in [100, 100_000, 300_000] {
            // Apache refuses what becomes two hundred times as long.
            let words = (0..numbers).map(|number: u32| number.to_string() + " ");
            let plain: String = words.collect();
            let body = gzip(plain.as_bytes());
            let length = body.len();
            for page in ["/upload", "/upload?ignore=1", "/misbehave?mode=large"] {
                for _ in 0..3 {
                    let path = way.path(page);
                    let head = format!(
                        "POST {path} HTTP/1.1\r\nContent-Encoding: gzip\r\nContent-Length: {length}\r\n"
                    );
                    way.client().request(head, &body).expect(200, "");
                }
            }
        }
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut plain = tempfile::tempfile().unwrap();
    plain.write_all(bytes).unwrap();
    plain.rewind().unwrap();
    let packed = Command::new("gzip").stdin(plain).output().unwrap();
    packed.stdout
}

#[test]
fn a_form_in_chunks_is_read() {
    by_every_way(|_, way| {
        let mut visitor = way.client();
        let head = format!("POST {} HTTP/1.1\r\n", way.path("/begin"));
        let form = "Content-Type: application/x-www-form-urlencoded";
        let head = format!("{head}{form}\r\nTransfer-Encoding: chunked\r\n");
        let chunks = b"9\r\nmyname=Do\r\n10\r\ne&firstname=Jo&c\r\n0\r\n\r\n";
        let begun = visitor.request(head, chunks);
        begun.expect(200, "Your name is Doe");
        let followed = visitor.get(&way.path("/follow"));
        followed.expect(200, "first name is Jo");
    });
}

#[test]
fn no_header_of_a_client_becomes_the_variable_http_proxy() {
    by_every_way(|_, way| {
        let head = format!("GET {} HTTP/1.1\r\nProxy: evil\r\n", way.path("/proxy"));
        let page = format!("{}: HTTP_PROXY is <>", way.prefix());
        way.client().request(head, b"").expect(200, &page);
    });
}

#[test]
fn settings_beside_the_programs_are_not_served() {
    let servers = Servers::start("");
    for way in servers.ways() {
        let directory = way.prefix().strip_suffix("/app");
        if let Some(directory) = directory.filter(|it| !it.is_empty()) {
            eprintln!("{way:?}");
            let answer = way.client().get(&format!("{directory}/cgi-session.ini"));
            answer.expect(403, "Forbidden");
        }
    }
}
