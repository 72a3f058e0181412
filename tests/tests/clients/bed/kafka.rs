//! One Apache Kafka for all cases of this process, from the jars that `tests/compat/setup.sh` fetches.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use millstream_tests::port::Port;

/// Kafka runs in a process group of a shell that ends it when this process has closed the shell's input, as it does
/// when it ends, however it ends.
const SHELL: &str = r#"
bash "$0" "$1" "$2" </dev/null 2>&1 &
kafka=$!
cat >/dev/null
kill -9 $kafka
rm -rf "$2"
"#;

/// How often it is asked whether it serves: it does not say.
const ASK_EACH: Duration = Duration::from_millis(50);

/// Far longer than it takes.
const START: Duration = Duration::from_secs(180);

struct Kafka {
    address: SocketAddr,
    /// Its input is open for as long as this is here.
    _shell: Child,
    _ports: [Port; 2],
}

/// Where Kafka is; `None`, and the reason on standard error, if it cannot be had.
pub(super) fn address() -> Option<SocketAddr> {
    static KAFKA: OnceLock<Result<Kafka, String>> = OnceLock::new();
    match KAFKA.get_or_init(start) {
        Ok(kafka) => Some(kafka.address),
        Err(reason) => {
            // Not `eprintln!`, which the test harness keeps to itself.
            let _ = writeln!(std::io::stderr(), "skipped against Apache Kafka: {reason}");
            None
        }
    }
}

fn jars() -> PathBuf {
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let cache = std::env::var_os("FOREIGN_CACHE").map(PathBuf::from);
    cache.unwrap_or_else(|| home.join(".cache/millstream/foreign")).join("jars")
}

/// `Err` says what is missing. That it is there and does not start is a failure.
fn start() -> Result<Kafka, String> {
    let jars = jars();
    if !jars.exists() {
        return Err(format!("no jars in {}: run tests/compat/setup.sh", jars.display()));
    }
    let java = Command::new("java").arg("-version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !java.is_ok_and(|status| status.success()) {
        return Err("there is no Java here".to_owned());
    }
    let ports = two_ports();
    let address = ports[0].address();
    let folder = std::env::temp_dir().join(format!("millstream-kafka-{}", address.port()));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("compat/apache-kafka.sh");
    let mut shell = Command::new("bash");
    shell.args(["-c", SHELL]).arg(script).arg(address.port().to_string()).arg(folder);
    let mut shell = shell.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(shell.stdout.take().unwrap()).lines().map_while(Result::ok);
    let (say, said) = mpsc::channel();
    // It would block if nobody read what it says.
    std::thread::spawn(move || lines.for_each(|line| drop(say.send(line))));
    let (began, mut last) = (Instant::now(), String::new());
    while !answers(address) {
        assert!(began.elapsed() < START, "Apache Kafka does not start: {last}");
        match said.recv_timeout(ASK_EACH) {
            Ok(line) => last = line,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => panic!("Apache Kafka did not start: {last}"),
        }
    }
    Ok(Kafka { address, _shell: shell, _ports: ports })
}

/// Whether somebody there answers ApiVersions.
fn answers(address: SocketAddr) -> bool {
    // Version 0, no client id.
    const API_VERSIONS: [u8; 14] = [0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 1, 0xff, 0xff];
    let ask = || {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(START))?;
        stream.write_all(&API_VERSIONS)?;
        stream.read_exact(&mut [0; 4])
    };
    ask().is_ok()
}

/// The script takes a port and the one that follows it.
fn two_ports() -> [Port; 2] {
    loop {
        let first = Port::reserve().unwrap();
        let Some(second) = first.address().port().checked_add(1) else { continue };
        if let Ok(second) = Port::reserve_number(second) {
            return [first, second];
        }
    }
}
