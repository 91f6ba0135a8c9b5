//! `rediss+cluster://`: every node must be one for whom the certificates vouch.

use crate::counting::{Counter, store_at};
use testkit::certificates::Certificates;
use testkit::prelude::*;
use testkit::redis_cluster::RedisCluster;

#[test]
fn the_nodes_of_a_cluster_are_spoken_to_with_tls() {
    let Some(certificates) = Certificates::make() else {
        return;
    };
    let text = |name: &str| certificates.path(name);
    let (certificate, key, authority) = (text("server.pem"), text("server.key"), text("ca.pem"));
    let settings = [
        &[
            "--port",
            "0",
            "--tls-cluster",
            "yes",
            "--tls-replication",
            "yes",
        ][..],
        &["--tls-cert-file", &certificate, "--tls-key-file", &key],
        &["--tls-ca-cert-file", &authority, "--tls-auth-clients", "no"],
    ];
    let Some(cluster) = RedisCluster::with("--tls-port", &settings.concat()) else {
        return;
    };
    let url = format!("rediss+cluster://{}/", cluster.hosts());
    let store = store_at(&url, &[("databaseCaFile", &authority)]);
    for counter in Counter::on_each(&cluster, &store, 2) {
        counter.count(&store).unwrap();
        assert_eq!(counter.value(&store), 1);
    }
    let deceived = store_at(&url, &[("databaseCaFile", &text("other.pem"))]);
    let session = Counter::new(&cluster, &store).session;
    let error = deceived.read(&session, SystemTime::now()).unwrap_err();
    assert_eq!(error.status(), 500);
    says(&error, "check databaseCaFile");
}
