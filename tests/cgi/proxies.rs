//! Behind proxies: whose word counts on where a request comes from.

use cgi_session::http::header::SET_COOKIE;
use cgi_session::{Client, RequestBuilder};
use testkit::prelude::*;
use testkit::sessions::in_memory;

fn client(settings: &[(&str, &str)]) -> Client {
    Client::new(in_memory(settings))
}

/// The address and the scheme that a handler sees, which are those of the cookie, too.
#[track_caller]
fn seen(request: RequestBuilder) -> String {
    let response = request.send(|request: &mut Request| {
        request.session()?.insert("seen", true)?;
        let address = request.client_address();
        let address = address.map_or("none".to_owned(), |address| address.to_string());
        let scheme = if request.is_https() { "https" } else { "http" };
        Ok::<_, Error>(Response::text(format!("{address} {scheme}")))
    });
    let seen = response.body_text().into_owned();
    let cookie = response.headers()[SET_COOKIE].to_str().unwrap();
    let found = cookie.contains("; Secure");
    assert_eq!(found, seen.ends_with(" https"), "{cookie}");
    seen
}

/// The header of RFC 7239.
const FORWARDED: [(&str, &str); 2] = [
    ("trustedProxies", "10.0.0.0/8"),
    ("trustedProxyHeader", "forwarded"),
];

/// Each row: `REMOTE_ADDR`, what the request says besides, and what comes of it.
const ROWS: &str = "
10.0.0.1 | x-forwarded-for: 192.0.2.7 | x-forwarded-proto: https => 192.0.2.7 https
::ffff:10.0.0.1 | x-forwarded-for: 192.0.2.7 => 192.0.2.7 http
::1 | x-forwarded-for: 2001:db8::7 | x-forwarded-proto: HTTPS => 2001:db8::7 https
10.0.0.1 | x-forwarded-proto: https => 10.0.0.1 https
10.0.0.1 | x-forwarded-for: 203.0.113.9, 192.0.2.7, 10.0.0.2 => 192.0.2.7 http
10.0.0.1 | x-forwarded-for: 203.0.113.9, 192.0.2.7 | x-forwarded-for: 10.0.0.2 => 192.0.2.7 http
10.0.0.1 | x-forwarded-for: 10.0.0.3, 10.0.0.2 => 10.0.0.3 http
10.0.0.1 | x-forwarded-for: forged!, 192.0.2.7 => 192.0.2.7 http
10.0.0.1 | x-forwarded-for: 192.0.2.7:4711 => 192.0.2.7 http
10.0.0.1 | x-forwarded-for: [2001:db8::7]:4711 => 2001:db8::7 http
10.0.0.1 | x-forwarded-for: 192.0.2.7, 10.0.0.2 | x-forwarded-proto: https, http => 192.0.2.7 https
10.0.0.1 | x-forwarded-for: 203.0.113.9, 192.0.2.7 | x-forwarded-proto: https, http => 192.0.2.7 http
10.0.0.1 | x-forwarded-for: 192.0.2.7, forged! | x-forwarded-proto: https => 10.0.0.1 https
10.0.0.1 | x-forwarded-for: 192.0.2.7, | x-forwarded-proto: https => 10.0.0.1 https
10.0.0.1 | x-forwarded-for: 192.0.2.7 | x-forwarded-proto: https, http, http => 192.0.2.7 http
10.0.0.1 | x-forwarded-for: 192.0.2.7 | x-forwarded-proto: wss => 192.0.2.7 http
10.0.0.1 | x-forwarded-for: forged!, 10.0.0.2 | x-forwarded-proto: http, https => 10.0.0.1 http
10.0.0.1 | x-forwarded-for: unknown => 10.0.0.1 http
10.0.0.1 | x-forwarded-for: => 10.0.0.1 http
198.51.100.1 | x-forwarded-for: 192.0.2.7 | x-forwarded-proto: https => 198.51.100.1 http
 | x-forwarded-for: 192.0.2.7 | x-forwarded-proto: https => none http
