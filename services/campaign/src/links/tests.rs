//! Links as messages carry them, and requests to them through the service.

use proptest::prelude::*;

use super::token::Signer;
use super::*;

const SEND: &str = "00112233445566778899aabbccddeeff";

fn set() -> LinkSet {
    let signer = Arc::new(Signer::new("shop".parse().expect("an id"), &[7; SECRET_BYTES]));
    let place = Place::new(SEND, 0).expect("an id");
    let unsubscribe_url = format!("https://segue.example/l/{}", signer.sign(&Token::Unsubscribe(place)));
    LinkSet { unsubscribe_url, base: "https://segue.example".into(), signer, place }
}

/// Where a link of ours leads.
fn target(set: &LinkSet, url: &str) -> Option<String> {
    match set.signer.read(url.strip_prefix("https://segue.example/l/")?)? {
        Token::Click(place, url) if place == set.place => Some(url),
        _ => None,
    }
}

#[test]
fn links_to_pages_are_led_through_us_and_others_stay() {
    let set = set();
    for (url, to) in [
        ("https://a.example/b?c=1&d=2#e", "https://a.example/b?c=1&d=2#e"),
        (" HTTP://A.example ", "http://a.example/"),
        ("https://\u{d64d}\u{ae38}.example/\u{ae38} x", "https://xn--wk0b237e.example/%EA%B8%B8%20x"),
    ] {
        assert_eq!(target(&set, &set.wrap(url)).as_deref(), Some(to), "{url}");
    }
    let own = [set.unsubscribe_url.clone(), set.wrap("https://a.example"), format!("https://a.example/{}", "x".repeat(5_000))];
    let others =
        ["mailto:a@b.example", "tel:+82212345678", "#top", "/cart", "", "shop://item/1", "javascript:alert(1)", "//a.example", "https://"];
    for url in own.iter().map(String::as_str).chain(others) {
        assert_eq!(set.wrap(url), url);
    }
}

#[test]
fn an_html_part_keeps_everything_but_its_links_and_gets_an_image_at_its_end() {
    let set = set();
    let own = &set.unsubscribe_url;
    let html = format!(
        "<html><body><!-- <a href=\"https://no.example\"> --><a class='x' href=\"https://a.example/?b=1&amp;c=2\">\u{d64d}</a>\
         <A HREF='https://b.example'><a href=https://c.example/d>x<a href=\"mailto:a@b\"><a href=\"{}\">bye</a></body></html>",
        own.replace('/', "&#x2f;")
    );
    let new = set.rewrite_html(&html);
    let found: Vec<String> = html::scan(&new).links.into_iter().map(|link| html::decoded(&new[link.value]).expect("known")).collect();
    let to: Vec<Option<String>> = found.iter().map(|url| target(&set, url)).collect();
    let wanted = [Some("https://a.example/?b=1&c=2"), Some("https://b.example/"), Some("https://c.example/d"), None, None];
    assert_eq!(to.iter().map(Option::as_deref).collect::<Vec<_>>(), wanted);
    assert_eq!((found[3].as_str(), &found[4]), ("mailto:a@b", own));
    assert!(new.contains("<!-- <a href=\"https://no.example\"> -->") && new.contains("<a class='x' href=\""), "{new}");
    assert!(new.ends_with("border:0\"></body></html>"), "{new}");
    let image = new.split("<img src=\"https://segue.example/l/").nth(1).and_then(|rest| rest.split('"').next()).expect("an image");
    assert_eq!(set.signer.read(image), Some(Token::Open(set.place)));
    assert!(set.rewrite_html("hello").starts_with("hello<img src="));
}

/// A piece of HTML, and the address of the link that it is, with how it is quoted.
fn piece() -> impl Strategy<Value = (String, Option<(String, &'static str)>)> {
    let url = "https?://[a-z]{1,8}\\.example/[a-z0-9/?=&;#%_-]{0,20}";
    let text = prop_oneof![
        "[^<&]{0,20}",
        Just("<!-- <a href=\"https://x.example\"> -->".to_owned()),
        Just("<style>a { b: url(https://x.example) } <a href=https://x.example></style>".to_owned()),
        Just("<p title=\"<a href='https://x.example'>\">".to_owned()),
        Just("<a href='mailto:a@b.example'>".to_owned()),
        Just("&lt;a href=https://x.example&gt; < <3 ".to_owned()),
        Just("<img src=\"https://x.example/i.png\" alt=>".to_owned()),
    ];
    prop_oneof![
        text.prop_map(|text| (text, None)),
        (url, prop_oneof![Just("\""), Just("'"), Just("")]).prop_map(|(url, quote)| (String::new(), Some((url, quote)))),
    ]
}

proptest! {
    #[test]
    fn what_is_no_link_stays_byte_for_byte(pieces in proptest::collection::vec(piece(), 0..12)) {
        let set = set();
        let (mut html, mut wanted) = (String::new(), String::new());
        for (text, link) in pieces {
            html.push_str(&text);
            wanted.push_str(&text);
            if let Some((url, quote)) = link {
                html.push_str(&format!("<a x=1 href={quote}{url}{quote} y>"));
                // What is not known to be an address stays.
                let new = html::decoded(&url).map(|read| set.wrap(&read)).filter(|new| new.starts_with("https://segue.example/"));
                match new {
                    Some(new) if quote.is_empty() => wanted.push_str(&format!("<a x=1 href=\"{new}\" y>")),
                    Some(new) => wanted.push_str(&format!("<a x=1 href={quote}{new}{quote} y>")),
                    None => wanted.push_str(&format!("<a x=1 href={quote}{url}{quote} y>")),
                }
            }
        }
        let new = set.rewrite_html(&html);
        prop_assert!(new.starts_with(&wanted), "\n{}\n{}", new, wanted);
        prop_assert!(new[wanted.len()..].starts_with("<img src=\"https://segue.example/l/"));
    }

    #[test]
    fn any_text_is_rewritten_without_harm(
        html in any::<String>(),
        odd in "(<a |href=|\"|'|>|</body>|<!--|-->|https://a.example|&amp;|\u{d64d}| ){0,40}",
    ) {
        let set = set();
        for html in [html, odd] {
            let new = set.rewrite_html(&html);
            prop_assert!(new.len() > html.len());
            let _ = set.wrap(&html);
        }
    }
}
