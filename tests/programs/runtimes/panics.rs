// Rust: panics that unwind, across threads and C frames; its stack overflow guard; children; channels.
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::panic;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{mpsc, Arc, Mutex};
use std::thread;

static DROPPED: AtomicUsize = AtomicUsize::new(0);
struct Guard;
impl Drop for Guard {
    fn drop(&mut self) {
        DROPPED.fetch_add(1, Ordering::SeqCst);
    }
}

#[inline(never)]
fn nested(depth: usize, values: &[usize]) -> usize {
    let _guard = Guard;
    if depth == 0 {
        return values[values.len() + depth];
    }
    nested(depth - 1, values) + 1
}

extern "C" {
    fn abort() -> !;
}

fn panics() -> String {
    let mut caught = 0;
    for i in 0..100 {
        if panic::catch_unwind(|| nested(20, &[i])).is_err() {
            caught += 1;
        }
    }
    format!("{} {}", caught, DROPPED.load(Ordering::SeqCst))
}

fn threads() -> String {
    let lock = Arc::new(Mutex::new(0));
    let handles: Vec<_> = (0..8)
        .map(|i| {
            let lock = lock.clone();
            thread::spawn(move || {
                let mut held = lock.lock().unwrap_or_else(|e| e.into_inner());
                *held += i;
                if i % 2 == 1 {
                    panic!("odd {}", i);
                }
            })
        })
        .collect();
    let failed: Vec<String> = handles
        .into_iter()
        .filter_map(|h| h.join().err())
        .map(|e| e.downcast_ref::<String>().cloned().unwrap_or_default())
        .collect();
    let total = *lock.lock().unwrap_or_else(|e| e.into_inner());
    format!("{:?} {} {}", failed, lock.is_poisoned(), total)
}

fn channels() -> String {
    let (send, receive) = mpsc::channel();
    for i in 0..4u64 {
        let send = send.clone();
        thread::spawn(move || {
            for j in 0..500u64 {
                send.send(i * j).unwrap();
            }
        });
    }
    drop(send);
    receive.iter().sum::<u64>().to_string()
}

fn network() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = thread::spawn(move || {
        for _ in 0..10 {
            let (mut stream, _) = listener.accept().unwrap();
            let mut text = Vec::new();
            stream.read_to_end(&mut text).unwrap();
            stream.write_all(text.len().to_string().as_bytes()).unwrap();
        }
    });
    let mut sum = 0;
    for i in 0..10 {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(&vec![7; i * 10000]).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        sum += text.parse::<usize>().unwrap();
    }
    server.join().unwrap();
    sum.to_string()
}

fn children() -> String {
    use std::os::unix::process::ExitStatusExt;
    let mut child = Command::new("/bin/cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"through cat").unwrap();
    let text = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
    let me = std::env::current_exe().unwrap();
    let ends: Vec<_> = ["overflow", "abort", "panic"]
        .iter()
        .map(|how| {
            let out = Command::new(&me).arg(how).output().unwrap();
            let said = String::from_utf8_lossy(&out.stderr).contains("overflowed its stack");
            (out.status.code(), out.status.signal(), said)
        })
        .collect();
    format!("{} {:?} {:?}", text, ends, Command::new("/no/such").spawn().map_err(|e| e.kind()).err())
}

#[inline(never)]
fn forever(n: u64) -> u64 {
    let room = std::hint::black_box([n; 100]);
    if n == u64::MAX {
        return 0;
    }
    let deeper = forever(n + 1);
    deeper + std::hint::black_box(&room)[(n % 100) as usize] // used behind the call: else a compiler makes a loop of it
}

fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("overflow") => println!("{}", thread::spawn(|| forever(0)).join().unwrap()),
        Some("abort") => unsafe { abort() },
        Some("panic") => panic!("asked to"),
        _ => (),
    }
    panic::set_hook(Box::new(|_| {}));
    println!("panics {}", panics());
    println!("threads {}", threads());
    println!("channels {}", channels());
    println!("network {}", network());
    println!("children {}", children());
    std::process::exit(11);
}
