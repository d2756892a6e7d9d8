"""Source `tardis`: CSV tables of Tardis.dev."""