fe80::7%eth0 | x-forwarded-for: 192.0.2.7 => fe80::7 http
unix: | x-forwarded-for: 192.0.2.7 | x-forwarded-proto: https => none http
10.0.0.1 | forwarded: for=192.0.2.7;proto=https => 10.0.0.1 http
10.0.0.1 | x-real-ip: 192.0.2.7 | x-forwarded-ssl: on => 10.0.0.1 http
10.0.0.1 => 10.0.0.1 http
";

#[test]
fn a_trusted_proxy_is_believed_and_nothing_else_is() {
    for row in ROWS.trim_matches('\n').lines() {
        let client = client(&[("trustedProxies", "10.0.0.0/8, ::1")]);
        let (request, expected) = row.split_once("=> ").unwrap();
        let mut parts = request.split(" | ").map(str::trim);
        let request = client.get("/").remote_address(parts.next().unwrap());
        let request = parts.fold(request, |request, field| {
            let (name, value) = field.split_once(':').unwrap();
            request.header(name, value.trim())
        });
        assert_eq!(seen(request), expected, "{row}");
    }
}

#[test]
fn the_header_of_rfc_7239_is_read_where_the_configuration_says_so() {
    let own = "for=10.0.0.2";
    let of_ipv6 = r#"For="[2001:db8::7]:4711" ; PROTO="https";by=10.0.0.1"#;
    let in_one = "for=203.0.113.9;proto=https, for=192.0.2.7;proto=http, for=10.0.0.2";
    let in_three = [
        "for=203.0.113.9",
        "for=192.0.2.7;proto=https",
        "for=10.0.0.2;proto=http",
    ];
    for (fields, expected) in [
        (&["for=192.0.2.7;proto=https"][..], "192.0.2.7 https"),
        (&[of_ipv6], "2001:db8::7 https"),
        (&[in_one], "192.0.2.7 http"),
        (&in_three, "192.0.2.7 https"),
        (&["for=\"a, for=b\", for=192.0.2.7"], "192.0.2.7 http"),
        // A quote of the client's does not swallow what the proxy adds.
        (&["for=\"", "for=192.0.2.7;proto=https"], "192.0.2.7 https"),
        (&[r#"for=192.0.2.7;by="a, b""#, own], "192.0.2.7 http"),
        (&[r#"for=192.0.2.7;ext="a\", b""#, own], "192.0.2.7 http"),
        (
            &[r#"for="192.0.2\.7";ext="a\\";proto=https"#],
            "192.0.2.7 https",
        ),
        (&[r#"for=192.0.2.7;ext="a\""#], "10.0.0.1 http"),
        (
            &[r#"for="\"#, "for=\"192.0.2.7\";proto=https"],
            "192.0.2.7 https",
        ),
        (
            &[r#"for="192.0.2.7:_a.1-b";proto=https"#],
            "192.0.2.7 https",
        ),
        (
            &[r#"for="[2001:db8::7]:_port";proto=https"#],
            "2001:db8::7 https",
        ),
        (&[r#"for="192.0.2.7:_";proto=https"#], "10.0.0.1 http"),
        (&["for=unknown;proto=https"], "10.0.0.1 https"),
        (&["for=_hidden, for=10.0.0.2"], "10.0.0.1 http"),
        (&["for=\"192.0.2.7;proto=https"], "10.0.0.1 http"),
        (&["for=192.0.2.7;for=192.0.2.8"], "10.0.0.1 http"),
        (&["for=192.0.2.7;proto=ftp"], "10.0.0.1 http"),
        (&["for"], "10.0.0.1 http"),
        (&[";for=192.0.2.7;;proto=https; "], "192.0.2.7 https"),
        (&[", for=192.0.2.7,, ", "", own], "192.0.2.7 http"),
        (&["=;,;="], "10.0.0.1 http"),
        (&[""], "10.0.0.1 http"),
    ] {
        let request = client(&FORWARDED).get("/").remote_address("10.0.0.1");
        let request = request.header("x-forwarded-proto", "https");
        let with = |request: RequestBuilder, field: &&str| request.header("forwarded", field);
        let request = fields.iter().fold(request, with);
        assert_eq!(seen(request), expected, "{fields:?}");
    }
}

/// A client can put any bytes before what its proxy adds.
#[test]
fn bytes_that_are_no_text_hide_nothing_that_a_proxy_adds() {
    let x_forwarded = client(&[("trustedProxies", "10.0.0.0/8")]);
    let request = x_forwarded.get("/").remote_address("10.0.0.1");
    let request = request.header("x-forwarded-for", b"\xff, 192.0.2.7");
    assert_eq!(seen(request), "192.0.2.7 http");
    let request = client(&FORWARDED).get("/").remote_address("10.0.0.1");
    let request = request.header("forwarded", b"for=\xff, for=192.0.2.7;proto=https");
    assert_eq!(seen(request), "192.0.2.7 https");
}

#[test]
fn what_a_proxy_says_of_the_scheme_comes_before_what_the_server_says() {
    let settings = [("trustedProxies", "10.0.0.1")];
    let request = || client(&settings).get("/").over_https(true);
    let by_https = || request().remote_address("10.0.0.1");
    let found = seen(by_https().header("x-forwarded-proto", "http"));
    assert_eq!(found, "10.0.0.1 http");
    assert_eq!(seen(by_https()), "10.0.0.1 https");
}

#[test]
fn without_trusted_proxies_nothing_of_it_counts() {
    let request = client(&[]).get("/").remote_address("10.0.0.1");
    let request = request.header("x-forwarded-for", "192.0.2.7");
    let request = request.header("x-forwarded-proto", "https");
    let found = seen(request.header("forwarded", "for=192.0.2.7;proto=https"));
    assert_eq!(found, "10.0.0.1 http");
}

#[test]
fn a_network_has_the_addresses_that_begin_like_it() {
    let list = "10.0.0.0/8, 192.0.2.7 ::1,2001:db8::/33 ::ffff:172.16.0.0/108";
    let config = Config::new().set("trustedProxies", list).unwrap();
    let shown = "10.0.0.0/8, 192.0.2.7, ::1, 2001:db8::/33, 172.16.0.0/12";
    assert_eq!(config.get("trustedProxies").as_deref(), Some(shown));
    let inside = "10.255.1.2 172.31.0.1 192.0.2.7 ::ffff:192.0.2.7 ::1 2001:db8:7fff::1";
    let outside = "11.0.0.0 172.32.0.1 192.0.2.6 ::2 2001:db8:8000::1 a00::";
    for (list, addresses, is_in) in [
        (list, inside, true),
        (list, outside, false),
        ("0.0.0.0/0", "203.0.113.1", true),
        ("0.0.0.0/0", "::1", false),
    ] {
        for address in addresses.split(' ') {
            let client = client(&[("trustedProxies", list)]);
            let request = client.get("/").remote_address(address);
            let found = seen(request.header("x-forwarded-for", "198.51.100.9"));
            assert_eq!(found == "198.51.100.9 http", is_in, "{address}: {found}");
        }
    }
}

#[test]
fn a_list_that_is_none_of_addresses_is_refused_with_its_key() {
    let networks = "10.0.0.0/33 proxy.example.org localhost 10.0.0/8 ::/129 10.0.0.0/ 10.0.0.0/+8 \
        10.0.0.0/-1 /8 10.0.0.1:80 [::1] 10.0.0.0/8/8 any 10.0.0.0/256";
    let networks = networks.split(' ').map(|text| ("trustedProxies", text));
    for (key, value) in networks.chain([("trustedProxyHeader", "both")]) {
        let error = Config::new().set(key, value).unwrap_err().to_string();
        assert!(error.contains(key) && error.contains("must be"), "{error}");
    }
}

#[test]
fn a_list_of_proxies_that_cannot_be_used_is_told_although_no_session_is_opened() {
    let site = Site::new();
    let request = |proxies: &str| {
        let request = Cgi::new("app", &site).variable("PATH_INFO", "/proxy");
        let request = request.variable("CGI_SESSION_TRUSTED_PROXIES", proxies);
        let request = request.variable("REMOTE_ADDR", "10.0.0.1");
        request.variable("HTTP_X_FORWARDED_PROTO", "https").run()
    };
    let answer = request("10.0.0.0/33").expect_complete("by http\n");
    let told = "no proxy is trusted: environment CGI_SESSION_TRUSTED_PROXIES";
    holds(answer.stderr, told);
    request("10.0.0.0/8").expect_complete("by https\n");
}
