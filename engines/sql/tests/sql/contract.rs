//! The stores in `PostgreSQL` and `MySQL` keep the contract.

use cgi_session::store_contract::StoreContract;
use cgi_session_sql::SqlStore;
use testkit::prelude::*;

use crate::server::{counting_without_lock, shared_url, variable};

/// `None` where the server is not installed.
fn contract(kind: &'static str) -> Option<StoreContract> {
    let url = shared_url(kind)?;
    let at = url.clone();
    let contract = StoreContract::new(kind, move |config: Config, directory: &Path| {
        let config = config.set("database", &at)?;
        let config = config.set("table", table(directory))?;
        Ok(match kind {
            "postgres" => Box::new(SqlStore::postgres(&config)?),
            _ => Box::new(SqlStore::mysql(&config)?),
        })
    });
    let contract = contract.installed_first().with_lock_lease();
    let contract = contract.with_control(move |directory, session| {
        counting_without_lock(kind, &table(directory), session)
    });
    let contract = contract.with_variable(&variable(kind), &url);
    // MySQL knows who has a lock, and does not say.
    Some(match kind {
        "mysql" => contract.without_holders(),
        _ => contract,
    })
}

/// The name of the table that belongs to this directory.
fn table(directory: &Path) -> String {
    let name = directory.file_name().unwrap().to_str().unwrap();
    name.replace('.', "t")
}

#[test]
fn postgres_keeps_the_contract() {
    contract("postgres").iter().for_each(StoreContract::check);
}

#[test]
fn mysql_keeps_the_contract() {
    contract("mysql").iter().for_each(StoreContract::check);
}

#[test]
fn processes_share_postgres_and_without_its_lock_updates_are_lost() {
    if let Some(contract) = contract("postgres") {
        let name = "processes_share_postgres_and_without_its_lock_updates_are_lost";
        contract.check_processes(&format!("contract::{name}"));
    }
}

#[test]
fn processes_share_mysql_and_without_its_lock_updates_are_lost() {
    if let Some(contract) = contract("mysql") {
        let name = "processes_share_mysql_and_without_its_lock_updates_are_lost";
        contract.check_processes(&format!("contract::{name}"));
    }
}
