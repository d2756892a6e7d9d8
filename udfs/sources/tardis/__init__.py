"""Source `tardis`: reads CSV tables of Tardis.dev."""
