"""Shapes written in the signatures are enforced while the tests run."""

from jaxtyping import install_import_hook

hook = install_import_hook("seewhy", "beartype.beartype")
