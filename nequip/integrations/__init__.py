"""Names under which tools around look for what is in nequip.calculators."""
