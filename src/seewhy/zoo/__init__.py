"""The networks that come with the package, trained on scenes by commands that come with it too."""
