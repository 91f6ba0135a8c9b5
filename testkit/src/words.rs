//! What a program is called with and what it says: a list, or one text.

pub trait Words {
    /// The words of a command line; in a text there are spaces between them.
    fn words(&self) -> Vec<&str>;

    /// What a message has to hold; in a text each `*` is between two of them.
    fn parts(&self) -> Vec<&str> {
        self.words()
    }
}

impl Words for str {
    fn words(&self) -> Vec<&str> {
        self.split_whitespace().collect()
    }

    fn parts(&self) -> Vec<&str> {
        self.split('*').collect()
    }
}

impl Words for [&str] {
    fn words(&self) -> Vec<&str> {
        self.to_vec()
    }
}

impl<const LENGTH: usize> Words for [&str; LENGTH] {
    fn words(&self) -> Vec<&str> {
        self.to_vec()
    }
}

impl Words for Vec<&str> {
    fn words(&self) -> Vec<&str> {
        self.clone()
    }
}

impl<T: Words + ?Sized> Words for &T {
    fn words(&self) -> Vec<&str> {
        (**self).words()
    }

    fn parts(&self) -> Vec<&str> {
        (**self).parts()
    }
}

/// Expects these parts in a text.
#[track_caller]
pub fn holds(text: impl AsRef<str>, parts: impl Words) {
    let text = text.as_ref();
    for part in parts.parts() {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
}
