//! One operation on a real ext4 whose power goes before each of its calls.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use cgi_session::{SessionId, SessionManager};

use crate::trace::Traced;
use crate::verdict::{DAMAGE, Inspection, Kind, Operation, State, cookie, letter};
use testkit::disk::{Cut, Ext4, Room};
use testkit::example;

const BYSTANDER: State = State { n: 7, length: 0 };

/// The sessions of a directory in which an operation is to be done.
pub(crate) struct Scene {
    operation: Operation,
    kind: Kind,
    /// The session that the operation is done to.
    id: SessionId,
    bystander: SessionId,
    gone: SessionId,
}

/// A scene on a disk, as it was written for good.
pub(crate) struct Prepared {
    scene: Scene,
    disk: Ext4,
}

/// How often the power was cut, and what was wrong afterwards.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) cuts: usize,
    pub(crate) violations: Vec<String>,
}

impl Scene {
    pub(crate) fn set(operation: Operation, kind: Kind, directory: &Path) -> Self {
        let manager = kind.manager(directory);
        let bystander = begin(&manager, BYSTANDER, None);
        let gone = begin(&manager, State { n: 9, length: 0 }, None);
        manager.start(cookie(&gone)).unwrap().destroy().unwrap();
        let expired = State { n: 1, length: 0 };
        let user = (operation.name == "destroy everywhere").then_some("ada");
        let id = match operation.name {
            "begin" => SessionId::generate().unwrap(),
            _ => begin(&manager, operation.before.unwrap_or(expired), user),
        };
        let path = directory.join(format!("{}.json", id.digest()));
        if operation.name == "set aside" {
            fs::write(&path, DAMAGE).unwrap();
        }
        if operation.name == "clean up" {
            set_back(&path);
            let temporary = directory.join(".tmp-4711-0123456789abcdef");
            fs::write(&temporary, "half a session").unwrap();
            set_back(&temporary);
        }
        Scene {
            operation,
            kind,
            id,
            bystander,
            gone,
        }
    }

    /// Starts the operation, which stops before it begins.
    pub(crate) fn start(&self, directory: &Path) -> Traced {
        let id = (self.operation.name != "begin").then_some(&self.id);
        start(self.operation.name, self.kind, directory, id)
    }

    /// What is wrong with what is found; `said` is what the operation said at its end, if it came so far.
    pub(crate) fn violations(&self, directory: &Path, said: Option<&str>) -> Vec<String> {
        let mut inspection = Inspection::new(self.kind, directory);
        if self.operation.name == "set aside" {
            inspection.expect_damage_kept(&self.id);
        }
        inspection.expect_operation(&self.operation, &self.id, said);
        inspection.expect("the bystander", &self.bystander, &[Some(BYSTANDER)]);
        inspection.expect("the one destroyed before", &self.gone, &[None]);
        inspection.expect_use(&self.id);
        inspection.expect_clean_up();
        inspection.violations
    }
}

impl Prepared {
    pub(crate) fn new(room: &Room, operation: Operation, kind: Kind) -> Self {
        let image = room.path().join("image");
        let disk = Ext4::format(&image, &room.path().join("disk"), &[]);
        disk.mount();
        let scene = Scene::set(operation, kind, &sessions(&disk));
        disk.unmount();
        Prepared { scene, disk }
    }

    /// Cuts the power before each call of the operation, and behind the last one.
    pub(crate) fn cut_everywhere(&self, cut: Cut, options: &str) -> Findings {
        let mut findings = Findings::default();
        loop {
            let (is_done, violations) = self.cut_before(findings.cuts, cut, options);
            let place = format!("{options}, {cut:?}, cut {}", findings.cuts);
            let told = violations
                .into_iter()
                .map(|what| format!("{place}: {what}"));
            findings.violations.extend(told);
            findings.cuts += 1;
            if is_done {
                return findings;
            }
        }
    }

    fn cut_before(&self, calls: usize, cut: Cut, options: &str) -> (bool, Vec<String>) {
        let disk = self.disk.copy(options);
        disk.mount();
        let mut traced = self.scene.start(&sessions(&disk));
        let has_ended = (0..=calls).any(|_| traced.next().is_none());
        disk.cut(cut);
        let said = has_ended.then(|| traced.said());
        disk.unmount();

        disk.mount();
        let violations = self.scene.violations(&sessions(&disk), said.as_deref());
        disk.unmount();
        (has_ended, violations)
    }
}

fn sessions(disk: &Ext4) -> PathBuf {
    disk.place().join("sessions")
}

pub(crate) fn start(
    operation: &str,
    kind: Kind,
    directory: &Path,
    id: Option<&SessionId>,
) -> Traced {
    let mut command = Command::new(example("operation"));
    command.arg(operation).arg(directory);
    command.args([kind.durability, &kind.store()]);
    command.args(id.map(SessionId::secret));
    command.env("OPERATION_STOPS", "1");
    Traced::start(command)
}

/// A session whose file holds an older record beside this one.
pub(crate) fn begin(manager: &SessionManager, state: State, user: Option<&str>) -> SessionId {
    let mut session = manager.start("").unwrap();
    session.set_user(user).unwrap();
    for n in [state.n + 2, state.n] {
        session.insert("n", n).unwrap();
        let text = letter(n).repeat(state.length);
        session.insert("x", text).unwrap();
        session.save().unwrap();
    }
    session.id().unwrap().clone()
}

fn set_back(path: &Path) {
    let file = fs::File::options().write(true).open(path).unwrap();
    let past = SystemTime::now() - Duration::from_secs(3 * 3600);
    file.set_modified(past).unwrap();
}
