"""Information driver actions: one module a probe."""
