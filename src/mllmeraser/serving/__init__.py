"""The service: an OpenAI-compatible server that forgets, its ledger, its checks and its page."""
