"""Pictures of tensors, curves and networks."""
