//! The Kubernetes API's semantics, pure: schema, patches, selectors, printing, protobuf, defaults, validation
