//! [`Workshop`]: where the peers' programs are built and installed, below `target/peers`.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::debian::{self, said};
use crate::measured::{Outcome, build};
use crate::peer::Peer;
use crate::settings::Settings;

/// A peer that can be measured.
pub(crate) struct Installed {
    pub(crate) peer: Peer,
    pub(crate) version: String,
    pub(crate) serving: Serving,
    /// What Apache runs for each request.
    pub(crate) cgi: Option<PathBuf>,
    /// What deletes expired sessions, with its arguments.
    pub(crate) clean_up: Option<(PathBuf, Vec<String>)>,
}

/// How a peer serves many requests.
pub(crate) enum Serving {
    /// One process takes connections from descriptor 0, and has threads.
    Threads(PathBuf),
    /// Each of several processes does.
    Processes(PathBuf, Option<PathBuf>),
    /// Masters that start their workers themselves.
    PhpFpm(PathBuf),
    Gunicorn(PathBuf, &'static str),
}

pub(crate) struct Workshop {
    directory: PathBuf,
}

impl Workshop {
    pub(crate) fn open() -> Outcome<Self> {
        let workshop = Workshop {
            directory: build::target_directory().join("peers"),
        };
        fs::create_dir_all(workshop.programs())?;
        Ok(workshop)
    }

    /// The chosen peers, without those that cannot be had.
    pub(crate) fn install(&self, settings: &Settings) -> Vec<Installed> {
        let mut installed = Vec::new();
        for peer in Peer::ALL.into_iter().filter(|it| settings.wants_peer(*it)) {
            match self.install_one(peer) {
                Ok(peer) => installed.push(peer),
                Err(error) => eprintln!("left out: {}: {error}", peer.name()),
            }
        }
        installed
    }

    fn install_one(&self, peer: Peer) -> Outcome<Installed> {
        match peer {
            Peer::Ours => self.ours(),
            Peer::C | Peer::Unlocked | Peer::Torn => self.c(peer),
            Peer::Php => self.php(),
            Peer::Perl => self.perl(),
            Peer::CherryPy => self.python(peer, "cherrypy_counter", "CherryPy", "clean-up"),
            Peer::Django => self.python(peer, "django_counter", "Django", "clearsessions"),
            Peer::Gorilla => self.gorilla(),
            Peer::Tower => self.tower(),
        }
    }

    /// Where programs are copied to; Apache runs them there.
    fn programs(&self) -> PathBuf {
        self.directory.join("programs")
    }

    fn ours(&self) -> Outcome<Installed> {
        let page_views = "--package cgi-session --example page_views --features dlmalloc";
        let tool = "--package cgi-session-tools --bin cgi-session-cleanup";
        let server = build::release(page_views, None)?.join("examples/page_views");
        let (kind, target) = if build::can_be_static()? {
            ("static", Some(build::STATIC))
        } else {
            ("glibc", None)
        };
        let built = build::release(page_views, target)?.join("examples/page_views");
        let cgi = self.copy(&built, "ours")?;
        let clean_up = build::release(tool, target)?.join("cgi-session-cleanup");
        let version = env!("CARGO_PKG_VERSION");
        Ok(Installed {
            peer: Peer::Ours,
            version: format!("{version}; FastCGI glibc, CGI and clean-up {kind}"),
            serving: Serving::Threads(server),
            cgi: Some(cgi),
            clean_up: Some((clean_up, Vec::new())),
        })
    }

