"""Networks that embed: losses and triplets as questions, the weight bank, and the explainers that need them."""
