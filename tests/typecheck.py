"""What enforces the shapes in signatures while the tests run; as for mypy, an int is a float."""

from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
