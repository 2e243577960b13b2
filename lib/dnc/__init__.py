"""dnc: OpenNebula drivers for Xen hosts with local, replicated disks."""
