"""Replays recorded books and trades step by step, by the exchange's or the recorder's clock."""
