"""What every stage shares: errors, findings, registries, the Spec, the machine, files."""
