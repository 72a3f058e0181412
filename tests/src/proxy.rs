//! A bad network: a relay between clients and a broker that loses answers and resets connections.
//!
//! It knows where frames begin and end and which request each answers, no more. An answer is lost with its connection,
//! either at once or by silence until somebody loses patience: over TCP nothing else is possible.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// No frame of these clients is longer.
const FRAME_BYTES_MAX: usize = 64 << 20;
/// The key of Produce.
const PRODUCE: i16 = 0;

/// How bad it is.
#[derive(Debug, Clone, Copy)]
pub struct Weather {
    /// One answer in so many is lost.
    pub loses_one_in: u32,
    /// All connections are reset this often.
    pub resets_each: Duration,
}

/// The relay; its end is the end of all connections.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    sky: Arc<Sky>,
    tasks: [JoinHandle<()>; 2],
}

/// What all connections share.
#[derive(Debug)]
struct Sky {
    upstream: SocketAddr,
    weather: Weather,
    chance: Mutex<StdRng>,
    /// Each change is a reset of all connections.
    resets: watch::Sender<usize>,
    is_calm: AtomicBool,
    met: Met,
}

/// What the network did.
#[derive(Debug, Default)]
pub struct Met {
    /// Answers that were passed on.
    pub passed: AtomicUsize,
    /// Answers that were lost.
    pub lost: AtomicUsize,
    /// Those of them that told of a Produce.
    pub lost_of_produce: AtomicUsize,
    /// Connections that were reset.
    pub reset: AtomicUsize,
}

impl Proxy {
    /// A relay to a broker that may not be there yet.
    ///
    /// # Errors
    /// That no port is free.
    pub fn open(runtime: &Handle, upstream: SocketAddr, weather: Weather, seed: u64) -> anyhow::Result<Self> {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let listener = {
            let _inside = runtime.enter();
            TcpListener::from_std(listener)?
        };
        let address = listener.local_addr()?;
        let sky = Arc::new(Sky {
            upstream,
            weather,
            chance: Mutex::new(StdRng::seed_from_u64(seed)),
            resets: watch::Sender::new(0),
            is_calm: AtomicBool::new(false),
            met: Met::default(),
        });
        let tasks = [runtime.spawn(listen(listener, sky.clone())), runtime.spawn(thunder(sky.clone()))];
        Ok(Self { address, sky, tasks })
    }

    /// Where clients are to connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it did so far.
    pub fn met(&self) -> &Met {
        &self.sky.met
    }

    /// From now on nothing is lost.
    pub fn calm(&self) {
        self.sky.is_calm.store(true, Ordering::Relaxed);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
        self.sky.resets.send_modify(|resets| *resets += 1);
    }
}

async fn listen(listener: TcpListener, sky: Arc<Sky>) {
    // An error of accept is a client's that has gone already.
    loop {
        if let Ok((client, _)) = listener.accept().await {
            tokio::spawn(relay(client, sky.clone()));
        }
    }
}

async fn thunder(sky: Arc<Sky>) {
    let mut pace = tokio::time::interval(sky.weather.resets_each);
    loop {
        pace.tick().await;
        if !sky.is_calm() {
            sky.resets.send_modify(|resets| *resets += 1);
        }
    }
}

/// How an answer is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Loss {
    /// With the connection, at once.
    Cut,
    /// Nothing comes any more.
    Silence,
}

impl Sky {
    fn is_calm(&self) -> bool {
        self.is_calm.load(Ordering::Relaxed)
    }

    fn loses(&self) -> Option<Loss> {
        let mut chance = self.chance.lock();
        let is_lost = !self.is_calm() && chance.random_range(0..self.weather.loses_one_in) == 0;
        is_lost.then(|| if chance.random_range(0..4) == 0 { Loss::Silence } else { Loss::Cut })
    }
}

/// Requests by their correlation id, so that an answer can be told.
type Asked = Mutex<HashMap<i32, i16>>;

async fn relay(client: TcpStream, sky: Arc<Sky>) {
    let mut resets = sky.resets.subscribe();
    // While the broker is away, the client is turned away.
    let Ok(server) = TcpStream::connect(sky.upstream).await else { return };
    for stream in [&client, &server] {
        let _ = stream.set_nodelay(true);
        let _ = stream.set_zero_linger();
    }
    let (from_client, mut to_client) = client.into_split();
    let (from_server, mut to_server) = server.into_split();
    let asked = Asked::default();
    tokio::select! {
        _ = pass_requests(from_client, &mut to_server, &asked) => {}
        _ = pass_answers(from_server, &mut to_client, &asked, &sky) => {}
        _ = resets.changed() => {
            sky.met.reset.fetch_add(1, Ordering::Relaxed);
        }
    }
}

async fn pass_requests(mut from: OwnedReadHalf, to: &mut OwnedWriteHalf, asked: &Asked) -> io::Result<()> {
    loop {
        let frame = frame(&mut from).await?;
        if let [_, _, _, _, key0, key1, _, _, id @ ..] = &*frame
            && let Some(id) = id.first_chunk()
        {
            asked.lock().insert(i32::from_be_bytes(*id), i16::from_be_bytes([*key0, *key1]));
        }
        to.write_all(&frame).await?;
    }
}

async fn pass_answers(
    mut from: OwnedReadHalf,
    to: &mut OwnedWriteHalf,
    asked: &Asked,
    sky: &Sky,
) -> io::Result<()> {
    loop {
        let frame = frame(&mut from).await?;
        let id = frame.get(4..8).and_then(<[u8]>::first_chunk).map(|id| i32::from_be_bytes(*id));
        let key = id.and_then(|id| asked.lock().remove(&id));
        let Some(loss) = sky.loses() else {
            to.write_all(&frame).await?;
            sky.met.passed.fetch_add(1, Ordering::Relaxed);
            continue;
        };
        sky.met.lost.fetch_add(1, Ordering::Relaxed);
        sky.met.lost_of_produce.fetch_add(usize::from(key == Some(PRODUCE)), Ordering::Relaxed);
        if loss == Loss::Cut {
            return Ok(());
        }
        std::future::pending::<()>().await;
    }
}

/// The next frame, with its length in front.
async fn frame(from: &mut OwnedReadHalf) -> io::Result<Vec<u8>> {
    let length = from.read_u32().await?;
    let bytes = usize::try_from(length).ok().filter(|bytes| *bytes <= FRAME_BYTES_MAX);
    let bytes = bytes.ok_or_else(|| io::Error::other("a frame that is too long"))?;
    let mut frame = length.to_be_bytes().to_vec();
    frame.resize(4 + bytes, 0);
    from.read_exact(&mut frame[4..]).await?;
    Ok(frame)
}
