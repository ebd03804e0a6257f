"""Stage 3: one visible loop, and the hyper-parameters that it reads."""