    /// The floor, or what is broken of it on purpose.
    pub(crate) fn c(&self, peer: Peer) -> Outcome<Installed> {
        debian::need(&[
            ("gcc", "gcc"),
            ("/usr/include/fcgi_stdio.h", "libfcgi-dev"),
            // With the same C library as ours.
            ("musl-gcc", "musl-tools"),
        ])?;
        let compile = |compiler: &str, name: &str, options: &[&str]| {
            let built = self.directory.join(name);
            let mut gcc = Command::new(compiler);
            gcc.args(["-O2", "-o"]).arg(&built);
            gcc.arg(source("floor.c")).args(options);
            said(&mut gcc)?;
            self.copy(&built, name)
        };
        let fastcgi = match peer {
            Peer::Unlocked => compile("gcc", "unlocked", &["-DNO_LOCK", "-lfcgi"]),
            Peer::Torn => compile("gcc", "torn", &["-DTORN", "-lfcgi"]),
            _ => compile("gcc", "c-fastcgi", &["-lfcgi"]),
        };
        let version = debian::version("libfcgi-dev").unwrap_or_default();
        Ok(Installed {
            peer,
            version: format!("libfcgi {version}; CGI static with musl, without it"),
            serving: Serving::Processes(fastcgi?, None),
            cgi: Some(compile("musl-gcc", "c", &["-DPLAIN_CGI", "-static"])?),
            clean_up: None,
        })
    }

    fn php(&self) -> Outcome<Installed> {
        debian::need(&[("php-cgi", "php-cgi"), ("php", "php-cli")])?;
        let fpm = || {
            let versions = (1..=9).rev().map(|minor| format!("php-fpm8.{minor}"));
            let mut names = versions.chain(["php-fpm".to_owned()]);
            names.find_map(|name| debian::find(&name))
        };
        if fpm().is_none() {
            debian::need(&[("php-fpm", "php-fpm")])?;
        }
        let php = debian::find("php").ok_or("php not installed")?;
        let interpreter = debian::find("php-cgi").ok_or("php-cgi not installed")?;
        Ok(Installed {
            peer: Peer::Php,
            version: said(Command::new(&php).args(["-r", "echo PHP_VERSION;"]))?,
            serving: Serving::PhpFpm(fpm().ok_or("php-fpm not installed")?),
            cgi: Some(self.script("php", "counter.php", &interpreter)?),
            clean_up: Some((php, vec![source("clean_up.php").display().to_string()])),
        })
    }

    fn perl(&self) -> Outcome<Installed> {
        debian::need(&[
            ("perl", "perl"),
            ("/usr/share/perl5/CGI/Session.pm", "libcgi-session-perl"),
            ("/usr/share/perl5/CGI/Fast.pm", "libcgi-fast-perl"),
        ])?;
        let perl = debian::find("perl").ok_or("perl not installed")?;
        let script =
            "printf '%vd, CGI::Session %s, FCGI %s', $^V, CGI::Session->VERSION, FCGI->VERSION";
        let version = said(Command::new(&perl).args(["-MCGI::Session", "-MFCGI", "-e", script]))?;
        Ok(Installed {
            peer: Peer::Perl,
            version,
            serving: Serving::Processes(perl.clone(), Some(source("counter.pl"))),
            cgi: Some(self.script("perl", "counter.pl", &perl)?),
            clean_up: Some((perl, vec![source("clean_up.pl").display().to_string()])),
        })
    }

    fn python(
        &self,
        peer: Peer,
        module: &'static str,
        package: &str,
        clean_up: &str,
    ) -> Outcome<Installed> {
        let python = self.virtual_environment()?;
        let file = format!("{module}.py");
        let cgi = self.script(module, &file, &python)?;
        for name in [file.as_str(), "visitor.py"] {
            fs::copy(source(name), self.programs().join(name))?;
        }
        // Who runs the programs may not write there.
        let mut compiler = Command::new(&python);
        compiler.args(["-m", "compileall", "-q"]);
        said(compiler.arg(self.programs()))?;
        let script = format!(
            "import platform; from importlib.metadata import version as v\n\
             print(platform.python_version(), '{package}', v('{package}'), 'gunicorn', v('gunicorn'))"
        );
        let module_file = self.programs().join(&file).display().to_string();
        Ok(Installed {
            peer,
            version: said(Command::new(&python).args(["-c", &script]))?,
            serving: Serving::Gunicorn(python.with_file_name("gunicorn"), module),
            cgi: Some(cgi),
            clean_up: Some((python, vec![module_file, clean_up.to_owned()])),
        })
    }

