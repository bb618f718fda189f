"""Decides addresses: pools, the blocks this host holds of them, and who got which address."""
