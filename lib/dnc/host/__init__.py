"""What one host does to itself: volumes (zfs, lvm), resources (drbd), domains (xen), and the agent that serves it."""
