"""States of prompts: read from the model, kept, summed."""
