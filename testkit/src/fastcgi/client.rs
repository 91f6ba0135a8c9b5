//! A web server's side of FastCGI, record by record.

use std::io::{Read, Write};

use crate::prelude::*;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::retry_on_intr;
use rustix::net::{Shutdown, sockopt};

pub const BEGIN: u8 = 1;
pub const ABORT: u8 = 2;
pub const END: u8 = 3;
pub const PARAMS: u8 = 4;
pub const STDIN: u8 = 5;
pub const STDOUT: u8 = 6;
pub const STDERR: u8 = 7;
pub const DATA: u8 = 8;
pub const GET_VALUES: u8 = 9;
pub const GET_VALUES_RESULT: u8 = 10;
pub const UNKNOWN_TYPE: u8 = 11;
pub const KEEP: u8 = 1;
/// The end of a request that came amid another, and of one that no responder answers.
pub const CANT_MPX_CONN: u8 = 1;
pub const UNKNOWN_ROLE: u8 = 3;

/// How soon a good request is answered, whatever came before it.
pub const AT_ONCE: Duration = Duration::from_secs(15);
/// How long anything at all may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Where a program listens.
#[derive(Clone, Debug)]
pub enum Address {
    Unix(PathBuf),
    Tcp(SocketAddr),
}

pub fn record(kind: u8, id: u16, content: &[u8]) -> Vec<u8> {
    padded(kind, id, content, 0)
}

pub fn padded(kind: u8, id: u16, content: &[u8], padding: u8) -> Vec<u8> {
    let mut bytes = vec![1, kind];
    bytes.extend(id.to_be_bytes());
    bytes.extend(u16::try_from(content.len()).unwrap().to_be_bytes());
    bytes.extend([padding, 0]);
    bytes.extend(content);
    bytes.extend(vec![0xee; usize::from(padding)]);
    bytes
}

pub fn begin(id: u16, flags: u8) -> Vec<u8> {
    record(BEGIN, id, &[0, 1, flags, 0, 0, 0, 0, 0])
}

/// One name and value, with a length of one byte each where that is enough.
pub fn pair(name: &[u8], value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in [name, value] {
        match u8::try_from(part.len()) {
            Ok(length @ 0..=0x7f) => bytes.push(length),
            _ => bytes.extend((u32::try_from(part.len()).unwrap() | 1 << 31).to_be_bytes()),
        }
    }
    bytes.extend(name);
    bytes.extend(value);
    bytes
}

/// A stream in records of up to `size` bytes, with its end.
pub fn stream(kind: u8, id: u16, bytes: &[u8], size: usize) -> Vec<u8> {
    let records = bytes.chunks(size).map(|chunk| record(kind, id, chunk));
    records.chain([record(kind, id, b"")]).flatten().collect()
}

/// The parameters of a request for `query`, and `more`.
pub fn params(method: &str, query: &str, more: &[(&str, &[u8])]) -> Vec<u8> {
    let usual = [
        ("REQUEST_METHOD", method.as_bytes()),
        ("QUERY_STRING", query.as_bytes()),
        ("SCRIPT_NAME", b"/program"),
    ];
    let all = usual.iter().chain(more);
    all.flat_map(|(name, value)| pair(name.as_bytes(), value))
        .collect()
}

/// A request up to the end of its parameters.
pub fn head(id: u16, flags: u8, params: &[u8]) -> Vec<u8> {
    [begin(id, flags), stream(PARAMS, id, params, 60_000)].concat()
}

/// A whole request without a body.
pub fn get(id: u16, flags: u8, query: &str) -> Vec<u8> {
    let head = head(id, flags, &params("GET", query, &[]));
    [head, record(STDIN, id, b"")].concat()
}

/// A whole request with a body.
pub fn post(id: u16, flags: u8, query: &str, body: &[u8]) -> Vec<u8> {
    let head = head(id, flags, &params("POST", query, &[]));
    [head, stream(STDIN, id, body, 60_000)].concat()
}

/// A whole request of a client that has this cookie.
pub fn visit(id: u16, flags: u8, query: &str, cookie: &str) -> Vec<u8> {
    let cookie = [("HTTP_COOKIE", cookie.as_bytes())];
    let head = head(id, flags, &params("GET", query, &cookie));
    [head, record(STDIN, id, b"")].concat()
}

#[derive(Debug, PartialEq, Eq)]
pub struct Record {
    pub kind: u8,
    pub id: u16,
    pub content: Vec<u8>,
}

/// What one request was answered.
#[derive(Debug)]
pub struct Reply {
    pub head: String,
    pub body: Vec<u8>,
    /// What the web server is to log.
    pub log: Vec<String>,
    /// The end's protocol status; `None` when the connection ended before it.
    pub end: Option<u8>,
}

