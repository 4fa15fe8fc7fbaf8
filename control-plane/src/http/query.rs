//! The query of a request: decoded pairs, and how Kubernetes reads booleans and numbers in them.
use api::status::Status;

/// Decoded pairs, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// Of the part after `?`.
    pub(super) fn parse(text: &str) -> Self {
        let pairs = text.split('&').filter(|pair| !pair.is_empty());
        Self(
            pairs
                .map(|pair| {
                    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                    (decode(name, true), decode(value, true))
                })
                .collect(),
        )
    }

    /// The first value of `name`, or empty.
    pub(super) fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    /// All values of `name`.
    pub(super) fn all(&self, name: &str) -> Vec<&str> {
        self.0.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str()).collect()
    }

    /// Whether `name` is there at all.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(known, _)| known == name)
    }

    /// A boolean: everything but `0` and `false` is true, as upstream has it.
    pub(super) fn flag(&self, name: &str) -> bool {
        self.has(name) && !matches!(self.get(name), "0" | "false" | "False" | "FALSE" | "f")
    }

    /// A number, if it is there.
    ///
    /// # Errors
    /// 400 when it is no number.
    pub(super) fn number(&self, name: &str) -> Result<Option<i64>, Status> {
        match self.get(name) {
            "" => Ok(None),
            text => text.parse().map(Some).map_err(|_bad| {
                Status::bad_request(format!("strconv.ParseInt: parsing {}: invalid syntax", api::status::quote(text)))
            }),
        }
    }
}

/// Percent-decoding; in a query `+` is a space.
pub(super) fn decode(text: &str, plus: bool) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = bytes.get(at + 1..at + 3).and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        match (bytes[at], hex) {
            (b'%', Some(byte)) => {
                out.push(byte);
                at += 3;
            }
            (b'+', _) if plus => {
                out.push(b' ');
                at += 1;
            }
            (byte, _) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::{Query, decode};

    #[track_caller]
    fn check(text: &str, name: &str, expected: &str) {
        assert_eq!(Query::parse(text).get(name), expected);
    }

    #[test]
    fn pairs_are_decoded() {
        check("labelSelector=a%3Db%2Cc+in+%28d%29", "labelSelector", "a=b,c in (d)");
        check("watch", "watch", "");
        check("a=1&a=2", "a", "1");
        assert!(Query::parse("watch=1").flag("watch") && Query::parse("watch").flag("watch"));
        assert!(!Query::parse("watch=false").flag("watch") && !Query::parse("").flag("watch"));
        assert_eq!(decode("a%2", false), "a%2");
        assert_eq!(decode("a+b", false), "a+b");
    }
}
