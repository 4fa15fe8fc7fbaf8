//! The page: text in, HTML out, everything escaped.
use crate::{Place, backend::Entries};

/// The guestbook's page.
pub(crate) fn show(frontend: &Place, client: &str, backend: &Entries) -> String {
    let entries: String = backend.entries.iter().map(|entry| format!("<li>{}</li>\n", escape(entry))).collect();
    let body = format!(
        "<form method=\"post\" action=\"/\"><input name=\"message\" maxlength=\"280\" placeholder=\"Leave a word\" autofocus> \
         <button>Sign</button></form>\n<ul>\n{entries}</ul>\n<table>\n{}{}{}</table>\n<p>Entries live in the memory of the \
         backend pod that answered; reload to meet another one.</p>",
        row("You", client, "as the frontend saw you"),
        row("Frontend", &frontend.pod, &format!("on {}", frontend.node)),
        row("Backend", &backend.place.pod, &format!("on {}, which saw {}", backend.place.node, backend.client)),
    );
    document(&body)
}

/// The page when the backend does not answer.
pub(crate) fn failure(frontend: &Place, url: &str, problem: &str) -> String {
    document(&format!(
        "<p>The backend at <code>{}</code> did not answer {} on {}: {}.</p>",
        escape(url),
        escape(&frontend.pod),
        escape(&frontend.node),
        escape(problem)
    ))
}

/// The value of a field in an `application/x-www-form-urlencoded` body; empty if it is not there.
pub(crate) fn form_value(body: &[u8], name: &str) -> String {
    let text = String::from_utf8_lossy(body);
    let pair = text.split('&').find_map(|pair| pair.split_once('=').filter(|(key, _)| *key == name));
    pair.map(|(_, value)| decode(value)).unwrap_or_default()
}

fn decode(value: &str) -> String {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let [first, tail @ ..] = rest {
        let hex = tail.get(..2).and_then(|pair| std::str::from_utf8(pair).ok());
        match (first, hex.and_then(|pair| u8::from_str_radix(pair, 16).ok())) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            (b'+', _) => {
                bytes.push(b' ');
                rest = tail;
            }
            (byte, _) => {
                bytes.push(*byte);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn row(what: &str, who: &str, remark: &str) -> String {
    format!("<tr><th>{}</th><td>{}</td><td>{}</td></tr>\n", escape(what), escape(who), escape(remark))
}

fn document(body: &str) -> String {
    format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Guestbook</title>\n<style>body{{font:16px/1.5 \
         system-ui;max-width:42rem;margin:3rem auto;padding:0 1rem}}th{{text-align:left;padding-right:1rem}}td{{padding-right:\
         1rem}}</style>\n<h1>Guestbook</h1>\n{body}\n</html>\n"
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(body: &str, expected: &str) {
        assert_eq!(form_value(body.as_bytes(), "message"), expected);
    }

    #[test]
    fn forms() {
        check("message=hello+there", "hello there");
        check("a=b&message=1%2B1%3D2", "1+1=2");
        check("message=%C3%A4", "ä");
        check("message=100%", "100%");
        check("message=%zz", "%zz");
        check("other=x", "");
    }

    #[test]
    fn nothing_that_a_visitor_writes_is_markup() {
        let place = Place { pod: "p".into(), node: "n".into() };
        let entries = Entries { place: place.clone(), client: "c".into(), entries: vec!["<script>".into()] };
        assert!(!show(&place, "c", &entries).contains("<script>"));
    }
}
