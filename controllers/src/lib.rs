//! Controllers and scheduler as pure functions from a snapshot to actions
