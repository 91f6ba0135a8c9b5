//! `cgi-session serve`: a directory of one's own CGI programs and files behind a small server.

use std::process::ChildStdout;
use std::sync::mpsc::{Receiver, channel};

use cgi_session_tools::serve::Storage;
use testkit::outside::send_to;
use testkit::prelude::*;
use testkit::tools::{Site, set_mode};

/// A running server, ended with the test.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: String,
    pub(crate) first_page: String,
    output: Receiver<String>,
    site: Site,
}

impl Server {
    fn start() -> Self {
        let site = Site::new();
        let programs = site.parent().join("programs");
        fs::create_dir_all(programs.join("shop/.hidden")).unwrap();
        for name in ["begin", "two words"] {
            fs::create_dir(programs.join(name)).unwrap();
        }
        fs::create_dir_all(site.parent().join("documents/about")).unwrap();
        let script = "#!/bin/sh\nprintf 'Status: 201 Created\\nContent-Type: text/plain\\n\\n'\n\
                      echo \"$SCRIPT_NAME|$PATH_INFO|$QUERY_STRING|$CGI_SESSION_STORAGE_FILE_DIR|$(cat)\"\n";
        let shown = "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\n'; env\n";
        let loud = "#!/bin/sh\necho 'no <database>' >&2\n";
        let bodiless = "#!/bin/sh\nprintf 'Status: %s\\nContent-Type: text/plain\\nContent-Length: 8\\n\\nleft out' $QUERY_STRING\n";
        let detached = format!("{loud}sleep 600 > /dev/null &\necho $! > child\n");
        for (name, text, mode) in [
            ("show", script, 0o755),
            ("shop/index.cgi", script, 0o755),
            ("shop/page.html", "<p>A page", 0o644),
            ("shop/basket.js", script, 0o755),
            ("begin/index.html", script, 0o755),
            ("shop/.hidden/notes.txt", "secret", 0o644),
            ("source.py", "print('secret')", 0o644),
            ("environment", shown, 0o755),
            ("silent", "#!/bin/sh\n", 0o755),
            ("loud", &format!("{loud}exit 3\n"), 0o755),
            ("detached", &detached, 0o755),
            ("without-body", bodiless, 0o755),
            ("my page.cgi", script, 0o755),
            ("shop/100%+é", script, 0o755),
            ("two words/a b.txt", "spaces", 0o644),
            ("no program", "secret", 0o644),
            ("../documents/about/index.html", "<p>About", 0o755),
            ("../documents/show", "secret", 0o755),
            ("../documents/tool", "secret", 0o755),
        ] {
            fs::write(programs.join(name), text).unwrap();
            set_mode(&programs.join(name), mode);
        }
        Server::of(site, &programs)
    }

    /// Serves these programs with the sessions of a site.
    pub(crate) fn of(site: Site, programs: &Path) -> Self {
        let mut command = site.about("serve");
        command.env("GIVEN", "here").env("KEPT_BACK", "here");
        let file = site.nothing_set();
        command.current_dir(site.parent());
        command.env("CGI_SESSION_CONFIG", file.file_name().unwrap());
        command.args("--env GIVEN --env REMOTE_USER=ada=1 --env EMPTY=".words());
        command.args(["--port", "0", "--programs"]).arg(programs);
        let documents = site.parent().join("documents");
        if documents.exists() {
            command.arg("--documents").arg(documents);
        }
        let errors = File::create(site.parent().join("errors")).unwrap();
        command.stdout(Stdio::piped()).stderr(errors);
        let mut child = command.spawn().unwrap();
        let output = lines(child.stdout.take().unwrap());
        let greeting: String = (0..3).map(|_| next(&output)).collect();
        let directory = site.directory.to_str().unwrap();
        assert!(greeting.contains(directory), "{greeting}");
        let (_, url) = greeting.split_once("http://").unwrap();
        let (address, page) = url.split_once('/').unwrap();
        let (address, first_page) = (address.to_owned(), page.split(' ').next().unwrap().into());
        Server {
            child,
            address,
            first_page,
            output,
            site,
        }
    }

    /// The next line that it prints.
    pub(crate) fn line(&self) -> String {
        next(&self.output)
    }

    /// The whole answer to a request, which may have header fields of its own behind the target.
    fn ask(&self, request: &str, body: &str) -> String {
        self.ask_with(request, "", body)
    }

    fn ask_with(&self, request: &str, fields: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let (address, length) = (&self.address, body.len());
        let head = format!(
            "{request} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{fields}Content-Length: {length}\r\n\r\n{body}"
        );
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    #[track_caller]
    fn answers(&self, request: &str, status: &str, text: &str) {
        let answer = self.ask(request, "");
        let begins = answer.starts_with(&format!("HTTP/1.1 {status} "));
        assert!(begins, "{request}: {answer}");
        assert!(answer.contains(text), "{request}: {answer}");
        assert!(!answer.contains("secret"), "{request}: {answer}");
    }
}

/// The lines that a program prints, read by a thread of their own.
fn lines(output: ChildStdout) -> Receiver<String> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            // A test that has ended wants none.
            let _ = sender.send(line + "\n");
        }
    });
    receiver
}

