"""The HTTP service: OpenAI-compatible answers, the ledger's powers as routes, and the page."""
