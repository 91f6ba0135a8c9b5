//! What the shop has, and what a visitor has taken of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One frame's part of the shop.
pub(crate) struct Shelf {
    /// As addresses name it.
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) articles: [&'static str; 2],
}

pub(crate) const SHELVES: [Shelf; 2] = [
    Shelf {
        name: "discs",
        title: "Discs",
        articles: ["Goldberg Variations", "Winter Journey"],
    },
    Shelf {
        name: "books",
        title: "Books",
        articles: ["The Time Machine", "Middlemarch"],
    },
];

impl Shelf {
    pub(crate) fn find(name: &str) -> Option<&'static Shelf> {
        SHELVES.iter().find(|shelf| shelf.name == name)
    }

    /// The article of this title, if the shelf has it: a form can name anything.
    pub(crate) fn article(&self, title: &str) -> Option<&'static str> {
        self.articles.into_iter().find(|known| *known == title)
    }
}

/// The session's values that belong to the shop, as `Values::edit` reads and writes them.
#[derive(Default, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct Shop {
    pub(crate) basket: Basket,
}

#[derive(Default, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct Basket {
    /// How many of each article.
    articles: BTreeMap<String, u32>,
    /// How many of its first article each shelf has still to put in when its frame loads.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    wanted: BTreeMap<String, u32>,
}

impl Basket {
    pub(crate) fn add(&mut self, article: &str) {
        self.add_several(article, 1);
    }

    pub(crate) fn remove(&mut self, article: &str) {
        if let Some(number) = self.articles.get_mut(article) {
            *number = number.saturating_sub(1);
        }
        self.articles.retain(|_, number| *number > 0);
    }

    /// Asks every shelf for one of its first article.
    pub(crate) fn want_one_of_each(&mut self) {
        for shelf in &SHELVES {
            let wanted = self.wanted.entry(shelf.name.to_owned()).or_default();
            *wanted = wanted.saturating_add(1);
        }
    }

    /// Puts in what this shelf was asked for, and tells how many that were.
    pub(crate) fn take_wanted(&mut self, from: &Shelf) -> u32 {
        let number = self.wanted.remove(from.name).unwrap_or_default();
        if let ([first, ..], 1..) = (from.articles, number) {
            self.add_several(first, number);
        }
        number
    }

    /// How many articles there are, all together.
    pub(crate) fn number(&self) -> u64 {
        self.articles.values().copied().map(u64::from).sum()
    }

    pub(crate) fn articles(&self) -> impl Iterator<Item = (&str, u32)> {
        let pairs = self.articles.iter();
        pairs.map(|(article, number)| (article.as_str(), *number))
    }

    pub(crate) fn empty(&mut self) {
        *self = Basket::default();
    }

    fn add_several(&mut self, article: &str, more: u32) {
        let number = self.articles.entry(article.to_owned()).or_default();
        *number = number.saturating_add(more);
    }
}
