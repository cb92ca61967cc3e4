"""What a network looks for in a class: regions of crisp masks, matched across pictures and clustered."""
