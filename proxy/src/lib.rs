//! Compiles Services, EndpointSlices and Nodes to service tables
