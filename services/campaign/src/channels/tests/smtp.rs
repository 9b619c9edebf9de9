//! E-mail, against a real mail server.

use segue_runtime::outgoing::Rules;

use super::mail_server::{CERTIFICATE, CLOSE, Letter, MailServer, SILENCE, Tls};
use super::*;
use crate::channels::email::Email;

fn at(server: &MailServer, scheme: &str) -> EmailSettings {
    EmailSettings { url: format!("{scheme}://localhost:{}", server.port), ..mail() }
}

fn rules() -> Rules {
    open().rules()
}

fn outlet(settings: &EmailSettings, trusting: bool) -> Email {
    segue_runtime::install_tls_provider();
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(NOW_US));
    let mut email = Email::open(settings, &rules(), &clock).expect("settings");
    if trusting {
        email.smtp.trust(CERTIFICATE);
    }
    email
}

fn hello() -> Message {
    message("kim@a.example", &[("subject", "Hi"), ("text", "Hello\n.\n..dots")])
}

fn error(outcome: Outcome) -> String {
    match outcome {
        Outcome::Retry { after: None, error } => error,
        other => panic!("not one to be tried again at any time: {other:?}"),
    }
}

/// The lines of a letter's head, those that go on joined.
fn headers(letter: &Letter) -> Vec<String> {
    let head = letter.data.split("\r\n\r\n").next().expect("a head").replace("\r\n ", " ");
    head.split("\r\n").map(str::to_owned).collect()
}

#[tokio::test]
async fn a_message_of_both_parts_arrives_with_its_headers() {
    let server = MailServer::start(Tls::None);
    let email = outlet(&at(&server, "smtp"), false);
    let parts = [
        ("subject", "Sale"),
        ("text", "plain words"),
        ("html", "<body><p>rich words</p></body>"),
        ("from_name", "Kim's Shop"),
        ("reply_to", "Help <help@shop.example>"),
        ("preheader", "peek"),
    ];
    let message = Message { unsubscribe_url: Some("https://shop.example/l/abc?x=1".to_owned()), ..message("kim@a.example", &parts) };
    assert_eq!(email.send(&message).await, Outcome::Sent { provider_message_id: "queued as 7F".to_owned() });
    assert_eq!(email.send(&message).await, Outcome::Sent { provider_message_id: "queued as 7F".to_owned() });
    let [first, second] = &server.letters()[..] else { panic!("two letters") };
    assert_eq!((first.from.as_str(), first.to.as_str()), ("FROM:<news@shop.example>", "TO:<kim@a.example>"));
    assert_eq!(first.login, Some(("shop".to_owned(), "SECRET-2".to_owned())));
    let id = format!("Message-ID: <{}@shop.example>", message_uuid("s-1.0").simple());
    for line in [
        "Subject: Sale",
        "To: kim@a.example",
        // `Kim's Shop` as RFC 2047 has it.
        "From: =?utf-8?b?S2ltJ3MgU2hvcA==?= <news@shop.example>",
        "Reply-To: Help <help@shop.example>",
        "Date: Wed, 28 May 2025 10:00:00 +0000",
        "List-Unsubscribe: <https://shop.example/l/abc?x=1>",
        "List-Unsubscribe-Post: List-Unsubscribe=One-Click",
        "MIME-Version: 1.0",
        id.as_str(),
    ] {
        assert!(headers(first).iter().any(|header| header == line), "{line} in {:#?}", headers(first));
        assert!(headers(second).iter().any(|header| header == line), "{line}: the same for every attempt");
    }
    let (text, html) = (first.data.find("plain words").expect("text"), first.data.find("rich words").expect("html"));
    assert!(first.data.contains("multipart/alternative") && text < html, "the richest part is the last");
    let peek = first.data.find("peek").expect("a preheader");
    assert!(first.data.find("<body>").is_some_and(|body| body < peek) && peek < html);
    assert_eq!(server.connections(), 1, "the connection is kept");
}

#[tokio::test]
async fn one_part_alone_is_enough_and_its_text_arrives_as_it_is() {
    let server = MailServer::start(Tls::None);
    let email = outlet(&at(&server, "smtp"), false);
    assert!(matches!(email.send(&hello()).await, Outcome::Sent { .. }));
    let html = message("kim@a.example", &[("subject", "안녕하세요, 오늘의 할인 소식입니다"), ("html", "<p>안녕</p>")]);
    assert!(matches!(email.send(&html).await, Outcome::Sent { .. }));
    let neither = message("kim@a.example", &[("subject", "Hi"), ("text", " ")]);
    assert!(matches!(email.send(&neither).await, Outcome::Refused { .. }));
    let [first, second] = &server.letters()[..] else { panic!("two letters") };
    assert!(first.data.contains("Hello\r\n.\r\n..dots"), "{}", first.data);
    assert!(!first.data.contains("List-Unsubscribe") && second.data.contains("text/html") && second.data.is_ascii());
    assert!(headers(second).iter().any(|header| header.starts_with("Subject: =?utf-8?b?")), "{:?}", headers(second));
}

#[tokio::test]
async fn nothing_that_is_filled_in_becomes_another_header_or_command() {
    let server = MailServer::start(Tls::None);
    let email = outlet(&at(&server, "smtp"), false);
    let evil = "x\r\nBcc: evil@b.example\r\n\r\nbody";
    let parts = [("subject", evil), ("from_name", evil), ("text", "ok\r\n.\r\nMAIL FROM:<evil@b.example>\r\n"), ("preheader", evil)];
    assert!(matches!(email.send(&message("kim@a.example", &parts)).await, Outcome::Sent { .. }));
    for address in ["김@a.example", "kim@a.example\r\nRCPT TO:<evil@b.example>", "kim@a.example> SIZE=1", "kim", ""] {
        let told = email.send(&message(address, &[("text", "x")])).await;
        assert!(matches!(told, Outcome::Refused { .. }), "{address}: {told:?}");
    }
    let replies = message("kim@a.example", &[("text", "x"), ("reply_to", "a@b.example\r\nBcc: evil@b.example")]);
    assert!(matches!(email.send(&replies).await, Outcome::Refused { .. }));
    let [letter] = &server.letters()[..] else { panic!("one letter") };
    assert!(headers(letter).iter().all(|header| !header.starts_with("Bcc")), "{:?}", headers(letter));
    assert!(server.lines().iter().all(|line| !line.contains("evil")), "{:?}", server.lines());
}

