"""Looking inside: what filters, units and layers see, and what answers rest on."""
