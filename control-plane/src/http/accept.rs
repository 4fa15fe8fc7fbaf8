//! Content negotiation: what form of a reply the client wants, what form its body has.
use api::decode::Format;
use api::print::IncludeObject;
use api::status::Status;
use http::HeaderMap;
use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE};

use super::query::Query;
use crate::registry::view::View;

const SUPPORTED: [&str; 3] = ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];

/// A media type with its parameters.
struct Clause<'a> {
    media: &'a str,
    parameters: Vec<(&'a str, &'a str)>,
}

impl<'a> Clause<'a> {
    fn parse(text: &'a str) -> Self {
        let mut parts = text.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default();
        let parameters = parts.filter_map(|part| part.split_once('=')).map(|(name, value)| (name.trim(), value.trim()));
        Self { media, parameters: parameters.collect() }
    }

    fn parameter(&self, name: &str) -> &'a str {
        self.parameters.iter().find(|(known, _)| *known == name).map_or("", |(_, value)| value)
    }
}

fn clauses(headers: &HeaderMap) -> Vec<Clause<'_>> {
    let values = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    values
        .flat_map(|value| value.split(','))
        .map(|text| Clause::parse(text.trim()))
        .filter(|c| !c.media.is_empty())
        .collect()
}

/// The form for objects; the first that we can give, in the client's order.
///
/// # Errors
/// 406 when there is none.
pub(super) fn view(headers: &HeaderMap, query: &Query) -> Result<View, Status> {
    let clauses = clauses(headers);
    if clauses.is_empty() {
        return Ok(View::Object);
    }
    let include = match query.get("includeObject") {
        "None" => IncludeObject::None,
        "Object" => IncludeObject::Object,
        _ => IncludeObject::Metadata,
    };
    for clause in &clauses {
        let version = match clause.parameter("v") {
            "v1beta1" => "v1beta1",
            _ => "v1",
        };
        let json = matches!(clause.media, "application/json" | "*/*" | "application/*");
        match clause.parameter("as") {
            "" if json => return Ok(View::Object),
            "Table" if json => return Ok(View::Table { version, include }),
            "PartialObjectMetadata" | "PartialObjectMetadataList" if json => return Ok(View::Metadata { version }),
            _ => {}
        }
    }
    // Protobuf is read but not written: clients that accept nothing else are few, and all of them read JSON too.
    if clauses.iter().any(|clause| clause.media == SUPPORTED[2] && clause.parameter("as").is_empty()) {
        return Ok(View::Object);
    }
    Err(Status::not_acceptable(&SUPPORTED))
}

/// The aggregated discovery version that the client wants before the legacy form: `v2` or `v2beta1`.
pub(super) fn aggregated(headers: &HeaderMap) -> Option<&'static str> {
    for clause in clauses(headers) {
        let wanted =
            clause.parameter("as") == "APIGroupDiscoveryList" && clause.parameter("g") == "apidiscovery.k8s.io";
        match (clause.media, clause.parameter("v")) {
            ("application/json", "v2") if wanted => return Some("v2"),
            ("application/json", "") if clause.parameter("as").is_empty() => return None,
            _ => {}
        }
    }
    None
}

/// Whether the client names exactly this media type.
pub(super) fn wants(headers: &HeaderMap, media: &str) -> bool {
    clauses(headers).iter().any(|clause| clause.media == media)
}

/// Whether a long reply may be compressed.
pub(super) fn gzip(headers: &HeaderMap) -> bool {
    let values = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|encoding| Clause::parse(encoding.trim()).media == "gzip")
}

/// The media type of a body, without parameters; JSON when it is not said.
pub(super) fn content_type(headers: &HeaderMap) -> &str {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    match Clause::parse(value).media {
        "" => "application/json",
        media => media,
    }
}

/// The format of an object in a body.
///
/// # Errors
/// 415 when we do not read it.
pub(super) fn format(headers: &HeaderMap) -> Result<Format, Status> {
    match content_type(headers) {
        "application/json" => Ok(Format::Json),
        "application/yaml" => Ok(Format::Yaml),
        "application/vnd.kubernetes.protobuf" => Ok(Format::Protobuf),
        _ => Err(Status::unsupported_media_type(&SUPPORTED)),
    }
}

#[cfg(test)]
mod tests {
    use api::print::IncludeObject;
    use http::HeaderMap;
    use http::header::ACCEPT;

    use super::{Query, View, aggregated, view};

    fn headers(accept: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, accept.parse().expect("a header"));
        headers
    }

    #[track_caller]
    fn check(accept: &str, expected: Result<View, u16>) {
        assert_eq!(view(&headers(accept), &Query::default()).map_err(|status| status.code), expected, "{accept}");
    }

    #[test]
    fn the_first_that_fits_wins() {
        let table = View::Table { version: "v1", include: IncludeObject::Metadata };
        check("application/json;as=Table;v=v1;g=meta.k8s.io,application/json", Ok(table));
        check(
            "application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1;g=meta.k8s.io",
            Ok(table),
        );
        check("application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1", Ok(View::Metadata { version: "v1" }));
        check("application/vnd.kubernetes.protobuf, */*", Ok(View::Object));
        check("application/vnd.kubernetes.protobuf", Ok(View::Object));
        check("text/html", Err(406));
    }

    #[test]
    fn aggregated_discovery_is_asked_for_first() {
        let both = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";
        assert_eq!(aggregated(&headers(both)), Some("v2"));
        assert_eq!(aggregated(&headers("application/json")), None);
        assert_eq!(aggregated(&headers("*/*")), None);
    }
}
