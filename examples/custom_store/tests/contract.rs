//! The example store keeps what every store keeps.

use cgi_session::store_contract::StoreContract;
use example_store::PlainStore;

fn contract() -> StoreContract {
    let open = StoreContract::new("plain", |config, _| Ok(Box::new(PlainStore::new(&config)?)));
    open.without_cap()
}

#[test]
fn the_store_keeps_the_contract() {
    contract().check();
}

#[test]
fn processes_share_the_store() {
    contract().check_processes("processes_share_the_store");
}
