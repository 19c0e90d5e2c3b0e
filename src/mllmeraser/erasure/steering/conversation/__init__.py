"""Conversations: find the turns of a prompt, and read each turn as if it stood alone."""
