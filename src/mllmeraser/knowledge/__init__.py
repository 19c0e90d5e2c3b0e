"""Knowledge from before: countries and their flags, and questions that a pretrained language model can answer."""
