//! Who may log in: two people for the demonstration, each with the hash of a password.

use argon2::{Argon2, PasswordVerifier as _};

/// Argon2id in the form that names its own parameters, each with a random salt.
const USERS: [(&str, &str); 2] = [
    (
        "ada",
        "$argon2id$v=19$m=19456,t=2,p=1$JUH8S/TEzey+UNvy2F3w2w$SUEaBLMydXOtrp5GxgiZHyQJJH4HqbA3v5gMXuFkrcY",
    ),
    (
        "charles",
        "$argon2id$v=19$m=19456,t=2,p=1$4d1swC9BagPTXBkEjK4ECg$+63VLKeOy2+5yM9T31CoJqHOwbOzMjWsMJStZo+uDJU",
    ),
];
/// Of a random password, with the same parameters, for names without an account.
const NO_ACCOUNT: &str = "$argon2id$v=19$m=19456,t=2,p=1$KGyQUJ378JjHD97+PyQxig$JMZCCbKVEJpEueU4vqGa+6/kJgXNtU7Anc/klGF609c";

/// The user of this name, if this is the password.
///
/// The password is hashed for a name without an account, too: the time of an answer does not tell
/// which names have one. The hashes themselves are compared in constant time.
pub(crate) fn check(name: &str, password: &str) -> Option<&'static str> {
    let known = USERS.iter().find(|(known, _)| *known == name);
    let hash = known.map_or(NO_ACCOUNT, |(_, hash)| *hash);
    let verified = Argon2::default().verify_password(password.as_bytes(), hash);
    known.filter(|_| verified.is_ok()).map(|(user, _)| *user)
}
