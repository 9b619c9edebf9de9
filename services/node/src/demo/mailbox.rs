//! The demonstration's mail server: takes mails over SMTP on the loopback (RFC 5321, as much as one sender needs) and counts them, so that
//! the scenario's messages arrive somewhere real without anything beside this program.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use parking_lot::Mutex;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// Longest mail that is taken.
const MAIL_BYTES_MAX: usize = 1 << 20;

/// A mail as it came.
#[derive(Debug, Clone)]
pub(super) struct Mail {
    pub(super) to: String,
    /// Headers and body.
    pub(super) content: String,
}

/// A running mail server. It ends with the process.
#[derive(Debug, Clone)]
pub(super) struct Mailbox {
    pub(super) address: SocketAddr,
    mails: Arc<Mutex<Vec<Mail>>>,
}

impl Mailbox {
    pub(super) async fn open() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("failed to open the demonstration's mail server")?;
        let mailbox = Self { address: listener.local_addr()?, mails: Arc::default() };
        let mails = mailbox.mails.clone();
        #[allow(clippy::disallowed_methods, reason = "a demonstration's counterpart outside of Segue; nothing waits for it")]
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let mails = mails.clone();
                tokio::spawn(async move {
                    // A sender that breaks off has sent what it has sent.
                    let _ = converse(stream, &mails).await;
                });
            }
        });
        Ok(mailbox)
    }

    pub(super) fn mails(&self) -> Vec<Mail> {
        self.mails.lock().clone()
    }
}

async fn converse(stream: TcpStream, mails: &Mutex<Vec<Mail>>) -> std::io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut lines = BufReader::new(reader).lines();
    writer.write_all(b"220 demo.example\r\n").await?;
    let mut to = String::new();
    while let Some(line) = lines.next_line().await? {
        let command = line.get(..4).unwrap_or(&line).to_ascii_uppercase();
        let answer: &[u8] = match command.as_str() {
            "EHLO" | "HELO" => b"250-demo.example\r\n250 8BITMIME\r\n",
            "RCPT" => {
                to = line.split(['<', '>']).nth(1).unwrap_or_default().to_owned();
                b"250 OK\r\n"
            }
            "DATA" => {
                writer.write_all(b"354 go on\r\n").await?;
                let mut content = String::new();
                while let Some(line) = lines.next_line().await? {
                    if line == "." {
                        break;
                    }
                    if content.len() + line.len() < MAIL_BYTES_MAX {
                        content.push_str(line.strip_prefix('.').unwrap_or(&line));
                        content.push('\n');
                    }
                }
                mails.lock().push(Mail { to: to.clone(), content });
                b"250 taken\r\n"
            }
            "QUIT" => {
                return writer.write_all(b"221 bye\r\n").await;
            }
            _ => b"250 OK\r\n",
        };
        writer.write_all(answer).await?;
    }
    Ok(())
}
