//! One container: a single-threaded helper around libcontainer
