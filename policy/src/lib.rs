//! Compiles NetworkPolicies, Pods and Namespaces to policy tables
