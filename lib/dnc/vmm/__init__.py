"""Virtualisation actions, one module each; they run on the host (contract 2)."""
