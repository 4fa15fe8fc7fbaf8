//! The node side: pods to containers
