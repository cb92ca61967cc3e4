"""The search for masks: what is played for, how steps go, and what the masks' regions are worth."""