#[track_caller]
fn next(lines: &Receiver<String>) -> String {
    lines.recv_timeout(DEADLINE).expect("a line")
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

#[test]
fn a_status_without_a_body_has_none_and_no_length() {
    let server = Server::start();
    for status in ["204", "205", "304"] {
        let answer = server.ask(&format!("GET /without-body?{status}"), "");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
        assert!(!answer.contains("left out"), "{answer}");
        let head = head.to_lowercase();
        let lacks = |name: &str| !head.contains(name);
        assert!(
            lacks("content-length: 8") && lacks("content-type"),
            "{head}"
        );
        assert!(["", "0\r\n\r\n"].contains(&body), "{answer}");
    }
}

#[test]
fn executable_files_are_programs_that_find_the_sessions() {
    let server = Server::start();
    let directory = server.site.directory.display();
    let answer = server.ask("POST /show/a%20b?c=d", "the body");
    assert!(answer.starts_with("HTTP/1.1 201 Created\r\n"), "{answer}");
    let seen = format!("/show|/a b|c=d|{directory}|the body\n");
    assert!(answer.contains(&seen), "{answer}");
    server.answers("GET /cgi-bin/show", "201", "/cgi-bin/show||");
    server.answers("GET /shop/", "201", "/shop/||");
    server.answers("GET /show/a//b", "201", "/show|/a//b|");
    server.answers("GET /shop/basket.js", "201", "/shop/basket.js||");
    server.answers("GET /begin/", "201", "/begin/||");
    server.answers("GET /shop", "301", "location: /shop/\r\n");
    server.answers("GET /shop?a=b", "301", "location: /shop/?a=b\r\n");
    server.answers("GET /silent", "502", "gave no answer");
}

#[test]
fn programs_get_of_the_environment_what_the_command_line_names() {
    let server = Server::start();
    assert_eq!(server.first_page, "detached");
    let answer = server.ask("GET /environment", "");
    let lines = "GIVEN=here REMOTE_USER=ada=1 EMPTY= PATH= REQUEST_METHOD=GET";
    for line in lines.split(' ') {
        assert!(answer.contains(&format!("\n{line}")), "{line}: {answer}");
    }
    assert!(!answer.contains("KEPT_BACK"), "{answer}");
    // They run in another directory than this command.
    let config = format!(
        "\nCGI_SESSION_CONFIG={}\n",
        server.site.nothing_set().display()
    );
    assert!(answer.contains(&config), "{answer}");
    let arguments = "serve --programs . --env ABSENT";
    server.site.refuses(arguments, 2, "write NAME=VALUE");
}

#[test]
fn names_are_decoded_and_none_leads_out_of_the_directory() {
    let server = Server::start();
    server.answers("GET /my%20page.cgi/a+b%2Fc", "201", "/my page.cgi|/a+b/c|");
    server.answers("GET /%73how", "201", "/show||");
    server.answers("GET /shop/100%25+%C3%A9", "201", "/shop/100%+é||");
    server.answers("GET /two%20words", "301", "location: /two%20words/\r\n");
    server.answers("GET /two%20words/a%20b.txt", "200", "spaces");
    server.answers("GET /no%20program", "403", "chmod +x 'no program'");
    let paths = "/%2e%2e/nothing.ini /%2E%2E%2Fnothing.ini /shop%2Fpage.html /shop/%2ehidden/notes.txt \
        /my+page.cgi /shop/..%2f..%2fnothing.ini /show%00 /show%0a /shop/%2e%2e/show /%2fetc/passwd \
        /shop/%2e/page.html /show%";
    for path in paths.split(' ').filter(|path| !path.is_empty()) {
        server.answers(&format!("GET {path}"), "404", "Not Found");
    }
}

#[test]
fn each_request_is_a_line_and_what_a_program_says_on_stderr_is_on_the_page_of_its_failure() {
    let server = Server::start();
    server.answers("GET /loud", "502", "<pre>no &lt;database&gt;\n</pre>");
    let errors = fs::read_to_string(server.site.parent().join("errors")).unwrap();
    assert!(errors.contains("no <database>\n"), "{errors}");
    server.ask("POST /show/a%0Ab?c=d", "the body");
    for (status, request) in [
        ("502 ", "-  GET /loud\n"),
        ("201 ", "-  POST /show/a%0Ab\n"),
    ] {
        let line = server.line().replace("           ", "");
        let is_it = line.starts_with(status) && line.ends_with(request);
        assert!(is_it, "{line}");
    }
}

#[test]
fn stderr_that_another_process_keeps_open_is_on_the_page_all_the_same() {
    let server = Server::start();
    server.answers("GET /detached", "502", "<pre>no &lt;database&gt;\n</pre>");
    let child = fs::read_to_string(server.site.parent().join("programs/child")).unwrap();
    let child = Pid::from_raw(child.trim().parse().unwrap()).unwrap();
    send_to(child, Signal::KILL);
}

#[test]
fn a_session_is_shown_whichever_of_several_cookie_fields_names_it() {
    let server = Server::start();
    let stored = server.site.session();
    let dead = "a".repeat(40);
    let fields = format!(
        "Cookie: sessionId={dead}\r\nCookie: {}\r\n",
        stored.cookie()
    );
    server.ask_with("GET /show", &fields, "");
    let line = server.line();
    assert!(line.contains(&stored.digest()[..12]), "{line}");
}

#[test]
fn the_address_that_is_printed_is_that_of_a_document_where_there_is_one() {
    let site = Site::new();
    let [programs, documents] = ["programs", "documents"].map(|name| site.parent().join(name));
    for (directory, name) in [(&programs, "show"), (&documents, "index.html")] {
        fs::create_dir(directory).unwrap();
        fs::write(directory.join(name), "<p>Home").unwrap();
    }
    set_mode(&programs.join("show"), 0o755);
    let server = Server::of(site, &programs);
    assert_eq!(server.first_page, "");
    server.answers("GET /", "200", "<p>Home");
}

#[test]
fn documents_are_looked_for_after_the_programs_and_never_run() {
    let server = Server::start();
    server.answers("GET /about", "301", "location: /about/\r\n");
    server.answers("GET /about/", "200", "<p>About");
    server.answers("GET /show", "201", "/show||");
    server.answers("GET /tool", "403", "tool is not served");
    let missing = server.site.parent().join("missing");
    let programs = server.site.parent().to_str().unwrap();
    let missing = missing.to_str().unwrap();
    let arguments = ["serve", "--programs", programs, "--documents", missing];
    server.site.refuses(arguments, 1, "--documents");
}

#[test]
fn the_directory_on_the_command_line_is_made_before_the_first_request() {
    let site = Site::new();
    fs::remove_dir(&site.directory).unwrap();
    let mut command = site.about("serve");
    command.args(["--port", "0", "--storage-file-dir"]);
    command.arg(&site.directory).arg("--programs");
    command.arg(site.parent()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    next(&lines(child.stdout.take().unwrap()));
    child.kill().unwrap();
    child.wait().unwrap();
    let mode = fs::metadata(&site.directory).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[test]
fn known_kinds_of_files_are_served_and_nothing_else_is() {
    let server = Server::start();
    server.answers("GET /shop/page.html", "200", "<p>A page");
    server.answers("HEAD /shop/page.html", "200", "text/html");
    server.answers("POST /shop/page.html", "405", "allow: GET, HEAD");
    server.answers("GET /source.py", "403", "chmod +x source.py");
    let programs = server.site.parent().join("programs");
    symlink("/bin/sh", programs.join("link")).unwrap();
    let paths = "/ /absent /shop/.hidden/notes.txt /../nothing.ini /link /../show //show /. \
        /shop/../show /.htaccess";
    for path in paths.split(' ') {
        server.answers(&format!("GET {path}"), "404", "Not Found");
    }
}

#[test]
fn a_site_that_cannot_be_served_is_an_error_that_says_what_to_do() {
    let site = Site::new();
    let missing = site.parent().join("missing");
    let missing = missing.to_str().unwrap();
    site.refuses("serve", 2, "--programs");
    site.refuses(["serve", "--programs", missing], 1, "No such file");
    let programs = site.parent().to_str().unwrap();
    let arguments = ["serve", "--port", "0", "--programs", programs];
    let refused = site.run_under("", arguments).exits_with(1);
    refused.complains("; or pass --storage-file-dir DIR or --config FILE");
    let server = Server::start();
    let port = server.address.rsplit(':').next().unwrap();
    let refused = site.run(["serve", "--programs", programs, "--port", port]);
    refused.exits_with(1).complains("--port 8081");
}

#[test]
fn a_directory_of_the_command_line_is_used_whatever_store_the_configuration_names() {
    let site = Site::new();
    let file = site.configuration("storageType = cookie");
    let storage = Storage::find(Some(&file), Some(&site.directory)).unwrap();
    assert_eq!(storage.config().get("storageType").unwrap(), "file");
    let mut variables = storage.variables();
    let is_told = |(name, value)| name == "CGI_SESSION_STORAGE_TYPE" && value == "file";
    assert!(variables.any(is_told));
}
