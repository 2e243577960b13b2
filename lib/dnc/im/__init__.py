"""Information driver probes: one module a probe, named by its directory (remotes/im/dnc-probes.d/<host|vm>/<kind>)."""
