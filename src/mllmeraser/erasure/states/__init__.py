"""Read states of prompts from the model, keep them, and sum them."""
