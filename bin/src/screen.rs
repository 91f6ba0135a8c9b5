//! [`Screen`]: how text looks on a terminal, and that it is left as it is everywhere else.

use std::env;
use std::io::{self, IsTerminal as _};

const COLUMNS: usize = 80;

/// A colour, as a terminal takes it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Colour {
    Red = 31,
    Green = 32,
    Yellow = 33,
}

/// Where text goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Screen {
    pub(crate) is_terminal: bool,
    has_colours: bool,
}

impl Screen {
    /// Where stdout leads. <https://no-color.org> says when there are no colours.
    pub(crate) fn of_stdout() -> Self {
        let is_terminal = io::stdout().is_terminal();
        let is_unwanted = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let is_dumb = env::var_os("TERM").is_some_and(|name| name == "dumb");
        Screen {
            is_terminal,
            has_colours: is_terminal && !is_unwanted && !is_dumb,
        }
    }

    pub(crate) fn painted(self, text: &str, colour: Colour) -> String {
        if self.has_colours {
            format!("\u{1b}[{}m{text}\u{1b}[0m", colour as u8)
        } else {
            text.to_owned()
        }
    }

    /// A text as lines that fit behind so many columns; on no terminal it is one.
    pub(crate) fn wrapped(self, text: &str, indent: usize) -> Vec<String> {
        if !self.is_terminal {
            return vec![text.to_owned()];
        }
        let mut lines: Vec<String> = Vec::new();
        for word in text.split(' ') {
            match lines.last_mut() {
                Some(line) if indent + width(line) + 1 + width(word) <= COLUMNS => {
                    line.push(' ');
                    line.push_str(word);
                }
                _ => lines.push(word.to_owned()),
            }
        }
        lines
    }
}

/// A text in at most so many columns.
pub(crate) fn cut(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    text.chars().take(columns - 1).chain(['…']).collect()
}

fn width(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_wrapped_and_painted_on_a_terminal_alone() {
        let on = |is_terminal| Screen {
            is_terminal,
            has_colours: is_terminal,
        };
        let long = format!("{} {} end", "a".repeat(39), "b".repeat(40));
        assert_eq!(on(false).wrapped(&long, 9), [long.as_str()]);
        assert_eq!(on(true).wrapped(&long, 0)[0].len(), 80);
        assert_eq!(on(true).wrapped(&long, 9).len(), 2);
        assert_eq!(on(false).painted("ok", Colour::Green), "ok");
        assert_eq!(
            on(true).painted("ok", Colour::Green),
            "\u{1b}[32mok\u{1b}[0m"
        );
        assert_eq!([cut("ada", 3), cut("b\u{fc}cher", 4)], ["ada", "b\u{fc}c…"]);
    }
}
