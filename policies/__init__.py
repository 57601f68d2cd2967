"""Policy bundles as package data: `policies/default` is a worked example to copy."""
