"""Running a model: tokenizer, generation, chat."""
