"""Argument lists and output parsers of zfs, lvm, drbd and xl: pure functions and frozen records, no I/O."""
