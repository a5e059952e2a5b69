"""What lets a connector go, and when: limits, rates, breakers."""
