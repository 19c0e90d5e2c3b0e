"""The service: an OpenAI-compatible server that applies erasers, its ledger, its checks and its web page."""