    /// Python with what the peers need, in a directory of its own.
    fn virtual_environment(&self) -> Outcome<PathBuf> {
        let system = "/usr/bin/python3";
        debian::need(&[(system, "python3")])?;
        let python = self.directory.join("python/bin/python");
        if !debian::may_install() {
            let packages = "import cherrypy, django, gunicorn";
            let found = Command::new(&python).args(["-c", packages]).output();
            return match found {
                Ok(found) if found.status.success() => Ok(python),
                _ => Err(debian::not_installed("CherryPy, Django or gunicorn")),
            };
        }
        if !python.exists() {
            if said(Command::new(system).args(["-c", "import ensurepip"])).is_err() {
                debian::install(&["python3-venv".to_owned()]);
            }
            let directory = self.directory.join("python");
            said(Command::new(system).args(["-m", "venv"]).arg(directory))?;
        }
        let pip = "-m pip install --quiet --disable-pip-version-check --requirement";
        let mut install = Command::new(&python);
        said(install.args(pip.split(' ')).arg(source("requirements.txt")))?;
        Ok(python)
    }

    fn gorilla(&self) -> Outcome<Installed> {
        let library = "/usr/share/gocode/src/github.com/gorilla/sessions/store.go";
        let package = "golang-github-gorilla-sessions-dev";
        debian::need(&[("go", "golang-go"), (library, package)])?;
        let built = self.directory.join("gorilla");
        let mut go = Command::new("go");
        go.args(["build", "-o"]).arg(&built);
        // Debian's libraries are no modules.
        go.env("GO111MODULE", "off");
        go.env("GOPATH", "/usr/share/gocode");
        said(go.arg(source("gorilla/main.go")))?;
        let program = self.copy(&built, "gorilla")?;
        let compiler = said(Command::new("go").arg("version"))?;
        Ok(Installed {
            peer: Peer::Gorilla,
            version: format!("{}, {compiler}", debian::version(package)?),
            serving: Serving::Threads(program.clone()),
            cgi: Some(program),
            clean_up: None,
        })
    }

    fn tower(&self) -> Outcome<Installed> {
        let manifest = source("tower/Cargo.toml");
        let target = self.directory.join("tower");
        let mut cargo = build::cargo("--locked --manifest-path");
        cargo.arg(&manifest);
        if !debian::may_install() {
            cargo.arg("--offline");
        }
        let built = said(cargo.arg("--target-dir").arg(&target).stdin(Stdio::null()));
        built.map_err(|_| debian::not_installed("tower-sessions"))?;
        let program = target.join("release/tower-counter");
        let lock = fs::read_to_string(manifest.with_file_name("Cargo.lock"))?;
        let version = |name: &str| -> Option<String> {
            let (_, package) = lock.split_once(&format!("name = \"{name}\"\nversion = \""))?;
            Some(format!("{name} {}", package.split_once('"')?.0))
        };
        let names = ["tower-sessions", "tower-sessions-file-based-store", "axum"];
        Ok(Installed {
            peer: Peer::Tower,
            version: names
                .map(|name| version(name).unwrap_or_default())
                .join(", "),
            serving: Serving::Threads(program.clone()),
            cgi: None,
            clean_up: Some((program, vec!["clean-up".to_owned()])),
        })
    }

    /// Installs a program: a file that was copied is faster to start than one that a linker wrote.
    fn copy(&self, built: &Path, name: &str) -> Outcome<PathBuf> {
        let program = self.programs().join(name);
        fs::copy(built, &program)?;
        Ok(program)
    }

    /// A program of a scripting language that the system can execute.
    fn script(&self, name: &str, file: &str, interpreter: &Path) -> Outcome<PathBuf> {
        let program = self.programs().join(name);
        let text = fs::read_to_string(source(file))?;
        fs::write(&program, format!("#!{}\n{text}", interpreter.display()))?;
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
        Ok(program)
    }
}

/// A file of the peers' programs.
pub(crate) fn source(name: &str) -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.join("benches/peers/programs").join(name)
}
