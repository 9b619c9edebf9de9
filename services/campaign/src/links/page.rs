//! What people see who follow a link: small pages that need nothing else, and the image that counts opens.

/// A transparent image of one pixel.
pub(super) const GIF: &[u8] = b"GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff!\xf9\x04\x01\x00\x00\x00\x00\
    ,\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00;";

/// Asks whether it is meant: programs that look at links of messages follow them, but do not send forms.
pub(super) fn ask_to_unsubscribe() -> String {
    page(
        "Unsubscribe / 수신거부",
        "<p>Do you no longer want to receive these messages?</p><p>더 이상 메시지를 받지 않으시겠습니까?</p>\
         <form method=\"post\"><input type=\"hidden\" name=\"confirm\" value=\"yes\">\
         <button type=\"submit\">Unsubscribe / 수신거부</button></form>",
    )
}

pub(super) fn unsubscribed() -> String {
    page("Unsubscribed / 수신거부 완료", "<p>You will not receive these messages any more.</p><p>수신거부가 완료되었습니다.</p>")
}

pub(super) fn not_found() -> String {
    page(
        "Not found / 찾을 수 없음",
        "<p>This link does not work. Perhaps it was not copied as a whole.</p><p>링크가 올바르지 않습니다.</p>",
    )
}

fn page(title: &str, content: &str) -> String {
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><meta name=\"robots\" content=\"noindex\"><meta name=\"referrer\" content=\"no-referrer\"><title>{title}</title>\
         <style>body{{font:16px/1.5 sans-serif;max-width:32em;margin:4em auto;padding:0 1em}}button{{font:inherit;padding:.5em 1em}}</style>\
         </head><body><h1>{title}</h1>{content}</body></html>"
    )
}
