"""The neutral middle: pure functions on plain data. No file is opened and no tracker known here."""
