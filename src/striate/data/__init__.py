"""Stage 1: files become uint8 tensors, and these become batches."""
