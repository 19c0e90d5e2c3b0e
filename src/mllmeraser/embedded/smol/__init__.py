"""`embedded:smol`: SmolLM2-135M-Instruct with eyes, put together from its public file and from what ships here."""
