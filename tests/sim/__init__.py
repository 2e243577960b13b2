"""The simulated farm: hosts made of namespaces, with fake zfs, lvm, drbd and xl that keep real semantics.

Nothing is imported here: the fakes start often, and load only what they need.
"""