#[tokio::test]
async fn a_servers_no_is_for_good_or_for_now_and_the_connection_stays() {
    let server = MailServer::start(Tls::None);
    let email = outlet(&at(&server, "smtp"), false);
    for (command, answer, for_good) in [
        ("RCPT", "550 5.1.1 no such user", true),
        ("RCPT", "551 elsewhere", true),
        ("RCPT", "553 not a mailbox", true),
        ("RCPT", "450 4.2.1 later", false),
        ("MAIL", "552 too much", true),
        ("MAIL", "451 later", false),
        ("DATA", "554 no", true),
        ("letter", "554 5.7.1 spam", true),
        ("letter", "452 full", false),
    ] {
        server.answer(command, answer);
        match (email.send(&hello()).await, for_good) {
            (Outcome::Refused { error }, true) | (Outcome::Retry { error, after: None }, false) => {
                assert!(error.contains(&answer[..3]), "{error}")
            }
            (told, _) => panic!("{command} {answer}: {told:?}"),
        }
    }
    assert!(matches!(email.send(&hello()).await, Outcome::Sent { .. }));
    assert_eq!((server.connections(), server.letters().len()), (1, 1));
}

#[tokio::test]
async fn a_connection_that_the_server_has_closed_is_replaced_and_troubles_are_for_now() {
    let server = MailServer::start(Tls::None);
    let email = outlet(&at(&server, "smtp"), false);
    for (command, answer) in [("MAIL", CLOSE), ("MAIL", "421 shutting down")] {
        assert!(matches!(email.send(&hello()).await, Outcome::Sent { .. }));
        server.answer(command, answer);
        assert!(matches!(email.send(&hello()).await, Outcome::Sent { .. }), "{answer}: over another connection");
    }
    assert_eq!((server.connections(), server.letters().len()), (3, 4));
    for (command, answer) in [("DATA", CLOSE), ("letter", CLOSE), ("greeting", "554 no"), ("AUTH", "535 5.7.8 wrong"), ("EHLO", CLOSE)] {
        server.answer(command, answer);
        let error = error(email.send(&hello()).await);
        assert!(!error.contains("SECRET"), "{error}");
    }
    let nobody = EmailSettings { url: format!("smtp://localhost:{}", segue_testkit::free_port()), ..mail() };
    assert!(error(outlet(&nobody, false).send(&hello()).await).contains("no connection"));
    assert_eq!(server.letters().len(), 4);
}

#[tokio::test]
async fn a_server_that_says_nothing_is_left_in_time() {
    let server = MailServer::start(Tls::None);
    server.answer("RCPT", SILENCE);
    let world = World::with(SendConfig { timeout_ms: 300, ..open() }).await;
    let channel = world.opened(Settings::Email(at(&server, "smtp"))).await;
    assert_eq!(error(channel.outlet.send(&hello()).await), "no answer within 300 ms");
    assert!(matches!(channel.outlet.send(&hello()).await, Outcome::Sent { .. }));
}

#[tokio::test]
async fn encryption_is_used_as_the_scheme_says_and_passwords_wait_for_it() {
    for (scheme, tls) in [("smtps", Tls::Wrapped), ("smtp+starttls", Tls::Offered), ("smtp", Tls::Offered)] {
        let server = MailServer::start(tls);
        assert!(matches!(outlet(&at(&server, scheme), true).send(&hello()).await, Outcome::Sent { .. }), "{scheme}");
        let [letter] = &server.letters()[..] else { panic!("one letter") };
        assert!(letter.encrypted && letter.login.is_some(), "{scheme}");
        // A certificate that nobody vouches for, and one of another name.
        let untrusted = error(outlet(&at(&server, scheme), false).send(&hello()).await);
        assert!(untrusted.contains("certificate"), "{untrusted}");
        let other = EmailSettings { url: format!("{scheme}://127.0.0.1:{}", server.port), ..mail() };
        let misnamed = error(outlet(&other, true).send(&hello()).await);
        assert!(misnamed.contains("certificate"), "{misnamed}");
        assert_eq!(server.letters().len(), 1);
    }
    let server = MailServer::start(Tls::None);
    let stripped = error(outlet(&at(&server, "smtp+starttls"), true).send(&hello()).await);
    assert!(stripped.contains("STARTTLS"), "{stripped}");
    assert!(server.lines().iter().all(|line| !line.starts_with("AUTH") && !line.starts_with("MAIL")));
}

#[tokio::test]
async fn private_addresses_are_refused_before_anything_is_said() {
    let server = MailServer::start(Tls::None);
    let strict = Rules { allow_private: false, ..rules() };
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(NOW_US));
    let named = Email::open(&at(&server, "smtp"), &strict, &clock).expect("a name says nothing yet");
    assert!(error(named.send(&hello()).await).contains("not one of the public internet"));
    for host in ["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "2130706433", "0x7f.1"] {
        let settings = EmailSettings { url: format!("smtp://{host}:{}", server.port), ..mail() };
        assert!(Email::open(&settings, &strict, &clock).is_err(), "{host}");
    }
    assert_eq!(server.connections(), 0);
}
