"""One method, one file. A method is a frozen settings object that can be called."""
