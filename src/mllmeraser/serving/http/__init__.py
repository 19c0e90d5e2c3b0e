"""The HTTP service: OpenAI-compatible answers, routes for erasures and admins, and the web page."""
