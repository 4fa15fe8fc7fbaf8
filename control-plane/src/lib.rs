//! API server, storage, admission; runs the controllers