impl Reply {
    pub fn status(&self) -> u16 {
        let line = self.head.strip_prefix("Status: ");
        let code = line.and_then(|line| line.get(..3)?.parse().ok());
        code.unwrap_or_else(|| panic!("no status in {self:?}"))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// `name=value` of the cookie that was set.
    pub fn cookie(&self) -> Option<&str> {
        let mut lines = self.head.lines();
        let line = lines.find_map(|line| line.strip_prefix("Set-Cookie: "))?;
        line.split(';').next()
    }
}

/// A connection to a program.
pub struct Client {
    socket: File,
}

impl Client {
    pub fn connect(address: &Address) -> io::Result<Self> {
        let socket = match address {
            Address::Unix(path) => {
                File::from(rustix::fd::OwnedFd::from(UnixStream::connect(path)?))
            }
            Address::Tcp(address) => {
                let socket = TcpStream::connect(address)?;
                socket.set_nodelay(true)?;
                File::from(rustix::fd::OwnedFd::from(socket))
            }
        };
        let client = Client { socket };
        client.wait_up_to(PATIENCE);
        Ok(client)
    }

    /// Reads and writes fail when nothing moves for so long.
    pub fn wait_up_to(&self, time: Duration) {
        for direction in [sockopt::Timeout::Recv, sockopt::Timeout::Send] {
            sockopt::set_socket_timeout(&self.socket, direction, Some(time)).unwrap();
        }
    }

    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.socket.write_all(bytes)
    }

    /// Waits until the program has said something, and reads nothing of it.
    pub fn wait_for_word(&self) {
        let patience = Timespec::try_from(PATIENCE).unwrap();
        let mut polled = [PollFd::new(&self.socket, PollFlags::IN)];
        let ready = retry_on_intr(|| poll(&mut polled, Some(&patience)));
        assert_eq!(ready, Ok(1), "the program says nothing");
    }

    /// Whether the program has said something by now.
    pub fn has_answer(&self) -> bool {
        let mut polled = [PollFd::new(&self.socket, PollFlags::IN)];
        retry_on_intr(|| poll(&mut polled, Some(&Timespec::default()))) == Ok(1)
    }

    /// How many bytes of the program's wait to be read.
    pub fn unread(&self) -> u64 {
        rustix::io::ioctl_fionread(&self.socket).unwrap()
    }

    /// Waits until the program has closed the connection, and reads nothing of it.
    pub fn wait_for_end(&self) {
        let patience = Timespec::try_from(PATIENCE).unwrap();
        let mut polled = [PollFd::new(&self.socket, PollFlags::empty())];
        let closed = retry_on_intr(|| poll(&mut polled, Some(&patience)));
        assert_eq!(closed, Ok(1), "the program does not close the connection");
    }

    /// Says that nothing more comes.
    pub fn finish(&self) {
        rustix::net::shutdown(&self.socket, Shutdown::Write).unwrap();
    }

    /// Ends the connection with a reset, where the socket knows one.
    pub fn vanish(self) {
        sockopt::set_socket_linger(&self.socket, Some(Duration::ZERO)).unwrap();
    }

    /// The next record; `None` when the program has closed the connection, or says by a record of no version that a
    /// response is cut off.
    pub fn record(&mut self) -> io::Result<Option<Record>> {
        let mut header = [0; 8];
        // A read with a timeout is interrupted even by signals that nobody handles: signal(7).
        let read = retry_on_intr(|| rustix::io::read(&self.socket, &mut header[..1]))?;
        if read == 0 {
            return Ok(None);
        }
        self.socket.read_exact(&mut header[1..])?;
        if header == [0; 8] {
            return Ok(None);
        }
        let [version, kind, id1, id0, content1, content0, padding, _] = header;
        assert_eq!(version, 1);
        let length = usize::from(u16::from_be_bytes([content1, content0]));
        let mut content = vec![0; length + usize::from(padding)];
        self.socket.read_exact(&mut content)?;
        content.truncate(length);
        let id = u16::from_be_bytes([id1, id0]);
        Ok(Some(Record { kind, id, content }))
    }

    /// Everything up to the end of one request.
    pub fn reply(&mut self, id: u16) -> io::Result<Reply> {
        let (mut out, mut log, mut end) = (Vec::new(), Vec::new(), None);
        while let Some(record) = self.record()? {
            assert_eq!(record.id, id, "an answer to another request");
            match record.kind {
                STDOUT => out.extend(record.content),
                STDERR if record.content.is_empty() => {}
                STDERR => log.push(String::from_utf8(record.content).unwrap()),
                END => {
                    end = record.content.get(4).copied();
                    break;
                }
                other => panic!("a record of type {other} in a response"),
            }
        }
        let split = out.windows(4).position(|window| window == b"\r\n\r\n");
        let body = split.map_or(Vec::new(), |at| out.split_off(at + 4));
        let head = String::from_utf8_lossy(&out).into_owned();
        Ok(Reply {
            head,
            body,
            log,
            end,
        })
    }

    /// Sends a request and takes its answer.
    #[track_caller]
    pub fn ask(&mut self, id: u16, request: &[u8]) -> Reply {
        self.send(request).unwrap();
        self.reply(id).unwrap()
    }

    /// Whether the program has closed the connection, with nothing said before.
    pub fn is_closed(&mut self) -> bool {
        match self.record() {
            Ok(record) => record.is_none(),
            Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
        }
    }
}
