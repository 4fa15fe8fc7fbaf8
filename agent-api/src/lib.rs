//! The agent's gRPC on its unix socket
