//! The SQLite store keeps the contract.

use cgi_session::store_contract::StoreContract;
use cgi_session_sqlite::SqliteStore;

fn contract(name: &str, durability: &'static str) -> StoreContract {
    StoreContract::new(name, move |config, _| {
        let config = config.set("durability", durability)?;
        Ok(Box::new(SqliteStore::new(&config)?))
    })
}

#[test]
fn the_store_keeps_the_contract() {
    contract("sqlite", "none").check();
}

#[test]
fn the_store_keeps_the_contract_on_a_disk() {
    contract("sqlite on a disk", "data").slow().check();
}

#[test]
fn processes_share_a_store() {
    contract("sqlite", "none").check_processes("contract::processes_share_a_store");
}
