//! A mail server that keeps what it gets and says what it is told. It blocks, on threads of its own, so that one conversation reads from
//! its beginning to its end.

use std::collections::{HashMap, VecDeque};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use parking_lot::Mutex;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// Of `localhost`, and made for these tests.
pub(super) const CERTIFICATE: &[u8] = include_bytes!("localhost.pem");
const KEY: &[u8] = include_bytes!("localhost.key.pem");

/// Instead of an answer: the connection ends, or nothing comes.
pub(super) const CLOSE: &str = "close";
pub(super) const SILENCE: &str = "silence";

/// What was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Letter {
    pub(super) from: String,
    pub(super) to: String,
    /// Dots are as they were written.
    pub(super) data: String,
    /// Name and password that were said on the connection.
    pub(super) login: Option<(String, String)>,
    pub(super) encrypted: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tls {
    None,
    Offered,
    Wrapped,
}

#[derive(Default)]
struct Shared {
    letters: Mutex<Vec<Letter>>,
    lines: Mutex<Vec<String>>,
    answers: Mutex<HashMap<&'static str, VecDeque<&'static str>>>,
    connections: AtomicUsize,
}

pub(super) struct MailServer {
    pub(super) port: u16,
    shared: Arc<Shared>,
}

impl MailServer {
    pub(super) fn start(tls: Tls) -> Self {
        segue_runtime::install_tls_provider();
        let shared: Arc<Shared> = Arc::default();
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("loopback has a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let serving = shared.clone();
        std::thread::spawn(move || {
            for connection in listener.incoming().map_while(Result::ok) {
                let shared = serving.clone();
                shared.connections.fetch_add(1, Ordering::SeqCst);
                // A client that leaves ends its conversation.
                std::thread::spawn(move || Conversation::begin(connection, tls, &shared).and_then(|mut one| one.run(&shared)));
            }
        });
        Self { port, shared }
    }

    /// What to say to the next command of a kind instead of the usual.
    pub(super) fn answer(&self, command: &'static str, answer: &'static str) {
        self.shared.answers.lock().entry(command).or_default().push_back(answer);
    }

    pub(super) fn letters(&self) -> Vec<Letter> {
        self.shared.letters.lock().clone()
    }

    /// Every line that was said outside of letters.
    pub(super) fn lines(&self) -> Vec<String> {
        self.shared.lines.lock().clone()
    }

    pub(super) fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }
}

enum Stream {
    Plain(TcpStream),
    Encrypted(Box<StreamOwned<ServerConnection, TcpStream>>),
}

impl Stream {
    fn encrypt(connection: TcpStream) -> std::io::Result<Self> {
        let certificate = CertificateDer::from_pem_slice(CERTIFICATE).expect("a certificate");
        let key = PrivateKeyDer::from_pem_slice(KEY).expect("a key");
        let config = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate], key).expect("they match");
        let server = ServerConnection::new(Arc::new(config)).map_err(std::io::Error::other)?;
        Ok(Stream::Encrypted(Box::new(StreamOwned::new(server, connection))))
    }

    fn line(&mut self) -> std::io::Result<String> {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            let mut byte = [0];
            match self {
                Stream::Plain(stream) => stream.read_exact(&mut byte)?,
                Stream::Encrypted(stream) => stream.read_exact(&mut byte)?,
            }
            line.extend_from_slice(&byte);
        }
        line.truncate(line.len() - 2);
        String::from_utf8(line).map_err(std::io::Error::other)
    }

    fn say(&mut self, lines: &str) -> std::io::Result<()> {
        let lines = format!("{lines}\r\n");
        match self {
            Stream::Plain(stream) => stream.write_all(lines.as_bytes()),
            Stream::Encrypted(stream) => stream.write_all(lines.as_bytes()).and_then(|()| stream.flush()),
        }
    }
}

struct Conversation {
    stream: Stream,
    tls: Tls,
    login: Option<(String, String)>,
    from: String,
    to: String,
}

impl Conversation {
    fn begin(connection: TcpStream, tls: Tls, shared: &Shared) -> std::io::Result<Self> {
        let stream = if tls == Tls::Wrapped { Stream::encrypt(connection)? } else { Stream::Plain(connection) };
        let mut one = Self { stream, tls, login: None, from: String::new(), to: String::new() };
        one.answer("greeting", "220 localhost", shared)?;
        Ok(one)
    }

    /// What it was told to say to a command, or else the usual. Whether that was the usual.
    fn answer(&mut self, command: &'static str, usual: &str, shared: &Shared) -> std::io::Result<bool> {
        let told = shared.answers.lock().get_mut(command).and_then(VecDeque::pop_front);
        match told {
            None => self.stream.say(usual).map(|()| true),
            Some(CLOSE) => Err(std::io::ErrorKind::ConnectionAborted.into()),
            Some(SILENCE) => self.stream.line().and(Err(std::io::ErrorKind::TimedOut.into())),
            Some(other) => self.stream.say(other).map(|()| false),
        }
    }

    fn run(&mut self, shared: &Shared) -> std::io::Result<()> {
        loop {
            let line = self.stream.line()?;
            shared.lines.lock().push(line.clone());
            let (command, rest) = line.split_once(' ').unwrap_or((&line, ""));
            match command {
                "EHLO" => {
                    let tls = if self.tls == Tls::Offered && matches!(self.stream, Stream::Plain(_)) { "250-STARTTLS\r\n" } else { "" };
                    self.answer("EHLO", &format!("250-localhost\r\n{tls}250-AUTH PLAIN\r\n250 8BITMIME"), shared)?;
                }
                "STARTTLS" => {
                    if self.answer("STARTTLS", "220 go on", shared)?
                        && let Stream::Plain(connection) = &self.stream
                    {
                        self.stream = Stream::encrypt(connection.try_clone()?)?;
                    }
                }
                "AUTH" => {
                    let said = STANDARD.decode(rest.trim_start_matches("PLAIN ")).unwrap_or_default();
                    let said = String::from_utf8_lossy(&said).into_owned();
                    let mut words = said.split('\0').skip(1).map(str::to_owned);
                    self.login = words.next().zip(words.next());
                    self.answer("AUTH", "235 welcome", shared)?;
                }
                "MAIL" => {
                    self.from = rest.to_owned();
                    self.answer("MAIL", "250 fine", shared)?;
                }
                "RCPT" => {
                    self.to = rest.to_owned();
                    self.answer("RCPT", "250 fine", shared)?;
                }
                "DATA" => self.letter(shared)?,
                "QUIT" => return self.stream.say("221 bye"),
                _ => self.stream.say("250 fine")?,
            }
        }
    }

    fn letter(&mut self, shared: &Shared) -> std::io::Result<()> {
        if !self.answer("DATA", "354 go on", shared)? {
            return Ok(());
        }
        let mut data = String::new();
        loop {
            let line = self.stream.line()?;
            if line == "." {
                break;
            }
            data.push_str(line.strip_prefix('.').unwrap_or(&line));
            data.push_str("\r\n");
        }
        let encrypted = matches!(self.stream, Stream::Encrypted(_));
        let letter = Letter { from: self.from.clone(), to: self.to.clone(), data, login: self.login.clone(), encrypted };
        // It is there before the client knows.
        if shared.answers.lock().get("letter").is_none_or(VecDeque::is_empty) {
            shared.letters.lock().push(letter);
        }
        self.answer("letter", "250 queued as 7F", shared)?;
        Ok(())
    }
}
