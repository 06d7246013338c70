"""Fine-tuning: a judge learns to write the teacher's judgement."""
