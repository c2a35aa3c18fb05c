//! Clusters: keys by partition, each node looked after, slots that move.

use kilter_engine::Partition;
use kilter_io::redis::{RedisSettings, rebuild};
use redis::Commands;

use crate::{
    STOP,
    server::{Server, Store, converges, image, projection, wait_for},
};

/// A node of a cluster, without slots.
fn cluster_node(test: &str) -> Option<(Server, RedisSettings)> {
    let server = Server::start(test, &["--cluster-enabled", "yes"])?;
    let settings = RedisSettings {
        cluster: true,
        ..server.settings()
    };
    Some((server, settings))
}

fn cluster_is_well(server: &Server) -> bool {
    let mut command = redis::cmd("CLUSTER");
    let info: String = command.arg("INFO").query(&mut server.connection()).unwrap();
    info.contains("cluster_state:ok")
}

fn node_id(server: &Server) -> String {
    let mut command = redis::cmd("CLUSTER");
    command.arg("MYID").query(&mut server.connection()).unwrap()
}

#[test]
fn a_cluster_of_one_node_converges() {
    let Some((server, settings)) = cluster_node("cluster of one") else {
        return;
    };
    let store = Store::with(200);
    let projection = projection(&settings, Some(&store));
    server.run("CLUSTER ADDSLOTSRANGE 0 16383");
    (1..=50).for_each(|account| projection.offers().offer_image(&store.commit(account)));
    converges(&settings, &store);
    let mut connection = server.connection();
    let found: bool = connection.exists("test:balance:{3}:7:USDT").unwrap();
    assert!(found);
    wait_for("the first full offer", || {
        projection.status().full_offers() == 1
    });
    server.run("FLUSHALL");
    converges(&settings, &store);
    let rebuilt = rebuild(&settings, store.source(), &mut |_| {}).unwrap();
    assert_eq!((rebuilt.rows, rebuilt.written), (200, 0));
    assert!(projection.stop(STOP));
}

#[test]
fn each_node_of_a_cluster_is_looked_after() {
    let Some((first, settings)) = cluster_node("cluster of two") else {
        return;
    };
    let Some((second, _)) = cluster_node("cluster of two") else {
        return;
    };
    // Of the partitions 0 to 3 of the balances, 0 and 1 are on the second node.
    first.run("CLUSTER ADDSLOTSRANGE 0 8191");
    second.run("CLUSTER ADDSLOTSRANGE 8192 16383");
    let bus = second.connection();
    let mut command = redis::cmd("CONFIG");
    let (_, bus): (String, u16) = command
        .arg("GET")
        .arg("cluster-port")
        .query(&mut { bus })
        .unwrap();
    first.run(&format!("CLUSTER MEET 127.0.0.1 {} {bus}", second.port));
    wait_for("the nodes to meet", || {
        cluster_is_well(&first) && cluster_is_well(&second)
    });
    let store = Store::with(300);
    let projection = projection(&settings, Some(&store));
    wait_for("the first full offer", || {
        projection.status().full_offers() == 1
    });
    converges(&settings, &store);
    let sizes = || {
        [&first, &second].map(|node| {
            let size: u64 = redis::cmd("DBSIZE").query(&mut node.connection()).unwrap();
            size
        })
    };
    assert!(sizes().iter().all(|&size| size > 100), "{:?}", sizes());
    second.run("FLUSHALL");
    converges(&settings, &store);

    // Every writer knows the cluster.
    (1..=300).for_each(|account| projection.offers().offer_image(&store.commit(account)));
    converges(&settings, &store);
    // A slot without keys moves: the next balance of its partition finds it.
    let mut slot = redis::cmd("CLUSTER");
    slot.arg("KEYSLOT").arg("{5}");
    let slot: u16 = slot.query(&mut first.connection()).unwrap();
    let to = if slot < 8192 { &second } else { &first };
    let from = if slot < 8192 { &first } else { &second };
    let id = node_id(to);
    to.run(&format!("CLUSTER SETSLOT {slot} NODE {id}"));
    from.run(&format!("CLUSTER SETSLOT {slot} NODE {id}"));
    let mut moved = image(1000, 1);
    moved.partition = Partition::new(5);
    store.put(moved);
    projection.offers().offer_image(&moved);
    converges(&settings, &store);
    assert!(projection.stop(STOP));
}
