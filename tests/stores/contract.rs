//! The library's own stores keep the contract.

use cgi_session::store_contract::{StoreContract, count, record};
use cgi_session::{CustomFunctions as _, CustomStore, MemoryStore};
use testkit::prelude::*;

use crate::rows::Rows;

fn file(name: &str, setting: &'static str, value: &'static str) -> StoreContract {
    StoreContract::new(name, move |config, _| {
        Ok(Box::new(FileStore::new(&config.set(setting, value)?)?))
    })
}

fn custom(name: &str, can_list: bool) -> StoreContract {
    let contract = StoreContract::new(name, move |config, directory| {
        let rows = Rows::new(&directory.join("rows"), can_list);
        Ok(Box::new(CustomStore::new(&config, rows)?))
    });
    contract.without_counts().without_cap()
}

#[test]
fn the_file_store_keeps_the_contract() {
    file("file", "shards", "1").check();
}

#[test]
fn the_file_store_keeps_the_contract_in_shards() {
    file("file in shards", "shards", "256").check();
}

#[test]
fn the_file_store_keeps_the_contract_on_a_disk() {
    file("file on a disk", "durability", "data").slow().check();
}

#[test]
fn the_memory_store_keeps_the_contract() {
    let open = StoreContract::new("memory", |config, _| {
        Ok(Box::new(MemoryStore::new(&config)?))
    });
    open.check();
}

#[test]
fn a_custom_store_keeps_the_contract() {
    custom("custom", false).without_listing().check();
}

#[test]
fn a_custom_store_that_can_list_keeps_the_contract() {
    custom("custom with a list", true).check();
}

#[test]
fn a_custom_store_that_compares_versions_keeps_the_contract() {
    let contract = StoreContract::new("custom with versions", |config, directory| {
        let rows = Rows::comparing(&directory.join("rows"));
        Ok(Box::new(CustomStore::new(&config, rows)?))
    });
    contract.without_counts().without_cap().check();
}

#[test]
fn processes_share_a_file_store() {
    file("file", "shards", "1").check_processes("contract::processes_share_a_file_store");
}

#[test]
fn processes_share_a_custom_store_and_without_its_lock_updates_are_lost() {
    let store = custom("custom", false).with_control(|directory, session| {
        let rows = Rows::new(&directory.join("rows"), false);
        let key = session.as_str()[..40].to_owned();
        Box::new(move || count_without_lock(&rows, &key))
    });
    let name = "processes_share_a_custom_store_and_without_its_lock_updates_are_lost";
    store.check_processes(&format!("contract::{name}"));
}

/// As the library does it with the functions, but for the lock.
fn count_without_lock(rows: &Rows, key: &str) {
    let (data, expires) = rows.load(key).unwrap().unwrap();
    let stored = Record::from_json(data.into_bytes()).unwrap();
    let next = record(count(&stored) + 1, SystemTime::now()).to_json();
    rows.save(key, &String::from_utf8(next).unwrap(), expires)
        .unwrap();
}
