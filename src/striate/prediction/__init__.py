"""From pictures to probabilities and labels."""
