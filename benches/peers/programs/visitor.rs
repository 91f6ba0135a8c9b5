//! What is stored of each visitor besides the page views.

pub(crate) const VISITOR: [(&str, &str); 9] = [
    ("name", "Ada Lovelace"),
    ("mail", "ada.lovelace@example.org"),
    ("language", "en-GB,en;q=0.8,fr;q=0.5"),
    (
        "address",
        "12 St James's Square, London SW1Y 4LE, United Kingdom",
    ),
    (
        "basket",
        "4711:1,4712:3,4713:2,4714:1,4715:5,4716:1,4717:2,4718:4",
    ),
    (
        "seen",
        "/,/books,/books/4711,/books/4712,/basket,/books/4713,/basket,/books/4714,/checkout",
    ),
    (
        "agent",
        "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0",
    ),
    ("theme", "dark"),
    ("note", "Please leave the parcel with the neighbours"),
];
