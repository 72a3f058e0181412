//! A web service that is one binary: its log is a broker inside the process, with data in a folder. What is posted is
//! acknowledged once it is on disk; what is asked for is answered from memory, which a consumer keeps up to date.
//!
//! `cargo run -p millstream-examples --example axum_service_with_embedded_broker [HOST:PORT]`: with an address the
//! records go to that broker instead.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use millstream_broker::Broker;
use millstream_client::{Client, NewTopic, embedded};
use millstream_consumer::{Consumer, StartAt};
use millstream_examples::unique;
use millstream_producer::{Producer, Record};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

#[derive(Clone)]
struct Service {
    topic: Arc<str>,
    producer: Producer,
    /// All orders, as of the last record that was read.
    orders: Arc<Mutex<Vec<String>>>,
}

/// Answers with the order's number, which is its offset.
async fn post_order(State(service): State<Service>, order: String) -> Result<String, (StatusCode, String)> {
    let unavailable = |error: &dyn std::fmt::Display| (StatusCode::SERVICE_UNAVAILABLE, error.to_string());
    let record = Record::to(&service.topic).value(&order);
    let delivery = service.producer.send(record).await.map_err(|error| unavailable(&error))?;
    let written = delivery.await.map_err(|error| unavailable(&error))?;
    Ok(written.offset.unwrap_or_default().to_string())
}

async fn list_orders(State(service): State<Service>) -> String {
    service.orders.lock().unwrap_or_else(PoisonError::into_inner).join("\n")
}

/// Keeps `orders` up to date for as long as somebody looks at how many there are.
async fn follow(client: Client, service: Service, seen: watch::Sender<usize>) -> Result<()> {
    let builder = Consumer::builder(client).assign_topic(&*service.topic, StartAt::Beginning);
    let mut consumer = builder.build().await?;
    while let Some(record) = consumer.recv().await? {
        let order = String::from_utf8_lossy(&record.value.unwrap_or_default()).into_owned();
        let mut orders = service.orders.lock().unwrap_or_else(PoisonError::into_inner);
        orders.push(order);
        seen.send_replace(orders.len());
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (client, broker) = match std::env::args().nth(1) {
        Some(address) => (Client::builder(address).connect().await?, None),
        None => {
            let broker = Broker::builder().data_dir(folder.path()).no_listener().start()?;
            (embedded::client(&broker).connect().await?, Some(broker))
        }
    };
    let topic = unique("orders");
    client.admin().create_topic(NewTopic::new(topic.as_str()).partitions(1)).await?;
    let producer = Producer::builder(client.clone()).build();
    let service = Service { topic: topic.into(), producer, orders: Arc::default() };
    let (seen, mut orders) = watch::channel(0);
    tokio::spawn(follow(client, service.clone(), seen));

    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let router = Router::new().route("/orders", get(list_orders).post(post_order)).with_state(service);
    tokio::spawn(async move { axum::serve(listener, router).await });

    // A client of the service.
    for (number, order) in ["two teas", "a coffee", "the bill"].into_iter().enumerate() {
        let told = ask(address, "POST", order).await?;
        assert_eq!(told, number.to_string());
    }
    orders.wait_for(|count| *count == 3).await?;
    assert_eq!(ask(address, "GET", "").await?, "two teas\na coffee\nthe bill");

    if let Some(broker) = broker {
        broker.shutdown().await;
    }
    Ok(())
}

/// The body of the service's answer.
async fn ask(address: std::net::SocketAddr, method: &str, body: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let length = body.len();
    let request = format!(
        "{method} /orders HTTP/1.1\r\nHost: here\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
    ensure!(head.starts_with("HTTP/1.1 200"), "{answer}");
    Ok(body.to_owned())
}
