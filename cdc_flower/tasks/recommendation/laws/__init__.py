"""Laws of embedded events with hidden contexts: what is drawn, and what can be known of it."""
