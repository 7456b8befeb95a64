"""The rules of the Hugging Face Trainer: its log rows, keys, durations, resumes and callbacks."""
