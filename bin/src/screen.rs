//! [`Screen`]: how text looks on a terminal, and that it is left as it is everywhere else.

use std::env;
use std::io::{self, IsTerminal as _};

use unicode_width::UnicodeWidthStr as _;

const COLUMNS: usize = 80;

/// How a text looks, by the number that a terminal takes for it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Style {
    Bold = 1,
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

    pub(crate) fn painted(self, text: &str, style: Style) -> String {
        if self.has_colours {
            format!("\u{1b}[{}m{text}\u{1b}[0m", style as u8)
        } else {
            text.to_owned()
        }
    }

    /// A text that fits behind so many columns; on no terminal it is whole.
    pub(crate) fn cut(self, text: &str, indent: usize) -> String {
        if self.is_terminal {
            cut(text, COLUMNS - indent)
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
                Some(line) if indent + line.width() + 1 + word.width() <= COLUMNS => {
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
    if text.width() <= columns {
        return text.to_owned();
    }
    let mut short = String::new();
    for letter in text.chars() {
        short.push(letter);
        // What follows a letter may make it wider.
        if short.width() >= columns {
            short.pop();
            break;
        }
    }
    short + "…"
}
