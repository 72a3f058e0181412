//! A broker inside another program: `cargo run -p millstream-broker --example embed -- 127.0.0.1:9092 ./data`
//!
//! Further arguments are settings, `num.partitions=4` for example. It stops when its standard input ends.

use std::io::{Read, Write};

use millstream_broker::Broker;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let listen = arguments.next().unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let folder = arguments.next().unwrap_or_else(|| "./millstream-data".to_owned());
    let mut builder = Broker::builder().listen(listen).data_dir(folder);
    for setting in arguments {
        let (name, value) = setting.split_once('=').ok_or("settings are written NAME=VALUE")?;
        builder = builder.set(name, value);
    }
    let broker = builder.start()?;
    writeln!(std::io::stdout(), "Kafka clients may connect to {}", broker.kafka_address())?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    drop(broker);
    Ok(())
}
