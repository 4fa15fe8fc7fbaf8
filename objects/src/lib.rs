//! Projections of the Kubernetes objects that Weft reads
