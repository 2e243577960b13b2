"""What dnc costs, measured: imports, processes and sessions of each action, and times on two real hosts."""
