"""argv builders and output parsers for zfs, lvm, drbd and xl: pure functions and records, no I/O."""
