//! A request whose handler holds its session until it is told to go on.

use std::process::ChildStderr;

use crate::prelude::*;

use crate::program::piped;

pub struct Holding {
    pub child: Child,
    stderr: BufReader<ChildStderr>,
}

impl Holding {
    /// Sends a request of this visitor, or of nobody, and returns when its handler has the session.
    pub fn start(site: &Site, visitor: Option<&str>, further: &[(&str, &str)]) -> Self {
        let mut request = Cgi::new("misbehave", site).query("mode=hold");
        if let Some(id) = visitor {
            request = request.visitor(id);
        }
        let mut command = request
            .method("POST")
            .variable("CONTENT_LENGTH", "1")
            .command();
        command.envs(further.iter().copied());
        let mut child = piped(&mut command);
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        stderr.read_line(&mut line).unwrap();
        assert_eq!(line, "holding\n");
        Holding { child, stderr }
    }

    /// Lets the handler end.
    #[track_caller]
    pub fn end(mut self) -> Outcome {
        self.child.stdin.take().unwrap().write_all(b"x").unwrap();
        let mut answer = Outcome::of(self.child);
        self.stderr.read_to_string(&mut answer.stderr).unwrap();
        answer
    }
}
