"""The frontend's view of many hosts: sessions, placement, two-phase work on all members of a disk."""
