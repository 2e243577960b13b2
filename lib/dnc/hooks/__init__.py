"""What acts beside OpenNebula's own calls: told by a cluster manager, by hand, by a timer, or by watching."""
